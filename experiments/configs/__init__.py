"""Configurations: each file defines `get_config()` and says what it reproduces."""
