"""Blocks of a separable temporal network: frames in, rows of channels out, time never padded.

Values are [B, rows, C]; at the network's input [B, frames, coefficients, 1] the coefficients are
the channels. Convolutions over time are valid, so every block but the exits commutes with shifts in
time; BatchNorm is over all streams and positions in the trunk, and of live rows beyond it.
Depthwise over time, then 1×1 over channels: Howard et al. 2017 (arXiv:1704.04861), on speech Zhang
et al. 2017 (DS-CNN, arXiv:1711.07128) and MatchboxNet (arXiv:2004.08531).
"""

from __future__ import annotations

import flax.linen as nn
import jax

from sanas_jax.blocks.norm import batch_norm
from sanas_jax.kernels.depthwise import DepthwiseConv


class Separable(nn.Module):
    """Depthwise convolution over `kernel` rows and 1×1 convolution to `maps` channels.

    BatchNorm after each. With `residual` the input is added, cut to the rows that the middle of the
    kernel meets, through a 1×1 convolution where the number of channels changes (He et al. 2016);
    the ReLU after the sum belongs to the layer.
    """

    maps: int
    kernel: int
    stride: int = 1
    residual: bool = True
    stats_over_stream = True

    @property
    def time_stride(self) -> int:
        """Input rows per output row."""
        return self.stride

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, rows, C] or [B, frames, C, 1] → [B, (rows − kernel) // stride + 1, maps]."""
        x = x.reshape(*x.shape[:2], -1)
        y = DepthwiseConv((self.kernel,), (self.stride,))(x)
        y = _mix(self.maps, _norm(y, train, live), train, live)
        if not self.residual:
            return y
        around = crop(x, self.kernel, self.stride)
        return y + (around if x.shape[-1] == self.maps else _mix(self.maps, around, train, live))


class Crop(nn.Module):
    """The identity beside a block of that kernel and stride: the rows in the kernel's middle."""

    kernel: int
    stride: int = 1
    keeps_zero = True

    @property
    def time_stride(self) -> int:
        """Input rows per output row."""
        return self.stride

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, rows, C] → [B, (rows − kernel) // stride + 1, C]."""
        return crop(x, self.kernel, self.stride)


class Exit(nn.Module):
    """From all rows of a window to a vector: each channel weighs its rows, then an affine map.

    Where in the window a word lies decides its label, so the weights differ by row; they begin as a
    mean. BatchNorm at the end starts with `init_scale`, so that n exits with 1/√n add up to unit
    variance.
    """

    features: int
    init_scale: float = 1.0
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, rows, C] or [B, frames, C, 1] → [B, features]."""
        x = x.reshape(*x.shape[:2], -1)
        rows = x.shape[1]
        # A valid convolution as high as the window: a weighted sum, counted as one.
        weigh = DepthwiseConv((rows,), kernel_init=nn.initializers.constant(1 / rows))
        y = nn.Dense(self.features, use_bias=False, kernel_init=_HE)(weigh(x)[:, 0])
        return _norm(y, train, live, nn.initializers.constant(self.init_scale))


_HE = nn.initializers.he_normal()


def crop(x: jax.Array, kernel: int, stride: int) -> jax.Array:
    """The rows of [B, rows, C] that the middle of a valid kernel of that stride meets."""
    rows = (x.shape[1] - kernel) // stride + 1
    first = (kernel - 1) // 2
    return x[:, first : first + (rows - 1) * stride + 1 : stride]


def _mix(maps: int, x: jax.Array, train: bool, live: jax.Array | None) -> jax.Array:
    """1×1 convolution and BatchNorm, as submodules of the module that calls."""
    return _norm(nn.Dense(maps, use_bias=False, kernel_init=_HE)(x), train, live)


def _norm(
    x: jax.Array,
    train: bool,
    live: jax.Array | None,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> jax.Array:
    """BatchNorm over all positions of the live rows, with a longer memory than most."""
    return batch_norm(x, train, live, momentum=0.95, scale_init=scale_init)
