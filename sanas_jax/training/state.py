"""What a training step takes and changes: parameters, optimiser, batch, price."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sanas_jax.rollout import Sanas, init_model
from sanas_jax.training.objective import Objective

Params = dict[str, Any]


class Batch(NamedTuple):
    """Streams of features [B, frames, ...] with labels and mask [T, B] (time-major).

    Or inputs that are no streams, images: features [B, ...] with labels and mask [B]. Labels with
    axes more, [..., H, W], are of pixels; those below 0 are void. `weight`, as the mask, says how
    much the loss of a step counts in training, None: all alike. `taught` [T, B, ..., K] are another
    network's posteriors, None: nobody teaches.
    """

    features: jax.Array
    labels: jax.Array
    mask: jax.Array
    weight: jax.Array | None = None
    taught: jax.Array | None = None


class Budget(NamedTuple):
    """The trade: λ, price of one unit of cost, above `limit` in the same unit.

    Arrays []; λ may be [B], a price for each stream, or [T, B], for each of its steps: what a
    conditioned controller is told.
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


def init_state(
    model: Sanas, optimizer: optax.GradientTransformation, objective: Objective, key: jax.Array
) -> TrainState:
    """Fresh state; vmap over keys for several seeds."""
    params = init_model(model, key)
    opt_state = optimizer.init(trained(params))
    # A copy: the update donates both.
    average = jax.tree.map(jnp.copy, params) if objective.average_decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, opt_state, objective.score.estimator.init(), average)


def trained(params: Params) -> Params:
    """The part of a model's parameters that gradients change."""
    return {name: part for name, part in params.items() if name != "stats"}
