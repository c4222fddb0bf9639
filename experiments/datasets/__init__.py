"""Caches and labelled streams as arrays and batches."""
