"""A model that listens: sources of sound, the engine, what it says."""
