"""Adam for two groups of parameters: the network's weights and the controller's."""

from __future__ import annotations

from typing import Any

import jax
import optax


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    controller_learning_rate: optax.ScalarOrSchedule | None = None,
    weight_decay: float = 1e-5,
    max_grad_norm: float | None = None,
    relative: bool = False,
    decoupled: bool = False,
) -> optax.GradientTransformation:
    """Adam with two groups: the network's weights (L2 `weight_decay`) and the controller's.

    Args:
      learning_rate: of the network's weights (and the controller's, unless given).
      controller_learning_rate: of cell and gate head.
      weight_decay: L2 added to the gradient of the network's weights.
      max_grad_norm: clipping per group, so that the score function's noise does not shrink the
        network's steps.
      relative: the network's steps are shares of each tensor's own RMS (Adafactor, section 8). A
        plain Adam step moves every weight equally far, which for a dense layer over 57,728
        correlated inputs is enough to kill all its ReLUs in a few steps.
      decoupled: weights decay by `weight_decay` times the rate, whatever their gradient (AdamW,
        Loshchilov & Hutter 2019), and vectors (biases, scales of norms) do not.
    """

    def adam(
        rate: optax.ScalarOrSchedule, decay: float, relative: bool
    ) -> optax.GradientTransformation:
        parts = [] if max_grad_norm is None else [optax.clip_by_global_norm(max_grad_norm)]
        if decay and not decoupled:
            parts.append(optax.add_decayed_weights(decay))
        parts.append(optax.scale_by_adam())
        if relative:
            # The smallest scale lets biases leave 0; it is below every kernel's initial RMS.
            parts.append(optax.scale_by_param_block_rms(min_scale=2e-3))
        if decay and decoupled:
            parts.append(optax.add_decayed_weights(decay, _matrices))
        return optax.chain(*parts, optax.scale_by_learning_rate(rate))

    other = learning_rate if controller_learning_rate is None else controller_learning_rate
    return optax.multi_transform(
        {
            "net": adam(learning_rate, weight_decay, relative),
            "controller": adam(other, 0.0, False),
        },
        {"net": "net", "controller": "controller"},
    )


def _matrices(params: Any) -> Any:
    """Which parameters decay: those with two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
