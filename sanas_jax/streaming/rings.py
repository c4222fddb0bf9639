"""Rings: the rows of a stream that a window still sees, on one array, the tape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from sanas_jax.graph.trunk import row_strides
from sanas_jax.rollout import Sanas


@dataclass(frozen=True)
class Ring:
    """Rows of a stream, on a part of the tape: the last C = steps · fresh, twice.

    Step t appends `fresh` rows and looks at the last `size`, contiguous in one half or across both.

    Fields:
      start: where it begins on the tape.
      size: rows of a window.
      hop: rows from one window to the next.
      row: shape of one.
    """

    start: int
    size: int
    hop: int
    row: tuple[int, ...]

    @property
    def fresh(self) -> int:
        """Rows that a step writes."""
        return min(self.hop, self.size)

    @property
    def steps(self) -> int:
        """K, steps whose rows a window holds; an edge that missed more begins anew."""
        return -(-self.size // self.fresh)

    @property
    def capacity(self) -> int:
        """C."""
        return self.steps * self.fresh

    @property
    def length(self) -> int:
        """Numbers on the tape."""
        return 2 * self.capacity * math.prod(self.row)

    def write(self, tape: jax.Array, rows: jax.Array, t: jax.Array) -> jax.Array:
        """The tape with the rows [1, fresh, ...] of step t, in place."""
        numbers, width = rows.reshape(-1), math.prod(self.row)
        at = self.start + (t - 1) % self.steps * (self.fresh * width)
        tape = lax.dynamic_update_slice(tape, numbers, (at,))
        return lax.dynamic_update_slice(tape, numbers, (at + self.capacity * width,))

    def read(self, tape: jax.Array, t: jax.Array, first: int, count: int) -> jax.Array:
        """Rows `first`.. of the window of step t, [1, count, ...]."""
        width, at = math.prod(self.row), jnp.int32(first)
        if self.steps > 1:
            spare = self.capacity - self.size
            at = (t % self.steps * self.hop + spare + first) % self.capacity
        numbers = lax.dynamic_slice(tape, (self.start + at * width,), (count * width,))
        return numbers.reshape(1, count, *self.row)

    def window(self, tape: jax.Array, t: jax.Array) -> jax.Array:
        """All rows of the window of step t, [1, size, ...]."""
        return self.read(tape, t, 0, self.size)


def rings(model: Sanas) -> dict[str, Ring]:
    """Ring of the input (by its layer) and of each trunk edge over the rows of the stream."""
    net = model.net
    out = {net.input: Ring(0, model.window, model.hop, tuple(net.input_shape[1:]))}
    for name, stride in row_strides(net, model.hop).items():
        start = sum(ring.length for ring in out.values())
        size, *row = net.shapes[net.edges[net.index[name]].target]
        out[name] = Ring(start, size, model.hop // stride, tuple(row))
    return out
