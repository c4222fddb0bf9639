"""Blocks of SparkNet: separable convolutions over time, then gates between 0 and 1.

Svirsky, Shaham & Lindenbaum, Interspeech 2024 (arXiv:2406.06634). Values are [B, time, 1,
channels]; convolutions keep the time, with zeros around the window, so no block declares a
`time_stride`. The ReLU at the end of a `SparkBlock` belongs to its layer.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from sanas_jax.blocks.common import pointwise
from sanas_jax.blocks.norm import batch_norm
from sanas_jax.kernels.depthwise import DepthwiseConv

SIGMA = 0.5  # of the noise on the gates in training


class SparkBlock(nn.Module):
    """Depthwise convolution over `kernel` frames, 1×1 convolution to `maps` channels, BatchNorm.

    With `residual` there is a way around: a 1×1 convolution and BatchNorm.
    """

    maps: int
    kernel: int
    residual: bool = True
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, 1, C] or [B, T, coefficients, 1] → [B, T, 1, maps]."""
        x = x.reshape(*x.shape[:2], 1, -1)
        y = DepthwiseConv((self.kernel, 1), padding="SAME")(x)
        y = batch_norm(pointwise(self.maps)(y), train, live)
        return y + batch_norm(pointwise(self.maps)(x), train, live) if self.residual else y


class SparkGates(nn.Module):
    """Gates clip(µ + 0.5, 0, 1), where µ is 1×1 convolution, BatchNorm and tanh.

    The paper adds noise of N(0, 0.5²) to µ in training, one number for each gate. Blocks here are
    functions of their input: in training they give the mean over that noise, which smooths the
    corners likewise. What follows, a mean over time and an affine map, has the same mean.
    """

    maps: int
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, 1, C] → [B, T, 1, maps], between 0 and 1."""
        init = nn.initializers.he_normal()
        mu = nn.tanh(batch_norm(nn.Dense(self.maps, kernel_init=init)(x), train, live))
        return mean_gate(mu) if train else jnp.clip(mu + 0.5, 0.0, 1.0)


def mean_gate(mu: jax.Array) -> jax.Array:
    """E[clip(µ + ε + 0.5, 0, 1)] for ε of N(0, SIGMA²), elementwise."""
    low, high = (-mu - 0.5) / SIGMA, (0.5 - mu) / SIGMA
    within = norm.cdf(high) - norm.cdf(low)
    return (mu + 0.5) * within + SIGMA * (norm.pdf(low) - norm.pdf(high)) + norm.cdf(-high)
