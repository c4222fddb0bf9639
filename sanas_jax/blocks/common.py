"""Blocks put on edges. Any flax module works; these are the ones that the spaces need.

A block maps [B, ...] to [B, ...]. One whose first non-batch axis is time may declare
`time_stride`: it then commutes with shifts in time (shifting its input by `time_stride` rows shifts
its output by one row, as a valid convolution does), and the shared trunk runs it once over a whole
stream. A block without the attribute is run window by window.

A block without batch statistics may declare `cuts_windows`: it then takes `cut`, and where that is
given the rows of a stream [B, rows, ...] whose windows it need not lay out; it answers [B·T, ...].

A block that maps 0 to 0 whatever it learns may declare `keeps_zero`: without a gate, below a layer
that nothing reaches, it then adds nothing that `graph.subnet` would have to keep.

A block whose arithmetic its jaxpr does not show (an FFT) may declare `macs(shape)`: those of one
input of that shape.

A block with BatchNorm has the collection `batch_stats` and takes `train` and `live` [B], the rows
to take statistics from (None: all); `forward` passes both and keeps the running statistics. One
that declares `stats_over_stream = True` is not told of gates where all that it sees comes from the
trunk: it normalises with every row and every position, live or not. What it computes then depends
on no gate, so it is part of the trunk itself. There `live` is what a stream's mask leaves: [B·T]
windows, or [B, rows] of its output where it runs over the rows of a stream (`time_stride`).
Downstream of a join it is passed `live` [B].
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sanas_jax.blocks.norm import batch_norm
from sanas_jax.kernels import sliding
from sanas_jax.kernels.convolution import conv


class Identity(nn.Module):
    """Passes its input on: a gate with no computation behind it."""

    time_stride: int = 1
    keeps_zero = True

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
            conv_general_dilated=conv,
        )(x)
        return max_pool(y, self.pool)


class Dense(nn.Module):
    """Affine map of the whole (flattened) input.

    `init_scale` is the variance of an output for inputs of unit second moment; with n branches that
    meet in a sum, 2/n keeps the sum at He's scale. `by_output`: the kernel is [features, inputs]
    (`streaming.weights`).
    """

    features: int
    init_scale: float = 2.0
    by_output: bool = False

    @property
    def cuts_windows(self) -> bool:
        """A transposed kernel is for windows that come one at a time."""
        return not self.by_output

    @nn.compact
    def __call__(self, x: jax.Array, *, cut: sliding.Cut | None = None) -> jax.Array:
        """[B, ...] → [B, features]; with `cut`, rows [B, rows, ...] → windows [B·T, features]."""
        init = nn.initializers.variance_scaling(self.init_scale, "fan_in", "truncated_normal")
        if cut:
            return _SlidingDense(self.features, init, cut, name="Dense_0")(x)
        x = x.reshape(x.shape[0], -1)
        if self.by_output:
            return nn.Einsum((self.features, x.shape[1]), "bi,oi->bo", name="Dense_0")(x)
        return nn.Dense(self.features, kernel_init=init)(x)


class _SlidingDense(nn.Module):
    """The parameters of `nn.Dense` on the windows of a stream."""

    features: int
    kernel_init: nn.initializers.Initializer
    cut: sliding.Cut

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, rows, ...] → [B·T, features]."""
        inputs = self.cut.size * math.prod(x.shape[2:])
        kernel = self.param("kernel", self.kernel_init, (inputs, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return sliding.matmul(x, kernel, self.cut) + bias[None]


class ConvBn(nn.Module):
    """Convolution that keeps the size (or its ceiling, strided), then BatchNorm.

    Fields:
      maps: output channels.
      kernel: side of the square kernel.
      stride: of both axes.
      upsample: (height, width) to which the input is enlarged first.
      method: of enlarging, "nearest" or "bilinear".
      crop: drop an odd last row and column first, so that a stride of 2 rounds down.
    """

    maps: int
    kernel: int = 3
    stride: int = 1
    upsample: tuple[int, int] | None = None
    method: str = "nearest"
    crop: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, H, W, C] → [B, H', W', maps]."""
        if self.upsample:
            x = enlarge(x, self.upsample, self.method)
        if self.crop:
            x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        return _conv_bn(self.maps, self.kernel, self.stride, x, train, live)


class Residual(nn.Module):
    """The learnt part of a residual block: two 3×3 convolutions, or a bottleneck 1×1, 3×3, 1×1.

    He et al. 2016, with BatchNorm after each convolution and ReLU between them; the sum with the
    way around, and the ReLU after it, belong to the layer. A bottleneck has `maps` inside and four
    times as many at its end.
    """

    maps: int
    stride: int = 1
    bottleneck: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, H, W, C] → [B, H', W', maps or 4·maps]."""
        convs = [(self.maps, 3, self.stride), (self.maps, 3, 1)]
        if self.bottleneck:
            convs = [(self.maps, 1, self.stride), (self.maps, 3, 1), (4 * self.maps, 1, 1)]
        for i, (maps, kernel, stride) in enumerate(convs):
            x = _conv_bn(maps, kernel, stride, nn.relu(x) if i else x, train, live)
        return x


class PooledConv(nn.Module):
    """3×3 convolution without bias that keeps the size, ReLU, then the mean over `pool` windows."""

    maps: int
    pool: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] → [B, H // pool[0], W // pool[1], maps]."""
        init = nn.initializers.he_normal()
        y = nn.relu(nn.Conv(self.maps, (3, 3), use_bias=False, kernel_init=init)(x))
        return y if self.pool == (1, 1) else nn.avg_pool(y, self.pool, self.pool)


class GlobalMean(nn.Module):
    """Mean over height and width."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] → [B, C]."""
        return x.mean((1, 2))


class PixelDense(nn.Module):
    """The same affine map at every position: the classifier of a segmentation."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] → [B, H, W, features]."""
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(self.features, kernel_init=init)(x)


def enlarge(x: jax.Array, size: tuple[int, int], method: str = "nearest") -> jax.Array:
    """[B, h, w, C] → [B, *size, C], with positions of pixels taken as their middles.

    Gathers, whose interpolation counts no MACs, as is usual; `jax.image.resize` multiplies by
    matrices.
    """
    for axis, length in enumerate(size, start=1):
        old = x.shape[axis]
        if method == "nearest":
            x = jnp.take(x, jnp.arange(length) * old // length, axis)
            continue
        place = jnp.clip((jnp.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        before = jnp.floor(place).astype(int)
        after = jnp.minimum(before + 1, old - 1)
        share = (place - before).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = jnp.take(x, before, axis) * (1 - share) + jnp.take(x, after, axis) * share
    return x


def _conv_bn(
    maps: int, kernel: int, stride: int, x: jax.Array, train: bool, live: jax.Array | None
) -> jax.Array:
    """Convolution and BatchNorm, as submodules of the module that calls."""
    around = (kernel // 2, kernel // 2)
    init = nn.initializers.he_normal()
    y = nn.Conv(maps, (kernel, kernel), stride, padding=(around, around), kernel_init=init)(x)
    return batch_norm(y, train, live)


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


def pointwise(maps: int) -> nn.Dense:
    """1×1 convolution without bias."""
    return nn.Dense(maps, use_bias=False, kernel_init=nn.initializers.he_normal())
