"""Blocks of TC-ResNet: convolutions over time alone, the coefficients of a frame as channels.

Choi et al., Interspeech 2019 (arXiv:1904.03814), section 3. Values are [B, time, 1, channels];
convolutions keep the time (or its ceiling, strided), with zeros around the window, so no block
declares a `time_stride`. The ReLU at the end of a block belongs to its layer.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from sanas_jax.blocks.norm import batch_norm


class TcHead(nn.Module):
    """Coefficients become channels; convolution over 3 frames, BatchNorm."""

    maps: int
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, coefficients, 1] → [B, T, 1, maps]."""
        return _conv_bn(self.maps, 3, 1, x.swapaxes(2, 3), train, live)


class TcResidual(nn.Module):
    """A temporal residual block: two convolutions over 9 frames, and the way around them.

    BatchNorm after each, ReLU between them. Where the number of channels changes, the first has
    stride 2 and the way around is a 1×1 convolution of stride 2, BatchNorm and ReLU; else it is the
    identity.
    """

    maps: int
    kernel: int = 9
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, 1, C] → [B, T, 1, C], or [B, ceil(T/2), 1, maps] where maps is not C."""
        around, stride = x, 1
        if self.maps != x.shape[-1]:
            stride = 2
            around = nn.relu(_conv_bn(self.maps, 1, stride, x, train, live))
        y = nn.relu(_conv_bn(self.maps, self.kernel, stride, x, train, live))
        return _conv_bn(self.maps, self.kernel, 1, y, train, live) + around


def _conv_bn(
    maps: int, kernel: int, stride: int, x: jax.Array, train: bool, live: jax.Array | None
) -> jax.Array:
    """Convolution over time without bias, then BatchNorm: submodules of the module that calls."""
    init = nn.initializers.he_normal()
    conv = nn.Conv(maps, (kernel, 1), (stride, 1), use_bias=False, kernel_init=init)
    return batch_norm(conv(x), train, live)
