"""The rollouts of a training step: architectures run along the streams of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from sanas_jax import gates as gates_lib
from sanas_jax.rollout import Carry, Sanas, Step, unroll
from sanas_jax.training.objective import Objective
from sanas_jax.training.state import Params


class Streams(NamedTuple):
    """What all rollouts of a batch begin with: `features` is [B, frames, ...]."""

    params: Params
    carry: Carry
    features: jax.Array


def run_samples(
    model: Sanas, objective: Objective, streams: Streams, key: jax.Array
) -> tuple[Step, Any]:
    """M rollouts of each stream as one wide batch: fields [T, M·B, ...], and running statistics.

    A static objective has one, with all gates on. The trunk does not depend on the key, so vmap
    leaves it alone: it is computed once. Each rollout is a batch of its own for BatchNorm; running
    statistics are the mean of theirs.
    """
    policy = gates_lib.all_on if objective.static else gates_lib.sample
    params, carry, features = streams

    def rollout(key: jax.Array) -> tuple[Step, Any]:
        end, outs = unroll(
            model, params, carry, features, key, policy=policy, train=True, dtype=objective.dtype
        )
        return outs, end.stats

    keys = jax.random.split(key, 1 if objective.static else objective.score.samples)
    outs, stats = jax.vmap(rollout, out_axes=(1, 0))(keys)
    return _wide(outs), jax.tree.map(lambda x: jax.lax.stop_gradient(x.mean(0)), stats)


def run_whole(model: Sanas, objective: Objective, streams: Streams) -> Step:
    """The whole network on every step, [T, B, ...]."""
    params, carry, features = streams
    key, policy = jax.random.key(0), gates_lib.all_on  # nothing is drawn
    return unroll(
        model, params, carry, features, key, policy=policy, train=True, dtype=objective.dtype
    )[1]


def run_gates(model: Sanas, objective: Objective, streams: Streams, gates: jax.Array) -> Step:
    """What given architectures [T, M·B, E] answer, without a gradient.

    A step's logits depend on the state through its gates alone, so those of a partner are right
    although the state here is not the one that the pair was drawn from.
    """
    params, carry, features = jax.lax.stop_gradient(streams)
    by_sample = gates.reshape(gates.shape[0], -1, features.shape[0], gates.shape[-1])

    def rollout(gates: jax.Array) -> Step:
        key = jax.random.key(0)  # nothing is drawn
        return unroll(
            model, params, carry, features, key, gates=gates, train=True, dtype=objective.dtype
        )[1]

    return _wide(jax.vmap(rollout, in_axes=1, out_axes=1)(by_sample))


def run_mode(model: Sanas, streams: Streams) -> Step:
    """The architectures that evaluation would run, [T, B, ...], without a gradient."""
    params, carry, features = jax.lax.stop_gradient(streams)
    return unroll(model, params, carry, features, jax.random.key(0), policy=gates_lib.mode)[1]


def partner_gates(outs: Step, key: jax.Array) -> jax.Array:
    """An antithetic architecture for each that was drawn, [T, M·B, E]."""
    return jax.lax.stop_gradient(gates_lib.antithetic(outs.gates, outs.gamma, key))


def _wide(outs: Step) -> Step:
    """Fields [T, M, B, ...] as [T, M·B, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), outs)
