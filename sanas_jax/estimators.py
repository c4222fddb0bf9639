"""Score-function gradients: ∇ E[D] = E[ ∇log P(H|Γ) · (D − b) ] + E[ ∇_θ D ]  (BSN, eq. 9).

The baseline b must not depend on the sample that it is subtracted from; then the gradient is
unbiased whatever b is. A baseline is three pure functions, so that its state lives in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax.gates import Gamma, as_gamma, log_prob, sample

Objective = Callable[[Any, jax.Array], jax.Array]


class Baseline(NamedTuple):
    """A baseline for returns [T, M, B] (M samples per stream; or [S]) with a mask of that shape.

    Fields:
      init: () → state.
      value: (state, returns, mask) → b, broadcastable to returns.
      update: (state, returns, mask) → state, called after `value`.
    """

    init: Callable[[], Any]
    value: Callable[[Any, jax.Array, jax.Array], jax.Array]
    update: Callable[[Any, jax.Array, jax.Array], Any]


class MeanState(NamedTuple):
    """Exponential average of the mean return: `mean` [] and the weight seen so far, `weight` []."""

    mean: jax.Array
    weight: jax.Array


def moving_average(decay: float = 0.9) -> Baseline:
    """Average of past batches' mean returns; the present batch enters only afterwards.

    The average is divided by the weight seen so far, so that the first batches are not pulled to 0;
    the very first has baseline 0.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay: expected a number in [0, 1), got {decay}")

    def init() -> MeanState:
        return MeanState(jnp.zeros(()), jnp.zeros(()))

    def value(state: MeanState, returns: jax.Array, mask: jax.Array) -> jax.Array:
        del returns, mask
        return jnp.where(state.weight > 0, state.mean / jnp.maximum(state.weight, 1e-6), 0.0)

    def update(state: MeanState, returns: jax.Array, mask: jax.Array) -> MeanState:
        weights = jnp.asarray(mask, returns.dtype)
        mean = jnp.sum(returns * weights) / jnp.maximum(weights.sum(), 1)
        return MeanState(
            decay * state.mean + (1 - decay) * mean, decay * state.weight + (1 - decay)
        )

    return Baseline(init, value, update)


def batch_mean() -> Baseline:
    """Mean return of the *other* samples of the batch, per step.

    The plain batch mean contains the sample itself, which shrinks the gradient by 1 − 1/B; leaving
    it out is unbiased at the same price. Along a stream each step has its own mean, since returns
    to go shrink with t. A sample with no other valid one has baseline 0.
    """

    def value(state: tuple[()], returns: jax.Array, mask: jax.Array) -> jax.Array:
        del state
        weights = jnp.asarray(mask, returns.dtype)
        total = jnp.sum(returns * weights, axis=-1, keepdims=True)
        count = jnp.sum(weights, axis=-1, keepdims=True)
        others = count - weights
        return jnp.where(others > 0, (total - returns * weights) / jnp.maximum(others, 1), 0.0)

    return Baseline(lambda: (), value, lambda state, returns, mask: state)


def leave_one_out() -> Baseline:
    """Mean return of the other architectures drawn for the *same* stream, returns [T, M, B].

    Silence is easy and words are hard: across a batch, returns differ by what was said far more
    than by what was run. Samples of one stream share the stream, so their mean takes that out; with
    the trunk shared, more samples repeat only the scan (Kool, van Hoof & Welling, 2019).
    """

    def value(state: tuple[()], returns: jax.Array, mask: jax.Array) -> jax.Array:
        del state, mask
        if returns.ndim != 3 or returns.shape[1] < 2:
            raise ValueError(
                "leave_one_out: expected returns [T, M, B] of at least 2 samples per stream, "
                f"got {returns.shape}"
            )
        others = jnp.sum(returns, axis=1, keepdims=True) - returns
        return others / (returns.shape[1] - 1)

    return Baseline(lambda: (), value, lambda state, returns, mask: state)


def no_baseline() -> Baseline:
    """b = 0: plain REINFORCE."""
    return Baseline(
        lambda: (),
        lambda state, returns, mask: jnp.zeros_like(returns),
        lambda state, returns, mask: state,
    )


def surrogate(
    log_probs: jax.Array, returns: jax.Array, baseline: jax.Array, mask: jax.Array
) -> jax.Array:
    """Σ log P(H) · (R − b) over valid entries: its gradient is the score-function term.

    Its value means nothing. Returns and baseline are constants here: what they owe to the
    parameters is the other term, ∇_θ D.
    """
    advantage = jax.lax.stop_gradient(returns - baseline)
    return jnp.sum(jnp.where(mask, log_probs * advantage, 0))


class Estimate(NamedTuple):
    """Side results of `score_function_grad`: values [S], gates [S, E], baseline_state."""

    values: jax.Array
    gates: jax.Array
    baseline_state: Any


def score_function_grad(
    objective: Objective,
    params: Any,
    gamma: Gamma | jax.Array,
    key: jax.Array,
    *,
    num_samples: int,
    baseline: Baseline | None = None,
    baseline_state: Any = None,
) -> tuple[tuple[Any, Gamma | jax.Array], Estimate]:
    """Unbiased gradient of E_{H~Γ}[ objective(params, H) ] in params and Γ (BSN, section 3.2).

    Args:
      objective: (params, gates [S, E]) → D [S], differentiable in params; row s may use any example
        but only architecture s.
      params: any pytree.
      gamma: `Gamma` (logits) or probabilities [E], or [S, E] with one distribution per sample; the
        gradient has the same form.
      key: typed key.
      num_samples: S.
      baseline: `batch_mean()` (default), `moving_average()`, `no_baseline()`.
      baseline_state: its state; fresh by default.

    Returns:
      ((∂params, ∂Γ), Estimate).
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
    baseline = batch_mean() if baseline is None else baseline
    state = baseline.init() if baseline_state is None else baseline_state
    num_edges = as_gamma(gamma).logits.shape[-1]

    def loss(params: Any, gamma: Gamma | jax.Array) -> tuple[jax.Array, Estimate]:
        logits = jnp.broadcast_to(as_gamma(gamma).logits, (num_samples, num_edges))
        gates = jax.lax.stop_gradient(sample(Gamma(logits), key))
        values = objective(params, gates)
        if values.shape != (num_samples,):
            raise ValueError(f"objective: expected values [{num_samples}], got {values.shape}")
        fixed, mask = jax.lax.stop_gradient(values), jnp.ones(num_samples, bool)
        b = baseline.value(state, fixed, mask)
        score = surrogate(log_prob(gates, Gamma(logits)), fixed, b, mask)
        aux = Estimate(fixed, gates, baseline.update(state, fixed, mask))
        return (values.sum() + score) / num_samples, aux

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, gamma)
