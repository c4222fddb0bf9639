"""The convolution of `blocks.Conv2D`: as written, or on a CPU by transforms where these are faster.

A function with the arguments of `lax.conv_general_dilated`, which `flax.linen.Conv` takes in its
place: parameters and values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import lax

from sanas_jax.kernels import spectral

# Transforms move more memory for each multiplication: they must save more than this factor of them.
FACTOR = 3
TILES = 64  # fewer read the kernel's spectrum from memory for too little work


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | str,
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvDimensionNumbers | None = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`lax.conv_general_dilated`, of arrays laid out as `flax.linen.Conv` has them.

    Args:
      x: [B, *sizes, C].
      kernel: [*taps, C // feature_group_count, D].
      strides, padding, ...: as there.
    """

    def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            precision=precision,
        )

    dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
    plain = {*strides, *dilations} == {1} and feature_group_count == 1 and padding == "VALID"
    # Transforms of 16 bit numbers would add their own rounding to that of the products.
    exact = x.dtype == kernel.dtype and x.dtype.itemsize > 2
    if not (plain and exact and transforms_pay(x.shape, kernel.shape)):
        return direct(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=spectral.conv, default=direct)


def transforms_pay(x: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether `spectral.conv` of [B, T, F, C] with [t, f, C, D] is the faster form on a CPU."""
    if len(x) != 4 or x[1] < kernel[0] or x[2] < kernel[1]:
        return False
    cut = spectral.plan(x, kernel)
    saved = spectral.direct_macs(x, kernel) / spectral.macs(cut, x, kernel)
    return saved > FACTOR and x[0] * cut.tiles >= TILES
