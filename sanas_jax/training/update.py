"""One optimiser step: masked forward pass, objective, score-function gradient, Adam.

`make_update` closes over what is static and returns `update(state, batch, key, budget)`, a pure
function whose array arguments can all be vmapped: many budgets are one `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import optax

from sanas_jax import gates as gates_lib
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.training.loss import Aux, make_loss
from sanas_jax.training.metrics import step_metrics
from sanas_jax.training.objective import PRECISIONS, Objective
from sanas_jax.training.state import Batch, Budget, Params, TrainState, trained
from sanas_jax.training.terms import step_loss

Update = Callable[[TrainState, Batch, jax.Array, Budget], tuple[TrainState, dict[str, jax.Array]]]


def make_update(
    model: Sanas,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    class_weights: jax.Array | None = None,
) -> Update:
    """`update(state, batch, key, budget) -> (state, metrics)`; jit it with the state donated."""

    of_step = make_loss(model, objective, class_weights)

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


def make_evaluate(
    model: Sanas, objective: Objective, class_weights: jax.Array | None = None
) -> Callable[..., dict[str, jax.Array]]:
    """`evaluate(params, batch, λ=None) -> metrics`, steps in their most probable architecture.

    λ [] is what a conditioned controller is told; it charges nothing here. A vmap over it repeats
    only the scan.
    """
    policy = gates_lib.all_on if objective.static else gates_lib.mode

    def evaluate(
        params: Params, batch: Batch, cost_weight: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        carry = init_carry(model, batch.features.shape[0], cost_weight, params.get("stats"))
        key = jax.random.key(0)  # nothing is drawn
        _, outs = unroll(model, params, carry, batch.features, key, policy=policy)
        ce = step_loss(outs.logits, batch.labels, class_weights)
        return step_metrics(objective.price, outs, ce, batch)

    return evaluate
