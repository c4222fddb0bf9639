"""A trained network as a program for other runtimes."""
