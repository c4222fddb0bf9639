"""Families of super-networks, one file each. A builder returns a `graph.Net`."""

from sanas_jax.spaces.kws import kws_cnn

__all__ = ["kws_cnn"]
