"""A trained network as one C99 file, and that file, compiled, as a runtime."""
