"""Score-function gradients: ∇ E[D] = E[ ∇log P(H|Γ) · (D − b) ] + E[ ∇_θ D ]  (BSN, eq. 9).

The baseline b must not depend on the sample that it is subtracted from; then the gradient is
unbiased whatever b is. DisARM needs none: it weighs each architecture against an antithetic one.

An estimator is a few pure functions, so that its state lives in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax.gates import Gamma, antithetic, as_gamma, log_prob, sample

Objective = Callable[[Any, jax.Array], Any]


class Estimator(NamedTuple):
    """How the score-function term is estimated, for returns [S], [M, B] or [T, M, B].

    M architectures were drawn for each of B inputs, or for each step of B streams. `mask` has the
    shape of the returns, `z` [..., M, B, Z] is the controller's state that each architecture was
    drawn from; it is not passed where there is no controller.

    Fields:
      init: () → state.
      value: (state, returns, mask, z) → b, broadcastable to returns.
      update: (state, returns, mask, z) → state, called after `value`.
      paired: DisARM; b is not used.
    """

    init: Callable[[], Any]
    value: Callable[..., jax.Array]
    update: Callable[..., Any]
    paired: bool = False


class Partner(NamedTuple):
    """An antithetic architecture of each sample: gates [..., E] and what it returns [...]."""

    gates: jax.Array
    returns: jax.Array


class MeanState(NamedTuple):
    """Exponential average of the mean return: `mean` [] and the weight seen so far, `weight` []."""

    mean: jax.Array
    weight: jax.Array


def moving_average(decay: float = 0.9) -> Estimator:
    """Average of past batches' mean returns; the present batch enters only afterwards.

    The average is divided by the weight seen so far, so that the first batches are not pulled to 0;
    the very first has baseline 0.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay: expected a number in [0, 1), got {decay}")

    def init() -> MeanState:
        return MeanState(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    def value(state: MeanState, returns: jax.Array, mask: jax.Array, z: Any = None) -> jax.Array:
        del returns, mask, z
        return jnp.where(state.weight > 0, state.mean / jnp.maximum(state.weight, 1e-6), 0.0)

    def update(state: MeanState, returns: jax.Array, mask: jax.Array, z: Any = None) -> MeanState:
        del z
        weights = jnp.asarray(mask, returns.dtype)
        mean = jnp.sum(returns * weights) / jnp.maximum(weights.sum(), 1)
        return MeanState(
            decay * state.mean + (1 - decay) * mean, decay * state.weight + (1 - decay)
        )

    return Estimator(init, value, update)


def batch_mean() -> Estimator:
    """Mean return of the *other* samples of the batch, per step: of all M·B in [..., M, B].

    The plain batch mean contains the sample itself, which shrinks the gradient by 1 − 1/B; leaving
    it out is unbiased at the same price. Along a stream each step has its own mean, since returns
    to go shrink with t. A sample with no other valid one has baseline 0.
    """

    def value(state: tuple[()], returns: jax.Array, mask: jax.Array, z: Any = None) -> jax.Array:
        del state, z
        weights = jnp.asarray(mask, returns.dtype)
        samples = (-2, -1) if returns.ndim > 1 else -1
        total = jnp.sum(returns * weights, axis=samples, keepdims=True)
        count = jnp.sum(weights, axis=samples, keepdims=True)
        others = count - weights
        return jnp.where(others > 0, (total - returns * weights) / jnp.maximum(others, 1), 0.0)

    return _stateless(value)


def leave_one_out() -> Estimator:
    """Mean return of the other architectures drawn for the *same* input, returns [..., M, B].

    Silence is easy and words are hard: across a batch, returns differ by what was said far more
    than by what was run. Samples of one stream share the stream, so their mean takes that out; with
    the trunk shared, more samples repeat only the scan (Kool, van Hoof & Welling, 2019).
    """

    def value(state: tuple[()], returns: jax.Array, mask: jax.Array, z: Any = None) -> jax.Array:
        del state, mask, z
        if returns.ndim < 2 or returns.shape[-2] < 2:
            raise ValueError(
                "leave_one_out: expected returns [..., M, B] of at least 2 samples per input, "
                f"got {returns.shape}"
            )
        others = jnp.sum(returns, axis=-2, keepdims=True) - returns
        return others / (returns.shape[-2] - 1)

    return _stateless(value)


class LinearFit(NamedTuple):
    """Averaged moments of inputs and returns: [D, D] and [D]. Their common weight cancels."""

    squares: jax.Array
    products: jax.Array


def learned_value(state_size: int, decay: float = 0.9, ridge: float = 1e-3) -> Estimator:
    """V(z_t, steps to go): what a stream's state says of its returns, per step.

    Linear in z_t, 1 and the number of valid steps from t on, by least squares over past batches
    (exponentially averaged): no learning rate. Neither the fit nor its inputs depend on the
    architecture drawn at t, so the gradient stays unbiased.

    Args:
      state_size: Z.
      decay: of the average over batches.
      ridge: penalty on the weights, relative to the mean square of the inputs.
    """
    size = state_size + 2

    def inputs(returns: jax.Array, mask: jax.Array, z: jax.Array | None) -> jax.Array:
        if z is None or z.shape != (*returns.shape, state_size):
            raise ValueError(
                f"learned_value: expected a controller's states {(*returns.shape, state_size)}, "
                f"got {None if z is None else z.shape}"
            )
        steps = mask if mask.ndim == 3 else mask[None]  # [M, B] are of one step
        to_go = jnp.cumsum(steps[::-1], 0, dtype=returns.dtype)[::-1] / steps.shape[0]
        to_go = to_go.reshape(mask.shape)
        return jnp.concatenate([z, jnp.ones_like(to_go)[..., None], to_go[..., None]], -1)

    def init() -> LinearFit:
        return LinearFit(jnp.zeros((size, size), jnp.float32), jnp.zeros(size, jnp.float32))

    def value(
        state: LinearFit, returns: jax.Array, mask: jax.Array, z: jax.Array | None = None
    ) -> jax.Array:
        scale = jnp.trace(state.squares) / size
        regular = state.squares + (ridge * scale + 1e-8) * jnp.eye(size, dtype=jnp.float32)
        return inputs(returns, mask, z) @ jnp.linalg.solve(regular, state.products)

    def update(
        state: LinearFit, returns: jax.Array, mask: jax.Array, z: jax.Array | None = None
    ) -> LinearFit:
        x = inputs(returns, mask, z)
        kept = x * mask[..., None] / jnp.maximum(mask.sum(), 1)
        squares = jnp.einsum("...i,...j->ij", kept, x)
        products = jnp.einsum("...i,...->i", kept, returns)
        new = LinearFit(squares, products)
        return jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, state, new)

    return Estimator(init, value, update)


def disarm() -> Estimator:
    """Pairs of antithetic architectures in place of a baseline (Dong, Mnih & Tucker, 2020).

    Where the two gates of a pair agree, no credit is given; where they differ, the difference of
    the returns is the credit of that gate. Along a stream it is sound for γ = 0 only: the partner
    of step t's architecture is run on the same state, which leaves out what would follow from it.
    """
    return _stateless(lambda state, returns, mask, z=None: jnp.zeros_like(returns))._replace(
        paired=True
    )


def no_baseline() -> Estimator:
    """b = 0: plain REINFORCE."""
    return _stateless(lambda state, returns, mask, z=None: jnp.zeros_like(returns))


def _stateless(value: Callable[..., jax.Array]) -> Estimator:
    return Estimator(lambda: (), value, lambda state, returns, mask, z=None: state)


def surrogate(
    log_probs: jax.Array, returns: jax.Array, baseline: jax.Array, mask: jax.Array
) -> jax.Array:
    """Σ log P(H) · (R − b) over valid entries: its gradient is the score-function term.

    Its value means nothing. Returns and baseline are constants here: what they owe to the
    parameters is the other term, ∇_θ D.
    """
    advantage = jax.lax.stop_gradient(returns - baseline)
    return jnp.sum(jnp.where(mask, log_probs * advantage, 0))


def paired_surrogate(
    gamma: Gamma, gates: jax.Array, partner: Partner, returns: jax.Array, mask: jax.Array
) -> jax.Array:
    """Σ over valid entries of a scalar whose gradient in Γ's logits φ is DisARM's (eq. 9 there).

    ½ (R − R~) (−1)^{h~} 1[h ≠ h~] σ(|φ|) per gate, h~ and R~ of the partner. Args as `surrogate`,
    with gates [..., E].
    """
    logits = gamma.logits
    sure = jnp.isinf(logits)  # always on, in both: no credit, and no nan
    finite = jnp.where(sure, 0.0, logits)
    sign = jnp.where(partner.gates > 0.5, -1.0, 1.0)
    differ = (gates != partner.gates) & ~sure & mask[..., None]
    credit = 0.5 * (returns - partner.returns)[..., None] * sign * jax.nn.sigmoid(jnp.abs(finite))
    return jnp.sum(finite * jax.lax.stop_gradient(jnp.where(differ, credit, 0.0)))


def score_surrogate(
    estimator: Estimator,
    state: Any,
    gamma: Gamma,
    gates: jax.Array,
    returns: jax.Array,
    mask: jax.Array,
    *,
    z: jax.Array | None = None,
    partner: Partner | None = None,
) -> tuple[jax.Array, Any]:
    """A scalar whose gradient in Γ is the score-function term, and the estimator's next state.

    The one core of training and of `score_function_grad`; a sum over valid entries.

    Args:
      estimator, state: how, and what it remembers.
      gamma: that the architectures were drawn from, logits [..., E].
      gates: architectures [..., E].
      returns: what each returned, [T, M, B] for M samples of each of B streams, [M, B] of inputs
        that are no streams, or [S]; constants.
      mask: valid entries, as returns.
      z: [..., M, B, Z], states of a controller.
      partner: of each architecture, where the estimator is paired.
    """
    if estimator.paired:
        if partner is None:
            raise ValueError("partner: expected antithetic architectures for disarm, got None")
        return paired_surrogate(gamma, gates, partner, returns, mask), state
    returns = jax.lax.stop_gradient(returns)
    given = (returns, mask) if z is None else (returns, mask, z)
    term = surrogate(log_prob(gates, gamma), returns, estimator.value(state, *given), mask)
    return term, estimator.update(state, *given)


class Estimate(NamedTuple):
    """Side results of `score_function_grad`: values [S], gates [S, E], estimator_state, and `aux`,
    what the objective gave beside its values."""

    values: jax.Array
    gates: jax.Array
    estimator_state: Any
    aux: Any = None


def score_function_grad(
    objective: Objective,
    params: Any,
    gamma: Gamma | jax.Array,
    key: jax.Array,
    *,
    num_samples: int | tuple[int, int],
    estimator: Estimator | None = None,
    estimator_state: Any = None,
    has_aux: bool = False,
) -> tuple[tuple[Any, Gamma | jax.Array], Estimate]:
    """Unbiased gradient of E_{H~Γ}[ objective(params, H) ] in params and Γ (BSN, section 3.2).

    Args:
      objective: (params, gates [S, E]) → D [S], differentiable in params; row s may use any example
        but only architecture s.
      params: any pytree.
      gamma: `Gamma` (logits) or probabilities [E], or [S, E] with one distribution per sample; the
        gradient has the same form (that of a `Gamma` is in its `free`).
      key: typed key.
      num_samples: S, or (M, B) for M architectures of each of B inputs: gates [M, B, E], D [M, B],
        Γ [E] or [B, E]. `disarm()` runs the objective on as many partners, on the same examples.
      estimator: `batch_mean()` (default), `leave_one_out()` (of M samples), `moving_average()`,
        `no_baseline()`, `disarm()`.
      estimator_state: its state; fresh by default.
      has_aux: the objective gives (D, aux), running statistics for instance.

    Returns:
      ((∂params, ∂Γ), Estimate).
    """
    shape = (num_samples,) if isinstance(num_samples, int) else tuple(num_samples)
    if not 1 <= len(shape) <= 2:
        raise ValueError(f"num_samples: expected S or (M, B), got {num_samples}")
    if min(shape) < 1:
        raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
    estimator = batch_mean() if estimator is None else estimator
    state = estimator.init() if estimator_state is None else estimator_state
    num_edges = as_gamma(gamma).logits.shape[-1]
    partner_key = jax.random.fold_in(key, 1)

    def values_of(params: Any, gates: jax.Array) -> tuple[jax.Array, Any]:
        values, aux = objective(params, gates) if has_aux else (objective(params, gates), None)
        if values.shape != shape:
            raise ValueError(f"objective: expected values {list(shape)}, got {values.shape}")
        return values, aux

    def loss(params: Any, gamma: Gamma | jax.Array) -> tuple[jax.Array, Estimate]:
        drawn = Gamma(jnp.broadcast_to(as_gamma(gamma).logits, (*shape, num_edges)))
        gates = jax.lax.stop_gradient(sample(drawn, key))
        values, aux = values_of(params, gates)
        partner, fixed = None, jax.lax.stop_gradient(values)
        if estimator.paired:
            other = jax.lax.stop_gradient(antithetic(gates, drawn, partner_key))
            theirs, _ = values_of(params, other)
            partner = Partner(other, jax.lax.stop_gradient(theirs))
            values = (values + theirs) / 2  # both are draws from Γ
        every = jnp.ones(shape, bool)
        score, next_state = score_surrogate(
            estimator, state, drawn, gates, fixed, every, partner=partner
        )
        return (values.sum() + score) / fixed.size, Estimate(fixed, gates, next_state, aux)

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, gamma)
