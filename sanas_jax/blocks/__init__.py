"""Blocks: what an edge of a super-network computes."""

from sanas_jax.blocks.common import (
    Conv2D,
    ConvBn,
    Dense,
    GlobalMean,
    Identity,
    PixelDense,
    PooledConv,
    Residual,
    enlarge,
    max_pool,
)

__all__ = [
    "Conv2D",
    "ConvBn",
    "Dense",
    "GlobalMean",
    "Identity",
    "PixelDense",
    "PooledConv",
    "Residual",
    "enlarge",
    "max_pool",
]
