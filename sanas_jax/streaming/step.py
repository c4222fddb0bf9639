"""One step of a stream, really run in parts: edges that are off are skipped, rows are remembered.

`rollout.step` computes the whole network and multiplies by gates. Here, for one stream, an edge
that is not live costs nothing. Trunk edges over the rows of the stream write these into a ring, and
compute only rows that no step before has: those of as many steps as the edge has missed, a window
at most (docs/method.md; what `incremental.incremental_macs` counts). Outputs are
those of `rollout.unroll`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from sanas_jax import gates as gates_lib
from sanas_jax.controller import advance, gamma_of
from sanas_jax.graph import Activation, Edge, Net, prune
from sanas_jax.graph.trunk import rows_to_begin
from sanas_jax.rollout import Carry, Policy, Sanas, init_carry
from sanas_jax.running import run_edge
from sanas_jax.streaming.rings import Ring, rings

Values = dict[str, jax.Array]


class Memory(NamedTuple):
    """What one step hands to the next: arrays of fixed sizes, however long the stream.

    Few, since each that a program takes or gives costs more than computing a small edge. Not one,
    since the tape is changed in place only if all that happens to it is that rows are written.

    tape: float32 [N], all the rings (`rings`), one after the other.
    state: float32 [S], what `carry_of` unpacks: the controller's state, log λ, values to reuse.
    counts: int32 [1 + E]: the number of the step, and for each edge with a ring the steps that it
      has to catch up with besides the present one.
    """

    tape: jax.Array
    state: jax.Array
    counts: jax.Array


class Plan(NamedTuple):
    """The architecture of a step, known when the step before has ended: gates [E], and gamma [E],
    the probabilities of which they were chosen."""

    gates: jax.Array
    gamma: jax.Array


class Decision(NamedTuple):
    """One step: logits [K]; gates, live, gamma (probabilities) [E]; features [...]."""

    logits: jax.Array
    gates: jax.Array
    live: jax.Array
    gamma: jax.Array
    features: jax.Array


def init_memory(model: Sanas, cost_weight: float | None = None) -> Memory:
    """Before the first frame; λ as in `rollout.init_carry`."""
    found, carry = rings(model), init_carry(model, 1, cost_weight)
    # All rows are missing.
    missed = [found[edge.name].steps if edge.name in found else 0 for edge in model.net.edges]
    tape = jnp.zeros(sum(ring.length for ring in found.values()), jnp.float32)
    return Memory(tape, _flat(carry), jnp.array([0, *missed], jnp.int32))


def tell(model: Sanas, memory: Memory, cost_weight: jax.Array | float) -> Memory:
    """The price λ from the next step on; controllers that are not conditioned do not hear it."""
    told = init_carry(model, 1, cost_weight).condition
    return memory._replace(state=_flat(carry_of(model, memory)._replace(condition=told)))


def carry_of(model: Sanas, memory: Memory) -> Carry:
    """The memory's part that `rollout.step` has too; without `stats`, which are parameters here."""
    like = init_carry(model, 1, 1.0)
    _, unravel = ravel_pytree((like.z, like.condition, like.last))
    z, condition, last = unravel(memory.state)
    return Carry(z, memory.counts[0], condition, None, last)


def _flat(carry: Carry) -> jax.Array:
    return ravel_pytree((carry.z, carry.condition, carry.last))[0]


def fill(model: Sanas, memory: Memory, frames: jax.Array) -> Memory:
    """Hear the first `window − hop` frames [n, ...] of a stream: no window ends in them."""
    ring = rings(model)[model.net.input]
    expected = (ring.size - ring.fresh, *ring.row)
    if frames.shape != expected:
        raise ValueError(f"frames: expected {expected}, got {frames.shape}")
    empty = jnp.zeros((ring.capacity - len(frames), *ring.row), jnp.float32)
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
        value = jnp.zeros((1, *net.shapes[layer.name]), jnp.float32)
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


def plan(
    model: Sanas,
    params: dict[str, Any],
    memory: Memory,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.mode,
) -> Plan:
    """The architecture of the step to come; arguments as of `stream_step`."""
    carry = carry_of(model, memory)
    gamma = gamma_of(model.controller, model.net, params["controller"], carry.z, carry.condition)
    return Plan(policy(gamma, jax.random.fold_in(key, carry.t))[0], gamma.probs[0])


def most_turns(model: Sanas) -> np.ndarray:
    """[E]: steps whose rows a window holds, by edge; 0 for edges without a ring."""
    found = rings(model)
    return np.array([found[e.name].steps if e.name in found else 0 for e in model.net.edges])


def stream_step(
    model: Sanas,
    params: dict[str, Any],
    answers: Values,
    memory: Memory,
    frames: jax.Array,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.mode,
    turns: Sequence[int] | None = None,
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
      turns: for a program that knows what it runs: for every edge 0 if it is off, else the steps
        whose rows it computes, as `plan` and `memory` have them (1 for an edge without a ring).
    """
    net, found, carry = model.net, rings(model), carry_of(model, memory)
    t, chosen = carry.t, plan(model, params, memory, key, policy=policy)
    live = prune(net, chosen.gates[None])[0]
    most = jnp.asarray(most_turns(model), jnp.int32)
    behind = jnp.minimum(memory.counts[1:] + 1, most)
    if turns is None:
        on: Sequence[bool] | jax.Array = live > 0
        todo: Sequence[int] | jax.Array = jnp.where(live > 0, behind, 0)
    else:
        on, todo = [n > 0 for n in turns], turns
        live = jnp.array(on, jnp.float32)
    heard = frames[None, -found[net.input].fresh :]
    tape = found[net.input].write(memory.tape, heard, t)
    ring_of = {net.input: found[net.input]}  # of trunk layers
    values: Values = {}
    last = dict(carry.last or {})

    def value_of(layer: str, tape: jax.Array) -> jax.Array:
        return ring_of[layer].window(tape, t) if layer in ring_of else values[layer]

    for layer in net.layers[1:]:
        terms = []
        for edge in net.incoming[layer.name]:
            e = net.index[edge.name]
            if edge.name in found:
                ring, inside = found[edge.name], layer.name in net.trunk
                activation = layer.activation if inside else None
                new_rows = _new_rows(edge, params, activation, ring, ring_of[edge.source])
                tape = _catch_up(new_rows, ring, tape, t, todo[e])
                if inside:
                    ring_of[layer.name] = ring
                if inside and layer.name not in net.read_layers:
                    continue
                value = ring.window(tape, t)
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
    state = _flat(Carry(z, t, carry.condition, None, last if net.reuse else None))
    counts = jnp.concatenate([t[None] + 1, jnp.where(live > 0, 0, behind)])
    out = Decision(values[net.output][0], chosen.gates, live, chosen.gamma, features[0])
    return Memory(tape, state, counts), out


NewRows = Callable[[jax.Array, jax.Array, int], jax.Array]


def _new_rows(
    edge: Edge, params: dict[str, Any], activation: Activation | None, target: Ring, source: Ring
) -> NewRows:
    """`(tape, t, n) → [1, n, ...]`: an edge's last n rows in the window of step t."""
    stride = edge.block.time_stride
    # As many rows as the block sees; those that it leaves over do not make an output more.
    kernel = source.size - (target.size - 1) * stride

    def new_rows(tape: jax.Array, t: jax.Array, n: int) -> jax.Array:
        x = source.read(tape, t, (target.size - n) * stride, (n - 1) * stride + kernel)
        y = _apply(edge, params, x)
        return y if activation is None else activation(y)

    return new_rows


def _catch_up(
    new_rows: NewRows, ring: Ring, tape: jax.Array, t: jax.Array, steps: int | jax.Array
) -> jax.Array:
    """The tape with an edge's rows of the last `steps` steps."""
    if not isinstance(steps, jax.Array):
        return _catch_up_at_once(new_rows, ring, tape, t, steps)

    # Loops, not branches: a loop changes its operand in place, a branch copies it.
    def body(i: jax.Array, tape: jax.Array) -> jax.Array:
        now = t - steps + 1 + i
        return ring.write(tape, new_rows(tape, now, ring.fresh), now)

    def anew(_: jax.Array, tape: jax.Array) -> jax.Array:
        return _catch_up_at_once(new_rows, ring, tape, t, ring.steps)

    if rows_to_begin(ring.size, ring.fresh) < ring.capacity:
        begins = jnp.asarray(steps == ring.steps, jnp.int32)
        tape = lax.fori_loop(0, begins, anew, tape)
        steps = jnp.where(begins > 0, 0, steps)
    return lax.fori_loop(0, steps, body, tape)


def _catch_up_at_once(
    new_rows: NewRows, ring: Ring, tape: jax.Array, t: jax.Array, steps: int
) -> jax.Array:
    """As `_catch_up`, all rows in one computation."""
    if not steps:
        return tape
    seen = min(steps * ring.fresh, ring.size)  # rows before the window are never looked at again
    rows = new_rows(tape, t, seen)
    rows = jnp.pad(rows, [(0, 0), (steps * ring.fresh - seen, 0)] + [(0, 0)] * len(ring.row))
    for i, part in enumerate(jnp.split(rows, steps, axis=1)):
        tape = ring.write(tape, part, t - steps + 1 + i)
    return tape


def _run_if(
    is_on: bool | jax.Array, edge: Edge, params: dict[str, Any], x: Callable[[], jax.Array]
) -> jax.Array:
    """An edge's block on x() [1, ...] if it is on; else zeros."""

    def run() -> jax.Array:
        return _apply(edge, params, x())

    like = jax.eval_shape(run)
    zeros = jnp.zeros(like.shape, like.dtype)
    if isinstance(is_on, bool):
        return run() if is_on else zeros
    return lax.cond(is_on, run, lambda: zeros)


def _apply(edge: Edge, params: dict[str, Any], x: jax.Array) -> jax.Array:
    return run_edge(edge, params["net"], params.get("stats", {}), x)
