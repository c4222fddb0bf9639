"""One step of a stream, really run in parts: edges that are off are skipped, rows are remembered.

`rollout.step` computes the whole network and multiplies by gates. Here, for one stream, an edge
that is not live costs nothing. Trunk edges over the rows of the stream write these into a ring, and
compute only rows that no step before has: those of as many steps as the edge has missed, a window
at most (DESIGN: incremental streaming; what `incremental.incremental_macs` counts). Outputs are
those of `rollout.unroll`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sanas_jax import gates as gates_lib
from sanas_jax.controller import advance, gamma_of
from sanas_jax.forward import init_last, run_edge
from sanas_jax.graph import Activation, Edge, Net, prune
from sanas_jax.incremental import row_strides
from sanas_jax.rollout import Carry, Policy, Sanas, init_carry

Values = dict[str, jax.Array]


class Memory(NamedTuple):
    """What one step hands to the next: arrays of fixed sizes, however long the stream.

    carry: the controller's (`rollout.Carry`, B = 1; its `stats` are in the parameters instead).
    tape: float32 [N], all the rings, one after the other (`rings`): what is handed over at every
      step are few arrays, since each costs more than computing a small edge.
    missed: int32 [E], steps that an edge with a ring has to catch up with, besides the present one.
    """

    carry: Carry
    tape: jax.Array
    missed: jax.Array


class Decision(NamedTuple):
    """One step: logits [K]; gates, live, gamma (probabilities) [E]; features [...]."""

    logits: jax.Array
    gates: jax.Array
    live: jax.Array
    gamma: jax.Array
    features: jax.Array


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


def init_memory(model: Sanas, cost_weight: float | None = None) -> Memory:
    """Before the first frame; λ as in `rollout.init_carry`."""
    found = rings(model)
    # All rows are missing.
    missed = [found[edge.name].steps if edge.name in found else 0 for edge in model.net.edges]
    tape = jnp.zeros(sum(ring.length for ring in found.values()))
    return Memory(init_carry(model, 1, cost_weight), tape, jnp.array(missed, jnp.int32))


def fill(model: Sanas, memory: Memory, frames: jax.Array) -> Memory:
    """Hear the first `window − hop` frames [n, ...] of a stream: no window ends in them."""
    ring = rings(model)[model.net.input]
    expected = (ring.size - ring.fresh, *ring.row)
    if frames.shape != expected:
        raise ValueError(f"frames: expected {expected}, got {frames.shape}")
    empty = jnp.zeros((ring.capacity - len(frames), *ring.row))
    parts = jnp.concatenate([empty, frames]).reshape(ring.steps, 1, ring.fresh, *ring.row)
    tape = memory.tape
    for step, part in enumerate(parts, -ring.steps):
        tape = ring.write(tape, part, jnp.int32(step))
    return memory._replace(tape=tape)


def dead_answers(net: Net, params: dict[str, Any]) -> Values:
    """What edges without a gate say where nothing reaches them: constants, to be computed once.

    Such an edge below a dead layer still answers (`forward` on pruned gates), with its bias.

    Returns:
      {edge: [1, ...]}; an edge that is not in it answers 0.
    """
    alive: set[str] = {net.input}
    values: Values = {}
    answers: Values = {}
    for layer in net.layers[1:]:
        value = jnp.zeros((1, *net.shapes[layer.name]))
        for edge in net.incoming[layer.name]:
            if edge.gated:
                continue
            if edge.source in alive:
                alive.add(layer.name)
            else:
                answers[edge.name] = _apply(edge, params, values[edge.source])
                value = value + answers[edge.name]
        values[layer.name] = value if layer.activation is None else layer.activation(value)
    return answers


def stream_step(
    model: Sanas,
    params: dict[str, Any],
    answers: Values,
    memory: Memory,
    frames: jax.Array,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.mode,
) -> tuple[Memory, Decision]:
    """Hear `hop` frames more, and decide. Jit it with `memory` donated: rings change in place.

    Args:
      model: static description.
      params: from `init_model`, with running statistics if there are any.
      answers: from `dead_answers`.
      memory: from `fill`, or the step before.
      frames: [hop, *net.input_shape[1:]].
      key: the stream's, for a policy that draws.
      policy: as in `rollout.step`.
    """
    net, carry, found = model.net, memory.carry, rings(model)
    gamma = gamma_of(model.controller, net, params["controller"], carry.z, carry.condition)
    gates = policy(gamma, jax.random.fold_in(key, carry.t))
    live = prune(net, gates)
    on = live[0] > 0
    most = jnp.array([found[e.name].steps if e.name in found else 0 for e in net.edges], jnp.int32)
    behind = jnp.minimum(memory.missed + 1, most)
    heard = frames[None, -found[net.input].fresh :]
    tape = found[net.input].write(memory.tape, heard, carry.t)
    ring_of = {net.input: found[net.input]}  # of trunk layers
    values: Values = {}
    last = dict(carry.last or init_last(net, 1))

    def value_of(layer: str, tape: jax.Array) -> jax.Array:
        return ring_of[layer].window(tape, carry.t) if layer in ring_of else values[layer]

    for layer in net.layers[1:]:
        terms = []
        for edge in net.incoming[layer.name]:
            e = net.index[edge.name]
            if edge.name in found:
                ring, inside = found[edge.name], layer.name in net.trunk
                steps = jnp.where(on[e], behind[e], 0)
                activation = layer.activation if inside else None
                source = ring_of[edge.source]
                tape = _catch_up(edge, params, activation, ring, source, tape, carry.t, steps)
                if inside:
                    ring_of[layer.name] = ring
                if inside and layer.name not in net.read_layers:
                    continue
                value = ring.window(tape, carry.t)
            else:
                value = _run_if(on[e], edge, params, partial(value_of, edge.source, tape))
            terms.append(jnp.where(on[e], value, answers.get(edge.name, 0.0)))
        if not terms:
            continue
        value = sum(terms[1:], terms[0])
        if layer.name not in ring_of and layer.activation is not None:
            value = layer.activation(value)
        if layer.name in net.reuse:
            reused = on[net.index[net.reuse[layer.name].name]]
            value = last[layer.name] = jnp.where(reused, last[layer.name], value)
        values[layer.name] = value
    features = values[net.features]
    z = advance(model.controller, params["controller"], carry.z, features, carry.condition)
    carry = carry._replace(z=z, t=carry.t + 1, last=last if net.reuse else None)
    missed = jnp.where(on, 0, behind)
    out = Decision(values[net.output][0], gates[0], live[0], gamma.probs[0], features[0])
    return Memory(carry, tape, missed), out


def _catch_up(
    edge: Edge,
    params: dict[str, Any],
    activation: Activation | None,
    target: Ring,
    source: Ring,
    tape: jax.Array,
    t: jax.Array,
    steps: jax.Array,
) -> jax.Array:
    """The tape with an edge's rows of the last `steps` steps.

    A loop, not a branch: a loop changes its operand in place, a branch copies it.
    """
    stride = edge.block.time_stride
    # As many rows as the block sees; those that it leaves over do not make an output more.
    kernel = source.size - (target.size - 1) * stride
    count = (target.fresh - 1) * stride + kernel
    first = (target.size - target.fresh) * stride

    def body(i: jax.Array, tape: jax.Array) -> jax.Array:
        now = t - steps + 1 + i
        new = _apply(edge, params, source.read(tape, now, first, count))
        return target.write(tape, new if activation is None else activation(new), now)

    return lax.fori_loop(0, steps, body, tape)


def _run_if(
    is_on: jax.Array, edge: Edge, params: dict[str, Any], x: Callable[[], jax.Array]
) -> jax.Array:
    """An edge's block on x() [1, ...] if it is on; else zeros."""

    def run() -> jax.Array:
        return _apply(edge, params, x())

    like = jax.eval_shape(run)
    return lax.cond(is_on, run, lambda: jnp.zeros(like.shape, like.dtype))


def _apply(edge: Edge, params: dict[str, Any], x: jax.Array) -> jax.Array:
    return run_edge(edge, params["net"], params.get("stats", {}), x)
