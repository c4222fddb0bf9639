"""Measurements, each a command of its own that prints ratios from one run."""
