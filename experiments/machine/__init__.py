"""Devices, processes, threads, compiled programs."""
