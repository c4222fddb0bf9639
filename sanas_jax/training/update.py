"""One optimiser step: masked forward pass, objective, score-function gradient, Adam.

`make_update` (SANAS: streams) and `make_static_update` (BSN: images) close over what is static and
return `update(state, batch, key, budget)`, a pure function whose array arguments can all be
vmapped: many budgets are one `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.static import run_static
from sanas_jax.training.loss import Aux, Loss, check_mask, check_no_steps, make_loss
from sanas_jax.training.metrics import step_metrics
from sanas_jax.training.objective import PRECISIONS, Objective
from sanas_jax.training.state import Batch, Budget, Params, TrainState, trained
from sanas_jax.training.terms import step_loss

Update = Callable[[TrainState, Batch, jax.Array, Budget], tuple[TrainState, dict[str, jax.Array]]]
Evaluate = Callable[..., dict[str, jax.Array]]


def make_update(
    model: Sanas,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    class_weights: jax.Array | None = None,
) -> Update:
    """`update(state, batch, key, budget) -> (state, metrics)`; jit it with the state donated."""
    return _update(make_loss(model, objective, class_weights), optimizer, objective)


def make_static_update(
    model: Sanas,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    class_weights: jax.Array | None = None,
) -> Update:
    """The update of a Γ that no input changes (BSN, section 3.2), for a `Batch` without steps.

    Γ is what the controller says at first: a parameter for each edge with the cell `Constant`, and
    the same without a cell's weights for any other.
    """
    loss = make_loss(model, objective, class_weights, streams=False)
    return _update(loss, optimizer, objective)


def make_evaluate(
    model: Sanas, objective: Objective, class_weights: jax.Array | None = None
) -> Evaluate:
    """`evaluate(params, batch, λ=None) -> metrics`, steps in their most probable architecture.

    λ [] is what a conditioned controller is told; it charges nothing here. A vmap over it repeats
    only the scan.
    """
    return _evaluate(model, objective, class_weights, streams=True)


def make_static_evaluate(
    model: Sanas, objective: Objective, class_weights: jax.Array | None = None
) -> Evaluate:
    """The same for a `Batch` without steps: all of it in the most probable architecture."""
    return _evaluate(model, objective, class_weights, streams=False)


def _update(of_step: Loss, optimizer: optax.GradientTransformation, objective: Objective) -> Update:
    """A step down a loss."""

    def update(
        state: TrainState, batch: Batch, key: jax.Array, budget: Budget
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        old = trained(state.params)

        def loss(params: Params) -> tuple[jax.Array, Aux]:
            return of_step(state.params | params, state.estimator_state, batch, key, budget)

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


def _evaluate(
    model: Sanas, objective: Objective, class_weights: jax.Array | None, streams: bool
) -> Evaluate:
    run = unroll if streams else run_static
    if not streams:
        check_no_steps(objective.price)
    policy = gates_lib.all_on if objective.static else gates_lib.mode

    def evaluate(
        params: Params, batch: Batch, cost_weight: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_mask(batch, streams)
        carry = init_carry(model, batch.features.shape[0], cost_weight, params.get("stats"))
        key = jax.random.key(0)  # nothing is drawn
        _, outs = run(model, params, carry, batch.features, key, policy=policy)
        ce = step_loss(outs.logits, batch.labels, class_weights, axes=batch.mask.ndim)
        return step_metrics(objective.price, outs, ce, batch)

    return evaluate
