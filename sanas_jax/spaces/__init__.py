"""Families of super-networks, one file each. A builder returns a `graph.Net`."""

from sanas_jax.spaces.bc_resnet import bc_resnet
from sanas_jax.spaces.dense_resnet import dense_resnet
from sanas_jax.spaces.fabric import fabric
from sanas_jax.spaces.kws import kws_cnn
from sanas_jax.spaces.rep_cnn import rep_cnn
from sanas_jax.spaces.resnet import resnet, resnet_fabric
from sanas_jax.spaces.separable import separable
from sanas_jax.spaces.sparknet import sparknet
from sanas_jax.spaces.tc_resnet import tc_resnet

__all__ = [
    "bc_resnet",
    "dense_resnet",
    "fabric",
    "kws_cnn",
    "rep_cnn",
    "resnet",
    "resnet_fabric",
    "separable",
    "sparknet",
    "tc_resnet",
]
