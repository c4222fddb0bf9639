"""A scalar whose gradient is the estimator's: rollouts, the score term, the teacher, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.estimators import Partner, score_surrogate
from sanas_jax.rollout import Sanas, Step
from sanas_jax.training.metrics import step_metrics
from sanas_jax.training.objective import Objective, Price
from sanas_jax.training.rollouts import (
    Streams,
    begin,
    partner_gates,
    run_gates,
    run_mode,
    run_samples,
)
from sanas_jax.training.state import Batch, Budget, Params
from sanas_jax.training.terms import masked_mean, returns_to_go, step_loss


class Aux(NamedTuple):
    """Side results of a step: states of estimator and network, metrics."""

    estimator_state: Any
    stats: Any
    metrics: dict[str, jax.Array]


Loss = Callable[[Params, Any, Batch, jax.Array, Budget], tuple[jax.Array, Aux]]
# What each step of a rollout is charged for answers and gates, [T, M·B].
Paid = Callable[[Step], jax.Array]


def make_loss(model: Sanas, objective: Objective, class_weights: jax.Array | None = None) -> Loss:
    """`loss(params, estimator_state, batch, key, budget) -> (scalar, Aux)`.

    The scalar's value means nothing, since a surrogate of the score function is part of it. Raises
    ValueError for DisARM where the past enters a step.
    """
    score, teach = objective.score, objective.teach
    if score.estimator.paired and not objective.static:
        _check_no_past(model, objective.price)

    def losses(logits: jax.Array, batch: Batch) -> jax.Array:
        """Loss of each step, [T, B]."""
        loss = step_loss(logits, batch.labels, class_weights, teach.label_smoothing)
        return loss if batch.weight is None else loss * batch.weight

    def whole_term(whole: jax.Array, batch: Batch, outs: Step) -> jax.Array:
        """Losses of the whole network and of what it teaches."""
        loss = masked_mean(losses(whole, batch), batch.mask)
        distance = masked_mean(distances(whole, outs.logits, batch.labels).mean(1), batch.mask)
        return teach.full_weight * loss + teach.distill_weight * distance

    def score_term(
        streams: Streams, state: Any, mask: jax.Array, key: jax.Array, outs: Step, paid: Paid
    ) -> tuple[jax.Array, Any]:
        """Surrogate of the score function per valid step, and the estimator's next state."""

        def returns_of(outs: Step) -> jax.Array:
            return jax.lax.stop_gradient(returns_to_go(paid(outs), mask, score.discount))

        partner = None
        if score.estimator.paired:
            other = partner_gates(outs, jax.random.fold_in(key, score.samples))
            partner = Partner(other, returns_of(run_gates(model, objective, streams, other)))
        # [T, M, B]: samples of a stream are each other's baseline.
        drawn, z, partner = jax.tree.map(
            lambda x: x.reshape(x.shape[0], score.samples, -1, *x.shape[2:]),
            ((outs.gamma, outs.gates, returns_of(outs), mask), outs.z, partner),
        )
        z = jax.lax.stop_gradient(z)
        term, state = score_surrogate(score.estimator, state, *drawn, z=z, partner=partner)
        return term / jnp.maximum(mask.sum(), 1), state

    def loss(
        params: Params, state: Any, batch: Batch, key: jax.Array, budget: Budget
    ) -> tuple[jax.Array, Aux]:
        budget = jax.tree.map(jnp.asarray, budget)
        streams = begin(model, objective, params, batch, budget)
        outs, whole, stats = run_samples(model, objective, streams, key)
        wide = repeat(batch, outs.logits.shape[1] // batch.mask.shape[1])
        ce = losses(outs.logits, wide)
        metrics = step_metrics(objective.price, outs, ce, wide)
        if objective.measure_mode:
            cost = objective.price.cost(run_mode(model, objective, streams).gates)
            metrics["mode_cost"] = masked_mean(cost, batch.mask)
        total = masked_mean(ce, wide.mask)
        if objective.static:
            return total, Aux(state, stats, metrics)

        def paid(outs: Step) -> jax.Array:
            return losses(outs.logits, wide) + price_of(objective.price, outs.gates, budget)

        term, state = score_term(streams, state, wide.mask, key, outs, paid)
        entropy = masked_mean(gates_lib.entropy(outs.gamma), wide.mask)
        total += term - score.entropy_weight * entropy
        if whole is not None:
            total += whole_term(whole, batch, outs)
        metrics |= {
            "entropy": entropy,
            "objective": masked_mean(paid(outs), wide.mask),
            "gate_probability": masked_mean(outs.gamma.probs.mean(-1), wide.mask),
        }
        return total, Aux(state, stats, metrics)

    return loss


def price_of(price: Price, gates: jax.Array, budget: Budget) -> jax.Array:
    """What architectures [T, M·B, E] pay, [T, M·B], in nats."""
    weight = budget.cost_weight
    if weight.ndim:  # one per stream
        weight = jnp.tile(weight, gates.shape[1] // weight.shape[0])
    paid = weight * price.penalty(price.cost(gates), budget.limit)
    if price.invalid is None or not price.invalid_penalty:
        return paid
    return paid + price.invalid_penalty * price.invalid(gates)


def distances(whole: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """KL divergence of samples from what the whole network says, [T, M, B].

    Args:
      whole: [T, B, ..., K]; further axes are positions, over whose labelled ones is the mean.
      logits: [T, M·B, ..., K].
      labels: [T, B, ...].
    """
    taught = jax.nn.softmax(jax.lax.stop_gradient(whole))
    by_sample = logits.reshape(whole.shape[0], -1, *whole.shape[1:])
    apart = optax.losses.kl_divergence(jax.nn.log_softmax(by_sample), taught[:, None])
    positions = tuple(range(3, apart.ndim))
    if not positions:
        return apart
    valid = (labels >= 0)[:, None]
    total = jnp.where(valid, apart, 0).sum(positions)
    return total / jnp.maximum(valid.sum(positions), 1)


def repeat(batch: Batch, samples: int) -> Batch:
    """Labels, mask and weights as wide as `run_samples` makes the outputs."""

    def wide(x: jax.Array) -> jax.Array:
        return jnp.concatenate([x] * samples, axis=1)

    weight = None if batch.weight is None else wide(batch.weight)
    return batch._replace(labels=wide(batch.labels), mask=wide(batch.mask), weight=weight)


def _check_no_past(model: Sanas, price: Price) -> None:
    """ValueError if a step's loss or price depends on the gates of the steps before it.

    A partner is run on the state and the values of the main chain's architecture, not of its own.
    """
    if model.net.reuse:
        raise ValueError(
            "estimator: disarm needs steps whose loss depends on their own gates; expected a net "
            f"without reuse, got {sorted(edge.name for edge in model.net.reuse.values())}"
        )
    with jax.ensure_compile_time_eval():
        on = jnp.ones((1, 1, len(model.net.edges)), jnp.float32)
        after_on, after_off = (
            price.cost(jnp.concatenate([first, on]))[1] for first in (on, jnp.zeros_like(on))
        )
        remembers = bool((after_on != after_off).any())
    if remembers:
        raise ValueError(
            "estimator: disarm needs steps whose cost depends on their own gates; expected a cost "
            "without memory, got one that charges for what the step before left out"
        )
