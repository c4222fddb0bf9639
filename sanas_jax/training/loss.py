"""A scalar whose gradient is the estimator's: rollouts, the score term, the teacher."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.estimators import Partner, paired_surrogate, surrogate
from sanas_jax.forward import DType
from sanas_jax.rollout import Carry, Policy, Sanas, Step, init_carry, unroll
from sanas_jax.training.metrics import step_metrics
from sanas_jax.training.objective import Objective
from sanas_jax.training.state import Batch, Budget, Params
from sanas_jax.training.terms import masked_mean, returns_to_go, step_loss


class Aux(NamedTuple):
    """Side results of a step: states of estimator and network, metrics."""

    estimator_state: Any
    stats: Any
    metrics: dict[str, jax.Array]


def training_loss(
    model: Sanas,
    objective: Objective,
    class_weights: jax.Array | None,
    params: Params,
    estimator_state: Any,
    batch: Batch,
    key: jax.Array,
    budget: Budget,
) -> tuple[jax.Array, Aux]:
    """A scalar whose gradient is the estimator's, and the metrics."""
    policy = gates_lib.all_on if objective.static else gates_lib.sample
    samples = 1 if objective.static else objective.samples
    carry = init_carry(model, batch.features.shape[0], budget.cost_weight, params.get("stats"))
    outs, stats = _unroll_samples(
        model, params, carry, batch, key, policy, samples, objective.dtype
    )
    mode_cost = _mode_cost(model, objective, params, carry, batch) if objective.measure_mode else {}
    extra = _sandwich(model, objective, class_weights, params, carry, batch, outs)
    batch = _repeat(batch, samples)
    ce = _training_loss(objective, outs.logits, batch, class_weights)
    metrics = step_metrics(objective, outs, ce, batch) | mode_cost
    if objective.static:
        return masked_mean(ce, batch.mask), Aux(estimator_state, stats, metrics)

    weight = budget.cost_weight
    if weight.ndim:  # one per stream
        weight = jnp.tile(weight, samples)

    def price_of(gates: jax.Array) -> jax.Array:
        price = weight * objective.penalty(objective.cost(gates), budget.limit)
        if objective.invalid is None or not objective.invalid_penalty:
            return price
        return price + objective.invalid_penalty * objective.invalid(gates)

    price = price_of(outs.gates)

    def returns_of(losses: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(returns_to_go(losses, batch.mask, objective.discount))

    returns = returns_of(ce + price)
    if objective.estimator.paired:
        other = _partner_gates(outs, jax.random.fold_in(key, samples))
        theirs = _run_gates(model, params, carry, batch.features, other, samples, objective.dtype)
        their_ce = _training_loss(objective, theirs.logits, batch, class_weights)
        partner = Partner(other, returns_of(their_ce + price_of(other)))
        score = paired_surrogate(outs.gamma, outs.gates, partner, returns, batch.mask)
    else:
        # [T, M, B]: samples of a stream are each other's baseline.
        log_prob, returns, mask, z = (
            x.reshape(x.shape[0], samples, -1, *x.shape[2:])
            for x in (outs.log_prob, returns, batch.mask, jax.lax.stop_gradient(outs.z))
        )
        b = objective.estimator.value(estimator_state, returns, mask, z)
        score = surrogate(log_prob, returns, b, mask)
        estimator_state = objective.estimator.update(estimator_state, returns, mask, z)
    score = score / jnp.maximum(batch.mask.sum(), 1)
    entropy = masked_mean(gates_lib.entropy(outs.gamma), batch.mask)
    metrics |= {
        "entropy": entropy,
        "objective": masked_mean(ce + price, batch.mask),
        "gate_probability": masked_mean(outs.gamma.probs.mean(-1), batch.mask),
    }
    total = masked_mean(ce, batch.mask) + score - objective.entropy_weight * entropy + extra
    return total, Aux(estimator_state, stats, metrics)


def _training_loss(
    objective: Objective, logits: jax.Array, batch: Batch, class_weights: jax.Array | None
) -> jax.Array:
    """Loss of each step, [T, B]."""
    loss = step_loss(logits, batch.labels, class_weights, objective.label_smoothing)
    return loss if batch.weight is None else loss * batch.weight


def _sandwich(
    model: Sanas,
    objective: Objective,
    class_weights: jax.Array | None,
    params: Params,
    carry: Carry,
    batch: Batch,
    outs: Step,
) -> jax.Array:
    """Losses of the whole network and of what it teaches; 0 where neither is asked for.

    Its trunk is that of the sampled architectures: one computation, which the compiler finds.
    """
    if objective.static or not (objective.full_weight or objective.distill_weight):
        return jnp.zeros(())
    key = jax.random.key(0)  # nothing is drawn
    _, full = unroll(
        model,
        params,
        carry,
        batch.features,
        key,
        policy=gates_lib.all_on,
        train=True,
        dtype=objective.dtype,
    )
    loss = masked_mean(_training_loss(objective, full.logits, batch, class_weights), batch.mask)
    taught = jax.nn.softmax(jax.lax.stop_gradient(full.logits))
    samples = outs.logits.shape[1] // full.logits.shape[1]
    by_sample = outs.logits.reshape(outs.logits.shape[0], samples, *full.logits.shape[1:])
    apart = optax.losses.kl_divergence(jax.nn.log_softmax(by_sample), taught[:, None])
    distance = masked_mean(apart.mean(1), batch.mask)
    return objective.full_weight * loss + objective.distill_weight * distance


def _unroll_samples(
    model: Sanas,
    params: Params,
    carry: Carry,
    batch: Batch,
    key: jax.Array,
    policy: Policy,
    samples: int,
    dtype: DType,
) -> tuple[Step, Any]:
    """M rollouts of each stream as one wide batch: fields [T, M·B, ...], and running statistics.

    The trunk does not depend on the key, so vmap leaves it alone: it is computed once. Each rollout
    is a batch of its own for BatchNorm; running statistics are the mean of theirs.
    """

    def rollout(key: jax.Array) -> tuple[Step, Any]:
        end, outs = unroll(
            model, params, carry, batch.features, key, policy=policy, train=True, dtype=dtype
        )
        return outs, end.stats

    keys = jax.random.split(key, samples)
    outs, stats = jax.vmap(rollout, out_axes=(1, 0))(keys)
    outs = jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), outs)
    return outs, jax.tree.map(lambda x: jax.lax.stop_gradient(x.mean(0)), stats)


def _partner_gates(outs: Step, key: jax.Array) -> jax.Array:
    """An antithetic architecture for each that was drawn, [T, M·B, E]."""
    return jax.lax.stop_gradient(gates_lib.antithetic(outs.gates, outs.gamma, key))


def _run_gates(
    model: Sanas,
    params: Params,
    carry: Carry,
    features: jax.Array,
    gates: jax.Array,
    samples: int,
    dtype: DType,
) -> Step:
    """What given architectures [T, M·B, E] answer, without a gradient.

    A step's logits depend on the state through its gates alone, so those of a partner are right
    although the state here is not the one that the pair was drawn from.
    """
    fixed = jax.lax.stop_gradient(params)
    by_sample = gates.reshape(gates.shape[0], samples, -1, gates.shape[-1])

    def rollout(gates: jax.Array) -> Step:
        key = jax.random.key(0)  # nothing is drawn
        return unroll(model, fixed, carry, features, key, gates=gates, train=True, dtype=dtype)[1]

    outs = jax.vmap(rollout, in_axes=1, out_axes=1)(by_sample)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), outs)


def _mode_cost(
    model: Sanas, objective: Objective, params: Params, carry: Carry, batch: Batch
) -> dict[str, jax.Array]:
    """Mean cost of the architectures that evaluation would run."""
    fixed = jax.lax.stop_gradient(params)
    _, outs = unroll(model, fixed, carry, batch.features, jax.random.key(0), policy=gates_lib.mode)
    return {"mode_cost": masked_mean(objective.cost(outs.gates), batch.mask)}


def _repeat(batch: Batch, samples: int) -> Batch:
    """Labels and mask as wide as `_unroll_samples` makes the outputs."""

    def wide(x: jax.Array) -> jax.Array:
        return jnp.concatenate([x] * samples, axis=1)

    weight = None if batch.weight is None else wide(batch.weight)
    return batch._replace(labels=wide(batch.labels), mask=wide(batch.mask), weight=weight)
