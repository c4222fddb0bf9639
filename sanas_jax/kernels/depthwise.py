"""Depthwise convolution: every channel is convolved with a kernel of its own.

Same parameters and values as `nn.Conv(C, ..., feature_group_count=C)`, whose grouped convolution
XLA runs on a CPU as a naive loop. There it is a sum of shifted inputs times a tap each, which fuses
(64 windows of 101×20×8, 3 taps, 2 cores: 0.4 ms against 39, with the gradient 2 against 78);
elsewhere it is the grouped convolution, so that `costs.count_macs` counts it as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from sanas_jax.kernels.shifts import sum_of_shifts

Padding = str | tuple[tuple[int, int], ...]


class DepthwiseConv(nn.Module):
    """Depthwise convolution over one or more axes.

    Fields:
      kernel: taps along each of these axes, (time,) or (time, frequency).
      stride, dilation: likewise; None: 1.
      padding: "VALID", "SAME" (as XLA: an odd number of zeros has the greater part at the end), or
        zeros (before, after) on each axis.
      use_bias: add a number per channel.
      kernel_init: of the taps.

    It does not declare a `time_stride`: a block around it, which knows its padding, may.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    padding: Padding = "VALID"
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *sizes, C] → [B, *sizes', C]."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (*self.kernel, 1, channels), jnp.float32)
        y = depthwise_conv(x, kernel, self.stride, self.dilation, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
            y = y + bias.reshape((1,) * (y.ndim - 1) + (channels,))
        return y


def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """The operation of `DepthwiseConv`.

    Args:
      x: [B, *sizes, C].
      kernel: [*taps, 1, C].
      stride, dilation, padding: as in `DepthwiseConv`.

    Raises:
      ValueError for numbers of axes that do not agree, or a kernel larger than the padded input.
    """
    axes = x.ndim - 2
    strides, dilations = tuple(stride or (1,) * axes), tuple(dilation or (1,) * axes)
    pairs = 0 if isinstance(padding, str) else len(padding) - axes
    if not axes == kernel.ndim - 2 == len(strides) == len(dilations) or pairs:
        raise ValueError(
            f"kernel, stride, dilation, padding: expected one entry for each of {axes} axes, got "
            f"{kernel.shape[:-2]}, {strides}, {dilations}, {padding}"
        )
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    taps = kernel.shape[:-2]
    spans = [(k - 1) * d + 1 for k, d in zip(taps, dilations, strict=True)]
    pads = padding
    if isinstance(pads, str):
        pads = tuple(lax.padtype_to_pads(x.shape[1:-1], spans, strides, pads))
    padded = [n + sum(p) for n, p in zip(x.shape[1:-1], pads, strict=True)]
    if any(n < span for n, span in zip(padded, spans, strict=True)):
        raise ValueError(f"kernel: expected it to span at most {padded}, got {spans}")

    def shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
        if padded == list(taps):  # one weighted sum; the gradient of so many slices is slow
            return jnp.sum(x * kernel[None, ..., 0, :], tuple(range(1, axes + 1)), keepdims=True)
        return sum_of_shifts(x, kernel, strides, dilations)

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # Batch and channels are the outer axes of x; taps come first in the kernel.
        last = axes + 1
        inner = tuple(range(1, last))
        numbers = lax.ConvDimensionNumbers(
            (0, last, *inner), (last, axes, *range(axes)), (0, last, *inner)
        )
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            pads,
            rhs_dilation=dilations,
            dimension_numbers=numbers,
            feature_group_count=x.shape[-1],
        )

    return lax.platform_dependent(x, kernel, cpu=shifted, default=grouped)
