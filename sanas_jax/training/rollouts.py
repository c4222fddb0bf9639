"""What a training step runs: architectures along the streams of a batch, or once on its inputs.

All of them share one trunk. Where the whole network is run beside the samples, it is a row more of
theirs: one computation, whose trunk is differentiated once. Axes [T, ...] are of streams alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax import gates as gates_lib
from sanas_jax.forward import Trunk
from sanas_jax.gates import Gamma
from sanas_jax.rollout import Carry, Policy, Sanas, Step, init_carry, run_trunk, unroll
from sanas_jax.static import run_static, static_trunk
from sanas_jax.training.objective import Objective
from sanas_jax.training.state import Batch, Budget, Params


class Inputs(NamedTuple):
    """What all rollouts of a batch share: weights, start, features [B, ...], trunk, and the mask,
    [T, B] of the steps of streams that count, or [B] of inputs that are no streams; and the prices
    [T, B] that are told along streams, None where they do not change."""

    params: Params
    carry: Carry
    features: jax.Array
    trunk: Trunk
    mask: jax.Array
    prices: jax.Array | None = None

    def run(
        self,
        model: Sanas,
        objective: Objective,
        key: jax.Array,
        *,
        policy: Policy = gates_lib.sample,
        gates: jax.Array | None = None,
        train: bool = True,
        remat: bool = False,
    ) -> tuple[Carry, Step]:
        """One architecture for each step or input; as `unroll` and `run_static`."""
        run = run_static
        if self.mask.ndim == 2:
            run = partial(unroll, cost_weight=self.prices)
        return run(
            model,
            self.params,
            self.carry,
            self.features,
            key,
            policy=policy,
            gates=gates,
            train=train,
            remat=remat,
            dtype=objective.dtype,
            trunk=self.trunk,
            mask=self.mask,
        )


class Rollouts(NamedTuple):
    """What a training step has run.

    Fields:
      samples: M architectures drawn for each row, as one wide batch: fields [T, B·M, ...]. A row's
        own are neighbours, so that rows split over devices stay where they are.
      whole: logits of the whole network [T, B, ...]; None where nobody asks for them.
      stats: running statistics after the step, the mean over the samples.
    """

    samples: Step
    whole: jax.Array | None
    stats: Any


def begin(
    model: Sanas, objective: Objective, params: Params, batch: Batch, budget: Budget
) -> Inputs:
    """Start of a batch, and its trunk in training."""
    price, prices = budget.cost_weight, None
    if price.ndim == 2:
        if price.shape != batch.mask.shape:
            raise ValueError(
                "budget.cost_weight: expected a price, one for each row, or one for each step of "
                f"streams, {batch.mask.shape}, got {price.shape}"
            )
        price, prices = price[0], price
    carry = init_carry(model, batch.features.shape[0], price, params.get("stats"))
    trunk = (run_trunk if batch.mask.ndim == 2 else static_trunk)(
        model, params, carry, batch.features, train=True, dtype=objective.dtype, mask=batch.mask
    )
    return Inputs(params, carry, batch.features, trunk, batch.mask, prices)


def run_samples(model: Sanas, objective: Objective, inputs: Inputs, key: jax.Array) -> Rollouts:
    """M rollouts of each row and that of the whole network; a static objective has this alone.

    Each rollout is a batch of its own for BatchNorm.
    """
    samples = 1 if objective.static else objective.score.samples
    rows = samples + (objective.teach.by_whole and not objective.static)
    keys = jax.random.split(key, samples)[jnp.arange(rows) % samples]
    is_whole = jnp.arange(rows) >= (0 if objective.static else samples)
    axis = inputs.mask.ndim - 1

    def rollout(key: jax.Array, is_whole: jax.Array) -> tuple[Step, Any]:
        def policy(gamma: Gamma, key: jax.Array) -> jax.Array:
            return jnp.where(is_whole, gates_lib.all_on(gamma), gates_lib.sample(gamma, key))

        end, outs = inputs.run(model, objective, key, policy=policy, remat=objective.remat)
        return outs, end.stats

    outs, stats = jax.vmap(rollout, out_axes=(axis + 1, 0))(keys, is_whole)
    before = (slice(None),) * (axis + 1)
    whole = outs.logits[(*before, samples)] if rows > samples else None
    stats = jax.tree.map(lambda x: jax.lax.stop_gradient(x[:samples].mean(0)), stats)
    drawn = jax.tree.map(lambda x: x[(*before, slice(samples))], outs)
    return Rollouts(_wide(drawn, axis), whole, stats)


def run_gates(model: Sanas, objective: Objective, inputs: Inputs, gates: jax.Array) -> Step:
    """What given architectures [T, B·M, E] answer, without a gradient.

    A step's logits depend on the state through its gates alone, so those of a partner are right
    although the state here is not the one that the pair was drawn from.
    """
    inputs = jax.lax.stop_gradient(inputs)
    axis = inputs.mask.ndim - 1

    def rollout(gates: jax.Array) -> Step:
        key = jax.random.key(0)  # nothing is drawn
        return inputs.run(model, objective, key, gates=gates)[1]

    samples = gates.shape[axis] // inputs.mask.shape[axis]
    return _wide(jax.vmap(rollout, axis, axis + 1)(by_sample(gates, samples, axis)), axis)


def run_mode(model: Sanas, objective: Objective, inputs: Inputs) -> Step:
    """The most probable architectures on the same trunk, [T, B, ...], without a gradient."""
    inputs = jax.lax.stop_gradient(inputs)
    key, policy = jax.random.key(0), gates_lib.mode  # nothing is drawn
    return inputs.run(model, objective, key, policy=policy, train=False)[1]


def partner_gates(outs: Step, key: jax.Array) -> jax.Array:
    """An antithetic architecture for each that was drawn, [T, B·M, E]."""
    return jax.lax.stop_gradient(gates_lib.antithetic(outs.gates, outs.gamma, key))


def by_sample(tree: Any, samples: int, axis: int) -> Any:
    """Arrays [T, B·M, ...] as [T, M, B, ...]; `axis` is that of the batch: 1, or 0 without T."""

    def split(x: jax.Array) -> jax.Array:
        rows = x.reshape(*x.shape[:axis], -1, samples, *x.shape[axis + 1 :])
        return jnp.swapaxes(rows, axis, axis + 1)

    return jax.tree.map(split, tree)


def _wide(outs: Step, axis: int) -> Step:
    """Fields [T, B, M, ...] as [T, B·M, ...]."""
    return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :]), outs)
