"""The rollouts of a training step: architectures run along the streams of a batch.

All of them share one trunk. Where the whole network is run beside the samples, it is a row more of
theirs: one computation, whose trunk is differentiated once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax import gates as gates_lib
from sanas_jax.forward import Trunk
from sanas_jax.gates import Gamma
from sanas_jax.rollout import Carry, Sanas, Step, init_carry, run_trunk, unroll
from sanas_jax.training.objective import Objective
from sanas_jax.training.state import Batch, Budget, Params


class Streams(NamedTuple):
    """What all rollouts of a batch share: weights, start, features [B, frames, ...], trunk, and the
    mask [T, B] of the steps that count."""

    params: Params
    carry: Carry
    features: jax.Array
    trunk: Trunk
    mask: jax.Array


class Rollouts(NamedTuple):
    """What a training step has run.

    Fields:
      samples: M architectures drawn for each stream, as one wide batch: fields [T, M·B, ...].
      whole: logits of the whole network [T, B, ...]; None where nobody asks for them.
      stats: running statistics after the step, the mean over the samples.
    """

    samples: Step
    whole: jax.Array | None
    stats: Any


def begin(
    model: Sanas, objective: Objective, params: Params, batch: Batch, budget: Budget
) -> Streams:
    """Start of a batch's streams, and their trunk in training."""
    carry = init_carry(model, batch.features.shape[0], budget.cost_weight, params.get("stats"))
    trunk = run_trunk(
        model, params, carry, batch.features, train=True, dtype=objective.dtype, mask=batch.mask
    )
    return Streams(params, carry, batch.features, trunk, batch.mask)


def run_samples(model: Sanas, objective: Objective, streams: Streams, key: jax.Array) -> Rollouts:
    """M rollouts of each stream and that of the whole network; a static objective has this alone.

    Each rollout is a batch of its own for BatchNorm.
    """
    params, carry, features, trunk, mask = streams
    samples = 1 if objective.static else objective.score.samples
    rows = samples + (objective.teach.by_whole and not objective.static)
    keys = jax.random.split(key, samples)[jnp.arange(rows) % samples]
    is_whole = jnp.arange(rows) >= (0 if objective.static else samples)

    def rollout(key: jax.Array, is_whole: jax.Array) -> tuple[Step, Any]:
        def policy(gamma: Gamma, key: jax.Array) -> jax.Array:
            return jnp.where(is_whole, gates_lib.all_on(gamma), gates_lib.sample(gamma, key))

        end, outs = unroll(
            model,
            params,
            carry,
            features,
            key,
            policy=policy,
            train=True,
            remat=objective.remat,
            dtype=objective.dtype,
            trunk=trunk,
            mask=mask,
        )
        return outs, end.stats

    outs, stats = jax.vmap(rollout, out_axes=(1, 0))(keys, is_whole)
    whole = outs.logits[:, samples] if rows > samples else None
    stats = jax.tree.map(lambda x: jax.lax.stop_gradient(x[:samples].mean(0)), stats)
    return Rollouts(_wide(jax.tree.map(lambda x: x[:, :samples], outs)), whole, stats)


def run_gates(model: Sanas, objective: Objective, streams: Streams, gates: jax.Array) -> Step:
    """What given architectures [T, M·B, E] answer, without a gradient.

    A step's logits depend on the state through its gates alone, so those of a partner are right
    although the state here is not the one that the pair was drawn from.
    """
    params, carry, features, trunk, mask = jax.lax.stop_gradient(streams)
    by_sample = gates.reshape(gates.shape[0], -1, features.shape[0], gates.shape[-1])

    def rollout(gates: jax.Array) -> Step:
        return unroll(
            model,
            params,
            carry,
            features,
            jax.random.key(0),  # nothing is drawn
            gates=gates,
            train=True,
            dtype=objective.dtype,
            trunk=trunk,
            mask=mask,
        )[1]

    return _wide(jax.vmap(rollout, in_axes=1, out_axes=1)(by_sample))


def run_mode(model: Sanas, objective: Objective, streams: Streams) -> Step:
    """The most probable architectures on the same trunk, [T, B, ...], without a gradient."""
    params, carry, features, trunk, mask = jax.lax.stop_gradient(streams)
    key, policy = jax.random.key(0), gates_lib.mode  # nothing is drawn
    return unroll(
        model,
        params,
        carry,
        features,
        key,
        policy=policy,
        dtype=objective.dtype,
        trunk=trunk,
        mask=mask,
    )[1]


def partner_gates(outs: Step, key: jax.Array) -> jax.Array:
    """An antithetic architecture for each that was drawn, [T, M·B, E]."""
    return jax.lax.stop_gradient(gates_lib.antithetic(outs.gates, outs.gamma, key))


def _wide(outs: Step) -> Step:
    """Fields [T, M, B, ...] as [T, M·B, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), outs)
