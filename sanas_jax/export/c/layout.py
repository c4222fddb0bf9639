"""Where things lie in a stream's memory, without computing any of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

from sanas_jax.rollout import Sanas, init_carry
from sanas_jax.streaming.rings import rings


class Layout(NamedTuple):
    """Sizes of the parts of `streaming.Memory`, and places in its vector `state`.

    Fields:
      tape: numbers.
      z: numbers of the controller's state, the first of the vector.
      conditioned: whether log λ follows.
      last: layer → where its value of the step before begins.
      state: numbers of the whole vector.
      counts: of the step, and for each edge of the steps that it has missed.
    """

    tape: int
    z: int
    conditioned: bool
    last: dict[str, int]
    state: int
    counts: int


def layout_of(model: Sanas) -> Layout:
    """That of a model's streams."""
    carry = jax.eval_shape(lambda: init_carry(model, 1, 1.0))
    conditioned = carry.condition is not None
    z = math.prod(carry.z.shape)
    at, last = z + conditioned, {}
    for name, value in sorted((carry.last or {}).items()):
        last[name], at = at, at + math.prod(value.shape)
    tape = sum(ring.length for ring in rings(model).values())
    return Layout(tape, z, conditioned, last, at, 1 + len(model.net.edges))
