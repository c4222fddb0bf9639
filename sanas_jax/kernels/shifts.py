"""Depthwise convolution on a CPU: a sum of shifted inputs times a tap each, with its gradient.

XLA fuses what it can into loops over outputs. That makes the sum fast, but not its derivatives:
what dy comes from (the gradient of a BatchNorm) would be computed anew for every tap, and a fused
sum over positions is not vectorised. The gradient here is a scan over the rows of the batch, whose
operands exist in memory before it begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Sizes = tuple[int, ...]


def sum_of_shifts(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], dilations: Sequence[int]
) -> jax.Array:
    """Valid depthwise convolution of x [B, *sizes, C] with a kernel [*taps, 1, C].

    Differentiable once, in reverse.
    """
    return _convolve(tuple(strides), tuple(dilations), x, kernel)


def _starts(kernel: jax.Array, dilations: Sizes) -> list[Sizes]:
    """Where the window of each tap begins on each axis."""
    axes = (range(0, n * d, d) for n, d in zip(kernel.shape[:-2], dilations, strict=True))
    return list(itertools.product(*axes))


def _window(start: Sizes, sizes: Sequence[int], strides: Sizes) -> tuple[slice, ...]:
    """The `sizes` positions from `start` on, every `strides`-th."""
    return tuple(
        slice(i, i + (n - 1) * s + 1, s) for i, n, s in zip(start, sizes, strides, strict=True)
    )


def _weighted_sum(
    x: jax.Array, windows: Sequence[tuple[slice, ...]], kernel: jax.Array
) -> jax.Array:
    """Σ over windows of x [*sizes, C] times a row of the kernel each."""
    taps = kernel.reshape(len(windows), *(1,) * (x.ndim - 1), x.shape[-1])
    terms = [x[window] * tap for window, tap in zip(windows, taps, strict=True)]
    return sum(terms[1:], terms[0])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(strides: Sizes, dilations: Sizes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    starts = _starts(kernel, dilations)
    sizes = [
        (n - 1 - last) // s + 1
        for n, last, s in zip(x.shape[1:-1], starts[-1], strides, strict=True)
    ]
    windows = [_window(start, sizes, strides) for start in starts]
    return jax.vmap(lambda x: _weighted_sum(x, windows, kernel))(x)


def _forward(
    strides: Sizes, dilations: Sizes, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(strides, dilations, x, kernel), (x, kernel)


def _backward(
    strides: Sizes, dilations: Sizes, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    starts, inputs, outputs = _starts(kernel, dilations), x.shape[1:-1], dy.shape[1:-1]
    reach = starts[-1]
    # Zeros between and around: dx is then a sum of shifts too, and dy a window of it.
    room = [
        (r, n - (m - 1) * s - 1, s - 1)
        for r, n, m, s in zip(reach, inputs, outputs, strides, strict=True)
    ]
    spread = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *room, (0, 0, 0)])
    middle = _window(reach, outputs, strides)
    windows = [_window(start, outputs, strides) for start in starts]
    ones = (1,) * len(inputs)
    back = [
        _window(tuple(r - i for r, i in zip(reach, start, strict=True)), inputs, ones)
        for start in starts
    ]

    def row(
        dkernel: jax.Array, streams: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        x, spread = streams
        dy = spread[middle]
        taps = [(x[window] * dy).sum(tuple(range(x.ndim - 1))) for window in windows]
        dkernel = dkernel + jnp.stack(taps).reshape(kernel.shape)
        return dkernel, _weighted_sum(spread, back, kernel)

    dkernel, dx = lax.scan(row, jnp.zeros_like(kernel), (x, spread))
    return dx, dkernel


_convolve.defvjp(_forward, _backward)
