"""What an architecture costs."""

from sanas_jax.costs.architecture import (
    Cost,
    StreamCost,
    charge,
    cheapest_path,
    custom,
    edge_macs,
    edge_params,
    inconsistent,
    macs,
    memory,
    parallel,
    params,
    per_edge,
    relative,
    scaled,
    table,
)
from sanas_jax.graph.counting import count_macs

__all__ = [
    "Cost",
    "StreamCost",
    "charge",
    "cheapest_path",
    "count_macs",
    "custom",
    "edge_macs",
    "edge_params",
    "inconsistent",
    "macs",
    "memory",
    "parallel",
    "params",
    "per_edge",
    "relative",
    "scaled",
    "table",
]
