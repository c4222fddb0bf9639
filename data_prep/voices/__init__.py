"""Synthetic speech and noise."""
