"""One optimiser step: masked forward pass, objective, score-function gradient, Adam.

`make_update` closes over what is static and returns `update(state, batch, key, budget)`, a pure
function whose array arguments can all be vmapped: many budgets are one `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.costs import Cost
from sanas_jax.estimators import Estimator, Partner, batch_mean, paired_surrogate, surrogate
from sanas_jax.forward import DType
from sanas_jax.rollout import Carry, Policy, Sanas, Step, init_carry, init_model, unroll
from sanas_jax.streaming.scores import confusion, frame_accuracy
from sanas_jax.training.terms import Penalty, masked_mean, max_penalty, returns_to_go, step_loss

Params = dict[str, Any]

# Names of `Objective.precision`, and jax's for what the device may make of float32 operands.
PRECISIONS = {"default": None, "float32": "float32", "tf32": "tensorfloat32", "bfloat16": None}


class Batch(NamedTuple):
    """Streams of features [B, frames, ...] with labels and mask [T, B] (time-major).

    An image is a stream of one step. Labels [T, B, H, W] are of pixels; those below 0 are void.
    `weight` [T, B] says how much the loss of a step counts in training, None: all alike.
    """

    features: jax.Array
    labels: jax.Array
    mask: jax.Array
    weight: jax.Array | None = None


class Budget(NamedTuple):
    """The trade: λ, price of one unit of cost, above `limit` in the same unit.

    Arrays []; λ may be [B], a price for each stream, which a conditioned controller is told.
    """

    cost_weight: jax.Array
    limit: jax.Array


class TrainState(NamedTuple):
    """Everything that a step changes. Kill and restore it, and training goes on as before.

    `params` are those of `rollout.init_model`; `opt_state` is of the trained ones: running
    statistics (`params["stats"]`) are advanced by the forward pass. `average` is a moving average
    of `params`, None unless the objective asks for one.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    estimator_state: Any
    average: Params | None = None

    @property
    def deployed(self) -> Params:
        """What is validated and used: the averaged parameters, where there are any."""
        return self.params if self.average is None else self.average


@dataclass(frozen=True)
class Objective:
    """Static part of what is minimised.

    The score function credits a row's gates with that row's loss. Where blocks normalise with the
    batch, rows also act on each other; that part is left out.

    Fields:
      cost: gates [..., E] → [...]; in units of the budget.
      reported: further costs by name, measured beside it, never charged.
      invalid: gates → 1 where nothing live reaches the output, and `invalid_penalty`, in nats, what
        such an architecture pays (BSN's penalty for inconsistent architectures).
      static: train the plain super-network, all gates on, without controller or score function.
      discount: γ of the returns to go; 1 is the objective's own gradient.
      penalty: of cost against the budget's limit.
      samples: M architectures per stream and step. They share the trunk: only the scan is repeated.
      estimator: of the score-function term; `leave_one_out` needs M ≥ 2, `disarm` γ = 0.
      entropy_weight: bonus per nat of the architecture's entropy.
      label_smoothing: share of a label's probability that is spread over all classes, in training.
      full_weight, distill_weight: beside each sampled architecture the whole network is trained, on
        the labels with `full_weight`, and teaches the sampled ones with `distill_weight`: its
        posteriors are their soft labels (the sandwich rule's in-place distillation, Yu & Huang,
        ICCV 2019). Neither enters the reward, so gates answer to labels and cost alone.
      precision: of the network's arithmetic in training, a key of `PRECISIONS`. "default" is what
        the device does by itself (TF32 on recent NVIDIA, bfloat16 passes on a TPU); "float32" and
        "tf32" ask for it; "bfloat16" computes convolutions and the trunk in it, with weights,
        sums, losses and statistics in float32.
      average_decay: of the moving average of the parameters (Polyak); 0 for none.
      measure_mode: also report `mode_cost`, that of the most probable architectures: what is
        deployed. One scan more, without a gradient.
    """

    cost: Cost
    static: bool = False
    discount: float = 1.0
    penalty: Penalty = max_penalty
    samples: int = 1
    estimator: Estimator = field(default_factory=batch_mean)
    entropy_weight: float = 0.0
    measure_mode: bool = False
    reported: tuple[tuple[str, Cost], ...] = ()
    invalid: Cost | None = None
    invalid_penalty: float = 0.0
    label_smoothing: float = 0.0
    full_weight: float = 0.0
    distill_weight: float = 0.0
    average_decay: float = 0.0
    precision: str = "default"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {sorted(PRECISIONS)}, got {self.precision!r}"
            )
        for name in ("label_smoothing", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 0 to less than 1, got {getattr(self, name)}")
        for name in ("full_weight", "distill_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.estimator.paired and self.discount != 0:
            raise ValueError(
                "estimator: disarm credits a gate with its own step only; expected discount 0, got "
                f"{self.discount}"
            )

    @property
    def dtype(self) -> DType:
        """What the network's blocks compute in; None: as their weights."""
        return jnp.bfloat16 if self.precision == "bfloat16" else None


Update = Callable[[TrainState, Batch, jax.Array, Budget], tuple[TrainState, dict[str, jax.Array]]]


def init_state(
    model: Sanas, optimizer: optax.GradientTransformation, objective: Objective, key: jax.Array
) -> TrainState:
    """Fresh state; vmap over keys for several seeds."""
    params = init_model(model, key)
    opt_state = optimizer.init(trained(params))
    # A copy: the update donates both.
    average = jax.tree.map(jnp.copy, params) if objective.average_decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, opt_state, objective.estimator.init(), average)


def trained(params: Params) -> Params:
    """The part of a model's parameters that gradients change."""
    return {name: part for name, part in params.items() if name != "stats"}


def make_update(
    model: Sanas,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    class_weights: jax.Array | None = None,
) -> Update:
    """`update(state, batch, key, budget) -> (state, metrics)`; jit it with the state donated."""

    def update(
        state: TrainState, batch: Batch, key: jax.Array, budget: Budget
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        old = trained(state.params)

        def loss(params: Params) -> tuple[jax.Array, _Aux]:
            params = state.params | params
            return _loss(
                model, objective, class_weights, params, state.estimator_state, batch, key, budget
            )

        asked = PRECISIONS[objective.precision]
        with jax.default_matmul_precision(asked) if asked else nullcontext():
            grads, (estimator_state, stats, metrics) = jax.grad(loss, has_aux=True)(old)
        updates, opt_state = optimizer.update(grads, state.opt_state, old)
        params = dict(optax.apply_updates(old, updates))
        if stats is not None:
            params["stats"] = stats
        metrics["grad_norm"] = optax.tree.norm(grads)
        average = state.average
        if average is not None:
            # As long a memory as there are steps: at first it would hold what was drawn at random.
            decay = jnp.minimum(objective.average_decay, (1 + state.step) / (10 + state.step))
            average = optax.incremental_update(params, average, 1 - decay)
        return TrainState(state.step + 1, params, opt_state, estimator_state, average), metrics

    return update


def make_evaluate(
    model: Sanas, objective: Objective, class_weights: jax.Array | None = None
) -> Callable[..., dict[str, jax.Array]]:
    """`evaluate(params, batch, key, λ=None) -> metrics`, steps in their most probable architecture.

    λ [] is what a conditioned controller is told; it charges nothing here. A vmap over it repeats
    only the scan.
    """
    policy = gates_lib.all_on if objective.static else gates_lib.mode

    def evaluate(
        params: Params, batch: Batch, key: jax.Array, cost_weight: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        carry = init_carry(model, batch.features.shape[0], cost_weight, params.get("stats"))
        _, outs = unroll(model, params, carry, batch.features, key, policy=policy)
        ce = step_loss(outs.logits, batch.labels, class_weights)
        return _metrics(objective, outs, ce, batch)

    return evaluate


class _Aux(NamedTuple):
    """Side results of a step: states of estimator and network, metrics."""

    estimator_state: Any
    stats: Any
    metrics: dict[str, jax.Array]


def _loss(
    model: Sanas,
    objective: Objective,
    class_weights: jax.Array | None,
    params: Params,
    estimator_state: Any,
    batch: Batch,
    key: jax.Array,
    budget: Budget,
) -> tuple[jax.Array, _Aux]:
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
    metrics = _metrics(objective, outs, ce, batch) | mode_cost
    if objective.static:
        return masked_mean(ce, batch.mask), _Aux(estimator_state, stats, metrics)

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
    return total, _Aux(estimator_state, stats, metrics)


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


def _metrics(objective: Objective, outs: Step, ce: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Means over the valid steps, and counts that add up over batches.

    confusion: [K, K] label × prediction, of steps or pixels; steps_by_label: [K]; live_by_label:
    [K, E] steps in which an edge was live. A step with many labelled pixels counts in shares.
    """
    num_classes = outs.logits.shape[-1]
    predictions = outs.logits.argmax(-1)
    positions = tuple(range(2, batch.labels.ndim))
    labelled = jnp.expand_dims(batch.mask, positions) & (batch.labels >= 0)
    of_label = jax.nn.one_hot(batch.labels, num_classes) * labelled[..., None]
    of_label = of_label.sum(positions) / jnp.maximum(labelled.sum(positions), 1)[..., None]
    reported = {
        f"cost_{name}": masked_mean(cost(outs.gates), batch.mask)
        for name, cost in objective.reported
    }
    return reported | {
        "loss": masked_mean(ce, batch.mask),
        "frame_accuracy": frame_accuracy(batch.labels, predictions, labelled),
        "cost": masked_mean(objective.cost(outs.gates), batch.mask),
        "live_by_label": jnp.einsum("tbe,tbk->ke", outs.live, of_label),
        "steps_by_label": of_label.sum((0, 1)),
        "confusion": confusion(batch.labels, predictions, labelled, num_classes),
    }
