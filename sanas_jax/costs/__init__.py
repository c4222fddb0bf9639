"""What an architecture costs."""

from sanas_jax.costs.architecture import (
    Cost,
    count_macs,
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
    table,
)

__all__ = [
    "Cost",
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
    "table",
]
