"""What a step in ONNX hands to the next, by name; its outputs `next_NAME` are what it is then.

frames         [1, rows, ...] features of the window (and before it, where an edge needs these)
rows_EDGE      [1, rows, ...] the same of an edge over the rows of the stream
missed         [R] int64: for each of these edges, in order, the steps since it ran
last_LAYER     [1, ...] a layer's value of the step before, where an edge reuses it
z              [1, Z] the controller's state
log_price      [1, 1] log λ of a conditioned controller, to be changed as one likes
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sanas_jax.rollout import Sanas, init_carry
from sanas_jax.streaming.rings import Ring, rings


class Kept(NamedTuple):
    """Rows that the state keeps of a ring: `rows`, the last `ring.size` of them the window."""

    ring: Ring
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """[1, rows, ...]."""
        return (1, self.rows, *self.ring.row)


def kept_rows(model: Sanas) -> dict[str, Kept]:
    """By edge, and for the input's frames by the input layer's name."""
    found, net = rings(model), model.net
    before = dict.fromkeys(found, 0)
    of_layer = {net.input: net.input}
    for name, ring in found.items():
        if name == net.input:
            continue
        # An edge that missed all computes whole steps; the first may begin before its window.
        edge = net.edges[net.index[name]]
        source = of_layer[edge.source]
        stride = edge.block.time_stride
        before[source] = max(before[source], (ring.capacity - ring.size) * stride)
        if edge.target in net.trunk:
            of_layer[edge.target] = name
    return {name: Kept(ring, ring.size + before[name]) for name, ring in found.items()}


def initial_memory(model: Sanas, cost_weight: float | None) -> dict[str, np.ndarray]:
    """The state before the first sample; λ as in `rollout.init_carry`."""
    kept, carry = kept_rows(model), init_carry(model, 1, cost_weight)
    memory = {state_of(model, name): np.zeros(k.shape, np.float32) for name, k in kept.items()}
    memory["missed"] = np.array(
        [kept[name].ring.steps for name in edges_with_rows(model)], np.int64
    )
    memory |= {f"last_{name}": np.asarray(value) for name, value in (carry.last or {}).items()}
    memory["z"] = np.asarray(carry.z)
    if carry.condition is not None:
        memory["log_price"] = np.asarray(carry.condition)
    return memory


def edges_with_rows(model: Sanas) -> list[str]:
    """Edges that keep rows."""
    return [name for name in kept_rows(model) if name != model.net.input]


def state_of(model: Sanas, name: str) -> str:
    """Name of the rows of `kept_rows`' `name`."""
    return "frames" if name == model.net.input else f"rows_{name}"
