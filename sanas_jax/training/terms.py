"""What is minimised: the loss Δ, the price of the cost, and returns along a stream.

SANAS: E_A[ Σ_t Δ_t + λ C(A_t) ];  BSN: E_H[ Δ + λ max(0, C(H⊙E) − C) ] (BSN, eq. 7). A budget of 0
makes the second the first.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Penalty = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None = None,
    smoothing: float = 0.0,
    *,
    taught: jax.Array | None = None,
    teacher_weight: float = 0.0,
) -> jax.Array:
    """Class-weighted cross-entropy per step, in nats.

    Args:
      logits: [..., K].
      labels: [...] integers; entries outside 0..K−1 (padding) give finite values to be masked.
      class_weights: [K] or None for ones.
      smoothing: share of the label's probability that is spread evenly over all classes.
      taught: [..., K] what another network says, probabilities; None: the label is all there is.
      teacher_weight: share of the loss that is cross-entropy to those, before class weights.
    """
    num_classes = logits.shape[-1]
    safe = jnp.clip(labels, 0, num_classes - 1)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, safe)
    if smoothing:
        even = -jax.nn.log_softmax(logits).mean(-1)
        loss = (1 - smoothing) * loss + smoothing * even
    if taught is not None:
        told = optax.softmax_cross_entropy(logits, taught)
        loss = (1 - teacher_weight) * loss + teacher_weight * told
    return loss if class_weights is None else loss * jnp.asarray(class_weights)[safe]


def step_loss(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None = None,
    smoothing: float = 0.0,
    axes: int = 2,
    *,
    taught: jax.Array | None = None,
    teacher_weight: float = 0.0,
) -> jax.Array:
    """Cross-entropy of each step, [T, B]: of its label, or the mean over its labelled positions.

    Args:
      logits: [T, B, ..., K]; further axes are positions (pixels of a segmentation).
      labels: [T, B, ...]; positions below 0 are void.
      class_weights: [K] or None for ones.
      smoothing, taught, teacher_weight: as in `cross_entropy`.
      axes: that are no positions: 2 along streams; 1, [B, ...], where inputs are no streams.
    """
    loss = cross_entropy(
        *(logits, labels, class_weights, smoothing), taught=taught, teacher_weight=teacher_weight
    )
    positions = tuple(range(axes, loss.ndim))
    if not positions:
        return loss
    valid = labels >= 0
    return jnp.where(valid, loss, 0).sum(positions) / jnp.maximum(valid.sum(positions), 1)


def max_penalty(cost: jax.Array, budget: jax.Array) -> jax.Array:
    """BSN's soft constraint: what exceeds the budget."""
    return jnp.maximum(cost - budget, 0)


def abs_penalty(cost: jax.Array, budget: jax.Array) -> jax.Array:
    """BSN's two-sided form: distance to the budget, so that an unused budget costs as well."""
    return jnp.abs(cost - budget)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the entries where `mask` holds; 0 where none does."""
    weights = jnp.asarray(mask, values.dtype)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(weights.sum(), 1)


def returns_to_go(values: jax.Array, mask: jax.Array, discount: float | jax.Array) -> jax.Array:
    """R_t = Σ_{s≥t} γ^{s−t} v_s over the valid steps, [T, ...].

    γ = 1 is the gradient of the objective itself; γ = 0 credits a gate with its own step only.

    Args:
      values: [T, ...] per-step losses.
      mask: [T, ...] bool, valid steps.
      discount: γ in [0, 1].
    """
    values = jnp.where(mask, values, 0)

    def backward(later: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = value + discount * later
        return now, now

    _, returns = jax.lax.scan(backward, jnp.zeros_like(values[0]), values, reverse=True)
    return returns


def class_weights(counts: jax.Array) -> jax.Array:
    """total / (count · K) per class [K]; a class that never occurs gets weight 0."""
    counts = jnp.asarray(counts, jnp.float32)
    weights = counts.sum() / (jnp.maximum(counts, 1) * counts.shape[0])
    return jnp.where(counts > 0, weights, 0)
