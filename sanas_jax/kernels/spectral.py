"""Convolution by Fourier transforms, for kernels with many channels on a CPU.

A valid convolution is cut into tiles along time. In the discrete Fourier transform of a tile over
time and frequency it is one product of matrices [channels in] × [channels out] per coefficient: the
10×4 kernel of cnn-trad-fpool3 takes 2.8 multiplications per output and pair of channels that way,
and 3.5 for the transforms, where it takes 40 as written. (Fast Training of Convolutional Networks
through FFTs, Mathieu, Henaff & LeCun 2014.)

The transforms are products with small constant matrices, since they are short and have the channels
as their innermost axis; so a tile may be of any length. A complex product is three real ones
(Gauss), whose sums are part of these matrices. Tiles are worked on in groups that fit in a cache,
forward and backward: the gradient transforms the input again rather than read it from memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS = 64  # tiles in a group


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut: `tiles` along time, each of `length` rows that give `valid`."""

    tiles: int
    length: int
    valid: int

    @property
    def coefficients(self) -> int:
        """Of the transform over time; the others are their conjugates."""
        return self.length // 2 + 1


def plan(x: tuple[int, ...], kernel: tuple[int, ...]) -> Plan:
    """The cut with the fewest multiplications for shapes [B, T, F, C] and [t, f, C, D]."""
    rows = x[1] - kernel[0] + 1
    shortest = max(1, rows // 128)
    plans = [_cut(rows, kernel[0], tiles) for tiles in range(shortest, rows + 1)]
    return min(plans, key=lambda plan: macs(plan, x, kernel))


def macs(plan: Plan, x: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Multiplications of the transforms and of the products between them."""
    batch, _, freq, maps_in = x
    maps, out = kernel[3], freq - kernel[1] + 1
    k = plan.coefficients
    forward = 2 * k * plan.length * freq + 3 * freq * 2 * freq * k
    inverse = 2 * out * 3 * freq * k + plan.valid * 2 * k * out
    per_tile = forward * maps_in + 3 * k * freq * maps_in * maps + inverse * maps
    return batch * plan.tiles * per_tile


def direct_macs(x: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Multiplications of the convolution as written."""
    positions = (x[1] - kernel[0] + 1) * (x[2] - kernel[1] + 1)
    return x[0] * positions * math.prod(kernel)


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Valid convolution (as networks use the word) of [B, T, F, C] with [t, f, C, D]."""
    cut = plan(x.shape, kernel.shape)
    batch, time, freq, _ = x.shape
    kernel_time, kernel_freq, _, maps = kernel.shape
    rows, bands = time - kernel_time + 1, freq - kernel_freq + 1
    matrices = _matrices(cut.length, cut.valid, freq, bands)
    at, bf, bi, ai = (jnp.asarray(m, x.dtype) for m in matrices)
    spectrum = _kernel_spectrum(at, bf, kernel)

    @jax.checkpoint  # of a group only the input is kept
    def group(x: jax.Array) -> jax.Array:
        tiles = _tiles(x, cut)
        spectra = _transform(at, bf, tiles)
        y = jnp.einsum("kbc,kcd->kbd", spectra, spectrum)
        y = _inverse(bi, ai, y)
        return y.reshape(x.shape[0], cut.tiles * cut.valid, bands, maps)[:, :rows]

    groups = math.ceil(batch * cut.tiles / ROWS)
    size = math.ceil(batch / groups)
    groups = math.ceil(batch / size)
    if groups == 1:
        return group(x)
    x = jnp.pad(x, [(0, groups * size - batch)] + [(0, 0)] * 3)
    y = lax.map(group, x.reshape(groups, size, *x.shape[1:]))
    return y.reshape(-1, rows, bands, maps)[:batch]


def _cut(rows: int, kernel: int, tiles: int) -> Plan:
    valid = math.ceil(rows / tiles)
    return Plan(math.ceil(rows / valid), valid + kernel - 1, valid)


def _tiles(x: jax.Array, cut: Plan) -> jax.Array:
    """[B, T, F, C] → [B·tiles, length, F, C], overlapping."""
    whole = (cut.tiles - 1) * cut.valid + cut.length
    x = jnp.pad(x, [(0, 0), (0, whole - x.shape[1]), (0, 0), (0, 0)])
    starts = range(0, cut.tiles * cut.valid, cut.valid)
    tiles = jnp.stack([x[:, i : i + cut.length] for i in starts], 1)
    return tiles.reshape(-1, *tiles.shape[2:])


def _transform(at: jax.Array, bf: jax.Array, tiles: jax.Array) -> jax.Array:
    """[n, length, F, C] → [coefficients, n, C]."""
    n, _, freq, maps = tiles.shape
    k = at.shape[0] // 2
    z = _left(at, tiles.reshape(n, -1, freq * maps))
    z = _left(bf, z.reshape(n * k, 2 * freq, maps))
    return z.reshape(n, -1, maps).transpose(1, 0, 2)


def _inverse(bi: jax.Array, ai: jax.Array, y: jax.Array) -> jax.Array:
    """[coefficients, n, D] → [n, valid, F', D]."""
    _, n, maps = y.shape
    k = ai.shape[1] // 2
    z = _left(bi, y.transpose(1, 0, 2).reshape(n * k, -1, maps))
    return _left(ai, z.reshape(n, 2 * k, -1)).reshape(n, ai.shape[0], -1, maps)


def _kernel_spectrum(at: jax.Array, bf: jax.Array, kernel: jax.Array) -> jax.Array:
    """[t, f, C, D] → [coefficients, C, D]: what each of Gauss's three factors is multiplied by."""
    time, freq, maps_in, maps = kernel.shape
    k = at.shape[0] // 2
    all_freq = bf.shape[1] // 2
    kernel = kernel.reshape(time, freq, -1)
    z = jnp.einsum("kpt,tfn->kpfn", at.reshape(k, 2, -1)[..., :time], kernel)
    used = bf.reshape(all_freq, 3, 2, all_freq)[:, :2, :, :freq]
    z = jnp.einsum("grpf,kpfn->rkgn", used, z)
    real, imag = z[0], -z[1]  # conjugate: the kernel is not turned around
    factors = jnp.stack([imag - real, real + imag, real], 2)
    return factors.reshape(-1, maps_in, maps)


@jax.custom_vjp
def _left(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """A constant matrix [m, k] times each of x [n, k, j].

    As a batched product of operands in this order, which XLA runs twice as fast as the same with a
    transposed operand: what it would make of the gradient.
    """
    many = jnp.broadcast_to(matrix, (x.shape[0], *matrix.shape))
    return jnp.einsum("nmk,nkj->nmj", many, x)


def _left_forward(matrix: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _left(matrix, x), matrix


def _left_backward(matrix: jax.Array, dy: jax.Array) -> tuple[None, jax.Array]:
    return None, _left(matrix.T, dy)


_left.defvjp(_left_forward, _left_backward)


@lru_cache(maxsize=64)
def _matrices(
    length: int, valid: int, freq: int, bands: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Transforms over time and frequency, and the valid part of their inverses.

    Each complex number is a pair (real, imaginary); after the transform over frequency a triple,
    with their sum: m = (re, im, re + im) times (im' − re', re' + im', re') gives the product's real
    part as m₂ − m₁ and its imaginary part as m₂ + m₀.

    Returns:
      [2K, length] over time, rows (k, re/im); [3F, 2F] over frequency, rows (g, triple) and columns
      (re/im, f); [2F', 3F], its inverse, rows (re/im, f'); [valid, 2K], with real results.
    """
    k = length // 2 + 1
    angle = 2 * np.pi * np.outer(np.arange(k), np.arange(length)) / length
    over_time = np.stack([np.cos(angle), -np.sin(angle)], 1).reshape(2 * k, length)
    weight = np.full((k, 1), 2.0)  # a coefficient and its conjugate
    weight[0] = 1
    if length % 2 == 0:
        weight[-1] = 1
    back_time = np.stack([weight * np.cos(angle), -weight * np.sin(angle)], 1) / length
    back_time = back_time.reshape(2 * k, length)[:, :valid].T

    angle = 2 * np.pi * np.outer(np.arange(freq), np.arange(freq)) / freq
    cos, sin = np.cos(angle), np.sin(angle)
    real, imag = np.stack([cos, sin], 1), np.stack([-sin, cos], 1)  # [g, re/im, f]
    over_freq = np.stack([real, imag, real + imag], 1).reshape(3 * freq, 2 * freq)
    cos, sin = cos[:bands] / freq, sin[:bands] / freq
    pairs = np.array([[[1, 0], [0, -1]], [[0, 1], [1, 0]]])  # of e^{i a}: re, im ← (cos, sin)
    of_pair = np.einsum("zpc,cfg->zfgp", pairs, np.stack([cos, sin]))
    products = np.array([[0, -1, 1], [1, 0, 1]])
    back_freq = np.einsum("zfgp,pr->zfgr", of_pair, products).reshape(2 * bands, 3 * freq)
    return over_time, over_freq, back_freq, back_time
