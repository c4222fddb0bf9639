"""Blocks of BC-ResNet: most of the work on the mean over frequency, its result broadcast back.

Kim, Chang, Lee & Sung, Interspeech 2021 (arXiv:2106.04140), section 3. Values are [B, time, freq,
channels]; convolutions keep the time, with zeros around the window, so no block declares a
`time_stride`. The ReLU at the end of a block belongs to its layer.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from sanas_jax.blocks.common import pointwise
from sanas_jax.blocks.norm import batch_norm
from sanas_jax.kernels.depthwise import DepthwiseConv


class BcHead(nn.Module):
    """5×5 convolution that halves the frequencies, then BatchNorm."""

    maps: int
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, F, C] → [B, T, ceil(F/2), maps]."""
        init = nn.initializers.he_normal()
        conv = nn.Conv(
            self.maps, (5, 5), (1, 2), padding=((2, 2), (2, 2)), use_bias=False, kernel_init=init
        )
        return batch_norm(conv(x), train, live)


class BcResidual(nn.Module):
    """A broadcasted-residual block: y = x + f2(x) + broadcast(f1(mean over frequency of f2(x))).

    f2: depthwise over frequency, subspectral normalisation. f1: depthwise over time, BatchNorm,
    swish, 1×1 convolution (the paper's dropout after it is left out). Where the number of channels
    changes, f2 starts with 1×1 convolution, BatchNorm and ReLU, and there is no x in the sum (the
    paper's transition block).

    Fields:
      maps: output channels.
      dilation: of the convolution over time.
      stride: of the convolution over frequency; only where the number of channels changes.
      sub_bands: of the normalisation.
    """

    maps: int
    dilation: int = 1
    stride: int = 1
    sub_bands: int = 5
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, F, C] → [B, T, ceil(F/stride), maps]."""
        transition = self.maps != x.shape[-1]
        if self.stride != 1 and not transition:
            raise ValueError(
                f"stride: expected 1 where the channels stay {self.maps}, got {self.stride}"
            )
        y = nn.relu(batch_norm(pointwise(self.maps)(x), train, live)) if transition else x
        y = DepthwiseConv((1, 3), (1, self.stride), padding=((0, 0), (1, 1)))(y)
        y = SubSpectralNorm(self.sub_bands)(y, train=train, live=live)
        around = (self.dilation, self.dilation)
        z = y.mean(2, keepdims=True)
        z = DepthwiseConv((3, 1), dilation=(self.dilation, 1), padding=(around, (0, 0)))(z)
        y = y + pointwise(self.maps)(nn.swish(batch_norm(z, train, live)))
        return y if transition else x + y


class BcTail(nn.Module):
    """What follows the blocks: 5×5 depthwise, valid over frequency, 1×1 convolution, BatchNorm."""

    maps: int
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, F, C] → [B, T, F − 4, maps]."""
        y = DepthwiseConv((5, 5), padding=((2, 2), (0, 0)))(x)
        return batch_norm(pointwise(self.maps)(y), train, live)


class SubSpectralNorm(nn.Module):
    """BatchNorm with statistics, scale and offset of its own for each band of frequencies.

    Chang et al., ICASSP 2021 (arXiv:2103.13620). Raises ValueError where `sub_bands` does not
    divide the frequencies.
    """

    sub_bands: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, F, C] → the same."""
        batch, time, freq, maps = x.shape
        if freq % self.sub_bands:
            raise ValueError(f"frequencies: expected a multiple of {self.sub_bands}, got {freq}")
        bands = x.reshape(batch, time, self.sub_bands, freq // self.sub_bands, maps)
        return batch_norm(bands, train, live, axis=(2, 4)).reshape(x.shape)
