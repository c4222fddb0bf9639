"""Re-parameterised blocks: many branches while they learn, one convolution each when they are used.

Kundu, Nayak, Padmanabhan & Naik, RepCNN, Interspeech 2024 (arXiv:2406.02652), after Ding et al.
2021 (RepVGG, arXiv:2101.03697) and Vasu et al. 2023 (MobileOne, arXiv:2206.04040). A sum of
convolutions, each followed by a BatchNorm whose statistics no longer change, is one convolution.

Values are [B, rows, 1, C]; at the network's input [B, frames, coefficients, 1] the coefficients are
the channels. Convolutions over time are valid, so blocks commute with shifts in time.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sanas_jax.blocks.common import pointwise
from sanas_jax.blocks.norm import EPSILON, batch_norm
from sanas_jax.blocks.separable import crop
from sanas_jax.kernels.depthwise import DepthwiseConv


class RepSeparable(nn.Module):
    """Branches that add up to a depthwise convolution, ReLU, branches that add up to a 1×1 one.

    Over time: a depthwise convolution of each of `kernels`, their middles at the middle of the
    largest, and the identity (what one tap would be). Over channels: a 1×1 convolution, and the
    identity where the number of channels stays. BatchNorm after each.

    In training it computes every branch. Otherwise it folds its weights (`fold`) and computes what
    `deployed` does: so its MACs, as `costs` counts them, are those of the form in use.
    """

    maps: int
    kernels: tuple[int, ...]
    stride: int = 1
    stats_over_stream = True

    @property
    def time_stride(self) -> int:
        """Input rows per output row."""
        return self.stride

    @property
    def deployed(self) -> RepDeployed:
        """The block of one branch, whose parameters `fold` gives."""
        # A block of its own, also where this is asked for within a module.
        return RepDeployed(self.maps, max(self.kernels), self.stride, parent=None)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, rows, 1, C] or [B, frames, C, 1] → [B, (rows − largest) // stride + 1, 1, maps]."""
        x = x.reshape(*x.shape[:2], 1, -1)
        if not train and not self.is_initializing():
            folded = fold(self, self.variables["params"], self.variables["batch_stats"])
            y: jax.Array = self.deployed.apply({"params": folded}, x)  # type: ignore[assignment]
            return y
        size = max(self.kernels)
        branches = []
        for kernel in self.kernels:
            first = (size - kernel) // 2
            seen = x[:, first : first + x.shape[1] - (size - kernel)]
            conv = DepthwiseConv((kernel, 1), (self.stride, 1))
            branches.append(batch_norm(conv(seen), train, live))
        branches.append(batch_norm(crop(x, size, self.stride), train, live))
        y = nn.relu(sum(branches))
        z = batch_norm(pointwise(self.maps)(y), train, live)
        return z + batch_norm(y, train, live) if y.shape[-1] == self.maps else z


class RepDeployed(nn.Module):
    """What a `RepSeparable` is when it is used: depthwise convolution, ReLU, 1×1 convolution."""

    maps: int
    kernel: int
    stride: int = 1

    @property
    def time_stride(self) -> int:
        """Input rows per output row."""
        return self.stride

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, rows, 1, C] or [B, frames, C, 1] → [B, (rows − kernel) // stride + 1, 1, maps]."""
        x = x.reshape(*x.shape[:2], 1, -1)
        y = DepthwiseConv((self.kernel, 1), (self.stride, 1), use_bias=True)(x)
        return nn.Dense(self.maps)(nn.relu(y))


def fold(block: RepSeparable, params: Any, stats: Any) -> dict[str, Any]:
    """Parameters of `block.deployed`, which then computes what `block` does out of training.

    Args:
      block: in its form for training.
      params, stats: its parameters and running statistics.
    """
    size, last = max(block.kernels), len(block.kernels)
    branches = [params[f"DepthwiseConv_{i}"]["kernel"] for i in range(last)]
    channels = branches[0].shape[-1]
    branches.append(jnp.ones((1, 1, 1, channels)))  # the identity is one tap
    kernel, bias = jnp.zeros((size, 1, 1, channels)), jnp.zeros(channels)
    for i, taps in enumerate(branches):
        scale, shift = _affine(params, stats, i)
        first = (size - len(taps)) // 2
        around = ((first, size - len(taps) - first), (0, 0), (0, 0), (0, 0))
        kernel, bias = kernel + jnp.pad(taps * scale[None, None, None], around), bias + shift
    mix = params["Dense_0"]["kernel"]
    scale, offset = _affine(params, stats, last + 1)
    mix = mix * scale[None]
    if mix.shape[0] == block.maps:
        scale, shift = _affine(params, stats, last + 2)
        mix, offset = mix + jnp.diag(scale), offset + shift
    return {
        "DepthwiseConv_0": {"kernel": kernel, "bias": bias},
        "Dense_0": {"kernel": mix, "bias": offset},
    }


def _affine(params: Any, stats: Any, number: int) -> tuple[jax.Array, jax.Array]:
    """A block's BatchNorm of that number as x · scale + shift."""
    name = f"BatchNorm_{number}"
    scale = params[name]["scale"] * jax.lax.rsqrt(stats[name]["var"] + EPSILON)
    return scale, params[name]["bias"] - stats[name]["mean"] * scale
