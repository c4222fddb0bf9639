"""Blocks put on edges. Any flax module works; these are the ones that the KWS networks need.

A block maps [B, ...] to [B, ...]. One whose first non-batch axis is time may declare
`time_stride`: it then commutes with shifts in time (shifting its input by `time_stride` rows shifts
its output by one row, as a valid convolution does), and the shared trunk runs it once over a whole
stream. A block without the attribute is run window by window.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class Identity(nn.Module):
    """Passes its input on: a gate with no computation behind it."""

    time_stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ...] → the same."""
        return x


class Conv2D(nn.Module):
    """Valid convolution over (time, frequency), then non-overlapping max-pooling.

    Fields: kernel, stride and pool as (time, frequency); `maps` output channels.
    """

    maps: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pool: tuple[int, int] = (1, 1)

    @property
    def time_stride(self) -> int:
        """Input rows per output row."""
        return self.stride[0] * self.pool[0]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, time, freq, maps_in] → [B, time', freq', maps]."""
        y = nn.Conv(
            self.maps,
            self.kernel,
            self.stride,
            padding="VALID",
            kernel_init=nn.initializers.he_normal(),
        )(x)
        return max_pool(y, self.pool)


class Dense(nn.Module):
    """Affine map of the whole (flattened) input.

    `init_scale` is the variance of an output for inputs of unit second moment; with n branches that
    meet in a sum, 2/n keeps the sum at He's scale.
    """

    features: int
    init_scale: float = 2.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ...] → [B, features]."""
        init = nn.initializers.variance_scaling(self.init_scale, "fan_in", "truncated_normal")
        return nn.Dense(self.features, kernel_init=init)(x.reshape(x.shape[0], -1))


def max_pool(x: jax.Array, pool: tuple[int, int]) -> jax.Array:
    """Non-overlapping max over (time, freq) windows of [B, time, freq, maps]; drops the remainder.

    A reshape and a max: on CPU its gradient is far cheaper than that of `reduce_window`, which
    lowers to select-and-scatter.
    """
    if pool == (1, 1):
        return x
    batch, time, freq, maps = x.shape
    t, f = time // pool[0], freq // pool[1]
    x = x[:, : t * pool[0], : f * pool[1]].reshape(batch, t, pool[0], f, pool[1], maps)
    return jnp.max(x, axis=(2, 4))
