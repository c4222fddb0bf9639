"""Families of super-networks, one file each. A builder returns a `graph.Net`."""

from sanas_jax.spaces.dense_resnet import dense_resnet
from sanas_jax.spaces.fabric import fabric
from sanas_jax.spaces.kws import kws_cnn
from sanas_jax.spaces.resnet import resnet, resnet_fabric
from sanas_jax.spaces.separable import separable

__all__ = ["dense_resnet", "fabric", "kws_cnn", "resnet", "resnet_fabric", "separable"]
