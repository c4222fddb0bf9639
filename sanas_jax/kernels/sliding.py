"""A dense layer over the overlapping windows of a stream.

Laid out, windows of 82 rows every 20 are four times the stream (162 MB for one layer of `kws_paper`
and 64 streams of 3 s), written, read, and in the gradient written and read once more. On a CPU the
layer is a sum over the rows of a window instead: row r of all windows times the weights of row r,
operands that stay in a cache. Elsewhere it is one product with the windows laid out.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROW_MACS = 2**23  # of one row of the windows; fewer do not repay a turn of the loop


class Cut(NamedTuple):
    """How a stream is cut: `steps` windows of `size` rows, one every `hop` rows."""

    size: int
    hop: int
    steps: int


def windows(stream: jax.Array, cut: Cut) -> jax.Array:
    """Overlapping windows [B, T, size, ...] of [B, rows, ...].

    Built from chunks of `hop` rows: a few slices however long the stream, and as many in the
    gradient (a gather would be a serial scatter-add on CPU).
    """
    chunks = _chunks(stream, cut)
    parts = [chunks[:, m : m + cut.steps] for m in range(-(-cut.size // cut.hop))]
    return jnp.concatenate(parts, axis=2)[:, :, : cut.size]


def seen(mask: jax.Array, cut: Cut, rows: int) -> jax.Array:
    """Which of `rows` rows lie in one of the windows that `mask` [B, T] holds: [B, rows] bool."""
    after = np.arange(rows) - cut.hop * np.arange(cut.steps)[:, None]
    holds = jnp.asarray((after >= 0) & (after < cut.size), jnp.float32)
    return jnp.asarray(mask, jnp.float32) @ holds > 0


def matmul(stream: jax.Array, kernel: jax.Array, cut: Cut) -> jax.Array:
    """Each flattened window of [B, rows, ...] times a kernel [size·..., D]: [B·T, D]."""
    stream = stream.reshape(*stream.shape[:2], -1)

    def laid_out(stream: jax.Array, kernel: jax.Array) -> jax.Array:
        return windows(stream, cut).reshape(-1, kernel.shape[0]) @ kernel

    if stream.shape[0] * cut.steps * kernel.size // cut.size < ROW_MACS:
        return laid_out(stream, kernel)
    by_rows = partial(_by_rows, cut)
    return lax.platform_dependent(stream, kernel, cpu=by_rows, default=laid_out)


def _chunks(stream: jax.Array, cut: Cut) -> jax.Array:
    """[B, rows, ...] → [B, chunks, hop, ...]."""
    rows = (cut.steps - 1 + -(-cut.size // cut.hop)) * cut.hop
    missing = rows - stream.shape[1]
    if missing > 0:  # only rows beyond the last window's end, which nothing reads
        stream = jnp.pad(stream, [(0, 0), (0, missing)] + [(0, 0)] * (stream.ndim - 2))
    return stream[:, :rows].reshape(stream.shape[0], -1, cut.hop, *stream.shape[2:])


def _row(chunks: jax.Array, cut: Cut, r: jax.Array) -> jax.Array:
    """Row r of every window, [B·T, F]."""
    batch, _, hop, width = chunks.shape
    start, shape = (0, r // hop, r % hop, 0), (batch, cut.steps, 1, width)
    return lax.dynamic_slice(chunks, start, shape).reshape(-1, width)


def _add_row(chunks: jax.Array, cut: Cut, r: jax.Array, row: jax.Array) -> jax.Array:
    """The adjoint of `_row`."""
    batch, _, hop, width = chunks.shape
    start, shape = (0, r // hop, r % hop, 0), (batch, cut.steps, 1, width)
    row = lax.dynamic_slice(chunks, start, shape) + row.reshape(shape)
    return lax.dynamic_update_slice(chunks, row, start)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_rows(cut: Cut, stream: jax.Array, kernel: jax.Array) -> jax.Array:
    chunks = _chunks(stream, cut)

    def add(y: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        r, weights = now
        return y + _row(chunks, cut, r) @ weights, None

    y = jnp.zeros((stream.shape[0] * cut.steps, kernel.shape[1]), kernel.dtype)
    weights = kernel.reshape(cut.size, -1, kernel.shape[1])
    return lax.scan(add, y, (jnp.arange(cut.size), weights))[0]


def _forward(
    cut: Cut, stream: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _by_rows(cut, stream, kernel), (stream, kernel)


def _backward(
    cut: Cut, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    stream, kernel = saved
    chunks, weights = _chunks(stream, cut), kernel.reshape(cut.size, -1, kernel.shape[1])
    turned = lax.optimization_barrier(dy.T)

    def add(dchunks: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        r, weights = now
        # XLA's product with a transposed first operand is a third slower than one that is
        # transposed afterwards; the barriers keep it from seeing that they are the same.
        dweights = lax.optimization_barrier(turned @ _row(chunks, cut, r)).T
        return _add_row(dchunks, cut, r, dy @ weights.T), dweights

    rows = jnp.arange(cut.size)
    dchunks, dweights = lax.scan(add, jnp.zeros_like(chunks), (rows, weights))
    dstream = dchunks.reshape(stream.shape[0], -1, stream.shape[2])[:, : stream.shape[1]]
    unread = stream.shape[1] - dstream.shape[1]
    if unread > 0:
        dstream = jnp.pad(dstream, [(0, 0), (0, unread), (0, 0)])
    return dstream, dweights.reshape(kernel.shape)


_by_rows.defvjp(_forward, _backward)
