"""The static description of a super-network: layers, edges, what is live."""

from sanas_jax.graph.check import check_block
from sanas_jax.graph.net import Activation, Edge, Layer, Net, Shape
from sanas_jax.graph.pruning import check_gates, prune, read_gates, subnet

__all__ = [
    "Activation",
    "Edge",
    "Layer",
    "Net",
    "Shape",
    "check_block",
    "check_gates",
    "prune",
    "read_gates",
    "subnet",
]
