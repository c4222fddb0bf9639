"""A scalar whose gradient is the estimator's: rollouts, the score term, the teacher, metrics.

One loss for streams (SANAS) and for inputs that are none (BSN): of the latter what is here of
[T, B] is of [B]; and no step follows, so that what a sample returns is what it pays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.costs import StreamCost, charge
from sanas_jax.estimators import Partner, score_surrogate
from sanas_jax.rollout import Sanas, Step
from sanas_jax.training.metrics import step_metrics
from sanas_jax.training.objective import Objective, Price
from sanas_jax.training.rollouts import (
    Inputs,
    begin,
    by_sample,
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
# What each step of a rollout is charged for answers and gates, [T, B·M].
Paid = Callable[[Step], jax.Array]


def make_loss(
    model: Sanas,
    objective: Objective,
    class_weights: jax.Array | None = None,
    *,
    streams: bool = True,
) -> Loss:
    """`loss(params, estimator_state, batch, key, budget) -> (scalar, Aux)`.

    The scalar's value means nothing, since a surrogate of the score function is part of it. Raises
    ValueError for DisARM where the past enters a step, and for costs of steps where there are none.

    Args:
      model, objective, class_weights: as of `make_update`.
      streams: whether a batch's mask is [T, B], or [B] of inputs that are no streams.
    """
    score, teach = objective.score, objective.teach
    if not streams:
        check_no_steps(objective.price)
    elif score.estimator.paired and not objective.static:
        _check_no_past(model, objective.price)

    def losses(logits: jax.Array, batch: Batch) -> jax.Array:
        """Loss of each step, [T, B]."""
        axes = batch.mask.ndim
        loss = step_loss(
            *(logits, batch.labels, class_weights, teach.label_smoothing, axes),
            taught=batch.taught,
            teacher_weight=teach.teacher_weight,
        )
        return loss if batch.weight is None else loss * batch.weight

    def whole_term(whole: jax.Array, batch: Batch, outs: Step) -> jax.Array:
        """Losses of the whole network and of what it teaches."""
        loss = masked_mean(losses(whole, batch), batch.mask)
        axis = batch.mask.ndim - 1
        apart = distances(whole, outs.logits, batch.labels, axis)
        distance = masked_mean(apart.mean(axis), batch.mask)
        return teach.full_weight * loss + teach.distill_weight * distance

    def score_term(
        inputs: Inputs,
        state: Any,
        mask: jax.Array,
        key: jax.Array,
        outs: Step,
        paid: Paid,
    ) -> tuple[jax.Array, Any]:
        """Surrogate of the score function per valid step, and the estimator's next state."""

        def returns_of(outs: Step) -> jax.Array:
            returns = paid(outs)
            if mask.ndim == 2:
                returns = returns_to_go(returns, mask, score.discount)
            return jax.lax.stop_gradient(returns)

        partner = None
        if score.estimator.paired:
            other = partner_gates(outs, jax.random.fold_in(key, score.samples))
            partner = Partner(other, returns_of(run_gates(model, objective, inputs, other)))
        # [T, M, B]: samples of a row are each other's baseline.
        drawn, z, partner = by_sample(
            ((outs.gamma, outs.gates, returns_of(outs), mask), outs.z, partner),
            score.samples,
            mask.ndim - 1,
        )
        z = jax.lax.stop_gradient(z)
        term, state = score_surrogate(score.estimator, state, *drawn, z=z, partner=partner)
        return term / jnp.maximum(mask.sum(), 1), state

    def loss(
        params: Params, state: Any, batch: Batch, key: jax.Array, budget: Budget
    ) -> tuple[jax.Array, Aux]:
        check_mask(batch, streams)
        budget = jax.tree.map(jnp.asarray, budget)
        inputs = begin(model, objective, params, batch, budget)
        outs, whole, stats = run_samples(model, objective, inputs, key)
        wide = repeat(batch, outs.log_prob.size // batch.mask.size)
        ce = losses(outs.logits, wide)
        metrics = step_metrics(objective.price, outs, ce, wide)
        if objective.measure_mode:
            cost = charge(objective.price.cost, run_mode(model, objective, inputs).gates)
            metrics["mode_cost"] = masked_mean(cost, batch.mask)
        total = masked_mean(ce, wide.mask)
        if objective.static:
            return total, Aux(state, stats, metrics)

        def paid(outs: Step) -> jax.Array:
            return losses(outs.logits, wide) + price_of(objective.price, outs.gates, budget)

        term, state = score_term(inputs, state, wide.mask, key, outs, paid)
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
    """What architectures [T, B·M, E] pay, [T, B·M], in nats."""
    weight = budget.cost_weight
    if weight.ndim:  # one per row, or per step of a row
        weight = jnp.repeat(weight, gates.shape[-2] // weight.shape[-1], axis=-1)
    paid = weight * price.penalty(charge(price.cost, gates), budget.limit)
    if price.invalid is None or not price.invalid_penalty:
        return paid
    return paid + price.invalid_penalty * price.invalid(gates)


def distances(whole: jax.Array, logits: jax.Array, labels: jax.Array, axis: int) -> jax.Array:
    """KL divergence of samples from what the whole network says, [T, M, B].

    Args:
      whole: [T, B, ..., K]; further axes are positions, over whose labelled ones is the mean.
      logits: [T, B·M, ..., K].
      labels: [T, B, ...].
      axis: of the batch: 1, or 0 where inputs are no streams.
    """
    taught = jax.nn.softmax(jax.lax.stop_gradient(whole))
    samples = logits.shape[axis] // whole.shape[axis]
    drawn = jax.nn.log_softmax(by_sample(logits, samples, axis))
    apart = optax.losses.kl_divergence(drawn, jnp.expand_dims(taught, axis))
    positions = tuple(range(axis + 2, apart.ndim))
    if not positions:
        return apart
    valid = jnp.expand_dims(labels >= 0, axis)
    total = jnp.where(valid, apart, 0).sum(positions)
    return total / jnp.maximum(valid.sum(positions), 1)


def repeat(batch: Batch, samples: int) -> Batch:
    """A batch, but for its features, as wide as `run_samples` makes the outputs."""

    def wide(x: jax.Array) -> jax.Array:
        return jnp.repeat(x, samples, axis=batch.mask.ndim - 1)

    return Batch(batch.features, *jax.tree.map(wide, batch[1:]))


def check_mask(batch: Batch, streams: bool) -> None:
    """ValueError for a batch of the other kind."""
    if batch.mask.ndim != 1 + streams:
        expected = "[T, B] of streams" if streams else "[B] of inputs that are no streams"
        raise ValueError(f"batch.mask: expected shape {expected}, got {batch.mask.shape}")


def check_no_steps(price: Price) -> None:
    """ValueError for a price of steps, of which there are none."""
    if any(isinstance(cost, StreamCost) for _, cost in (("", price.cost), *price.reported)):
        raise ValueError(
            "price: expected costs of single architectures, for inputs that are no streams; got "
            "one of the steps of a stream"
        )


def _check_no_past(model: Sanas, price: Price) -> None:
    """ValueError if a step's loss or price depends on the gates of the steps before it.

    A partner is run on the state and the values of the main chain's architecture, not of its own.
    """
    if model.net.reuse:
        raise ValueError(
            "estimator: disarm needs steps whose loss depends on their own gates; expected a net "
            f"without reuse, got {sorted(edge.name for edge in model.net.reuse.values())}"
        )
    if isinstance(price.cost, StreamCost):
        raise ValueError(
            "estimator: disarm needs steps whose cost depends on their own gates; expected a cost "
            "without memory, got one that charges for what the step before left out"
        )
