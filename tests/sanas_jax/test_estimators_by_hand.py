"""Score-function gradients against numbers worked out by hand, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import estimators
from sanas_jax.estimators import (
    batch_mean,
    leave_one_out,
    moving_average,
    no_baseline,
    score_function_grad,
    surrogate,
)
from sanas_jax.forward import forward, init
from sanas_jax.gates import Gamma, init_gamma, log_prob
from sanas_jax.graph import prune
from sanas_jax.training.terms import cross_entropy
from tests.helpers.nets import all_gates, dag, random_like, stream_net
from tests.helpers.problems import NET, architectures, probability, problem

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.slow
def test_gradient_in_probabilities(monkeypatch):
    """Γ given as probabilities: d/dp = d/dlogit / (p (1 − p)), single precision."""
    net = dag([(0, 1), (1, 2), (0, 2)], 3, features=1, width=2)
    params = random_like(init(net, jax.random.key(0)), 1)
    x, y = jnp.array([[0.4, -1.0]]), jnp.array([1])
    probs = jnp.array([0.3, 0.6, 0.8])

    def objective(params, gates):
        return cross_entropy(forward(net, params, prune(net, gates), x).logits, y)

    def expected(probs):
        masks = all_gates(3)
        p = jnp.prod(jnp.where(masks > 0, probs[None], 1 - probs[None]), -1)
        return sum(
            w * objective(params, jnp.asarray(m)[None])[0] for w, m in zip(p, masks, strict=True)
        )

    exact = jax.grad(expected)(probs)
    total = jnp.zeros(3)
    for mask in all_gates(3):
        monkeypatch.setattr(estimators, "sample", lambda gamma, key, m=mask: jnp.asarray(m)[None])
        weight = float(np.prod(np.where(mask > 0, probs, 1 - probs)))
        (_, grad), _ = score_function_grad(
            objective, params, probs, jax.random.key(0), num_samples=1, estimator=no_baseline()
        )
        total += weight * grad
    np.testing.assert_allclose(total, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_one_gamma_per_sample(monkeypatch, x64):
    """[S, E]: a row's gradient belongs to that row's distribution."""
    objective, params, gamma = problem(NET, 2)
    rows = Gamma(jnp.stack([gamma.logits, gamma.logits[::-1].at[0].set(0.1).at[4].set(jnp.inf)]))
    key = jax.random.key(0)
    (dparams, drows), aux = score_function_grad(
        objective, params, rows, key, num_samples=2, estimator=no_baseline()
    )
    assert drows.logits.shape == (2, 5)
    p = jax.nn.sigmoid(rows.logits)
    expected = aux.values[:, None] * (aux.gates - p) / 2  # d log P / d logit = h − p
    np.testing.assert_allclose(drows.logits, expected, rtol=1e-9, atol=1e-12)
    jax.tree.map(lambda g, p: np.testing.assert_equal(g.shape, p.shape), dparams, params)


def test_score_function_grad_samples_from_gamma():
    """Not forced: the mean over many samples comes near the exact gradient."""
    net = dag([(0, 1), (1, 2), (0, 2)], 3, features=1, width=2)
    logits = jnp.array([0.5, -0.3, 0.0])

    def objective(params, gates):
        return gates @ jnp.array([1.0, 2.0, -1.0]) + params

    (dparam, dgamma), aux = jax.jit(
        lambda key: score_function_grad(
            objective, jnp.float32(0), Gamma(logits), key, num_samples=40_000
        )
    )(jax.random.key(0))
    p = jax.nn.sigmoid(logits)
    # E[ w·h ] = w·p; d/dlogit = w p (1 − p). Standard error below 0.02.
    np.testing.assert_allclose(dgamma.logits, p * (1 - p) * jnp.array([1, 2, -1]), atol=0.05)
    assert float(dparam) == pytest.approx(1, abs=1e-5)
    assert aux.gates.shape == (40_000, len(net.edges))


def test_batch_mean_lowers_the_variance():
    logits = jnp.array([0.5, -0.3, 0.0])

    def objective(params, gates):
        return 10 + gates @ jnp.array([1.0, 2.0, -1.0]) + params

    def spread(baseline):
        def grad(key):
            result, _ = score_function_grad(
                objective, 0.0, Gamma(logits), key, num_samples=8, estimator=baseline
            )
            return result[1].logits

        return jax.jit(jax.vmap(grad))(jax.random.split(jax.random.key(1), 300)).var(0)

    assert (spread(batch_mean()) < 0.1 * spread(no_baseline())).all()


def test_moving_average_by_hand():
    baseline = moving_average(0.9)
    state, mask = baseline.init(), jnp.array([True, True, False])
    first = jnp.array([2.0, 4.0, 100.0])
    assert float(baseline.value(state, first, mask)) == 0.0
    state = baseline.update(state, first, mask)
    # Divided by the weight seen, one batch counts whole: (0.1 · 3) / 0.1.
    assert float(baseline.value(state, first, mask)) == pytest.approx(3)
    state = baseline.update(state, jnp.array([6.0, 8.0, 0.0]), mask)
    assert float(baseline.value(state, first, mask)) == pytest.approx((0.09 * 3 + 0.1 * 7) / 0.19)


def test_batch_mean_by_hand():
    """A mean for each step of streams, [T, M, B] = [3, 1, 3]; one where there are no steps."""
    baseline = batch_mean()
    returns = jnp.array([[1.0, 2.0, 6.0], [4.0, 10.0, 99.0], [5.0, 99.0, 99.0]])
    mask = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
    value = np.asarray(baseline.value(baseline.init(), returns[:, None], mask[:, None]))[:, 0]
    np.testing.assert_allclose(value[0], [4.0, 3.5, 1.5])
    np.testing.assert_allclose(value[1, :2], [10.0, 4.0])
    assert value[2, 0] == 0.0  # nobody else is left
    value = baseline.value(baseline.init(), returns, mask)  # [M, B]
    np.testing.assert_allclose(value[0], np.subtract(28, returns[0]) / 5, rtol=1e-6)


def test_leave_one_out_by_hand():
    """Other samples of the same input; [T, M, B] = [1, 3, 2], and [M, B]."""
    returns = jnp.array([[[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]])
    baseline = leave_one_out()
    value = baseline.value(baseline.init(), returns, jnp.ones((1, 3, 2), bool))
    np.testing.assert_allclose(value, [[[4.0, 40.0], [3.5, 35.0], [1.5, 15.0]]])
    value = baseline.value(baseline.init(), returns[0], jnp.ones((3, 2), bool))
    np.testing.assert_allclose(value, [[4.0, 40.0], [3.5, 35.0], [1.5, 15.0]])
    value = baseline.value(baseline.init(), returns[0, :2], jnp.ones((2, 2), bool))
    np.testing.assert_allclose(value, [[2.0, 20.0], [1.0, 10.0]])  # of two, the other
    for bad in (returns[:, :1], returns[0, 0]):
        with pytest.raises(ValueError, match="leave_one_out: expected returns"):
            baseline.value((), bad, jnp.ones(bad.shape, bool))


def test_surrogate_by_hand():
    returns, b = jnp.array([[3.0, 1.0], [2.0, 100.0]]), jnp.array([[1.0, 1.0], [0.5, 0.0]])
    mask = jnp.array([[True, True], [True, False]])

    def value(logp):
        return surrogate(logp, returns * logp.sum(), b, mask)

    logp = jnp.array([[0.1, 0.2], [0.3, 0.4]])
    # The gradient is R − b: nothing flows through returns and baseline, nothing through the mask.
    expected = np.array([[3.0 - 1.0, 1.0 - 1.0], [2.0 - 0.5, 0.0]])
    np.testing.assert_allclose(jax.grad(value)(logp), expected, rtol=1e-6)


def test_log_prob_of_the_outcomes_adds_up(x64):
    _, _, gamma = problem(NET, 1)
    masks = architectures(NET)
    tiled = Gamma(jnp.tile(gamma.logits[None], (len(masks), 1)))
    np.testing.assert_allclose(jnp.exp(log_prob(masks, tiled)), probability(NET, gamma, masks))


def test_errors():
    def objective(params, gates):
        return gates.sum(-1)

    gamma, key = Gamma(jnp.zeros(3)), jax.random.key(0)
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        score_function_grad(objective, 0.0, gamma, key, num_samples=0)
    for bad in ((), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"num_samples: expected S or \(M, B\), got \("):
            score_function_grad(objective, 0.0, gamma, key, num_samples=bad)
    with pytest.raises(ValueError, match=r"objective: expected values \[2\], got \(\)"):
        score_function_grad(lambda p, g: g.sum(), 0.0, gamma, key, num_samples=2)
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\)"):
            moving_average(decay)


def test_estimate_is_reproducible():
    def objective(params, gates):
        return params * gates.sum(-1)

    gamma = Gamma(jnp.zeros(6))
    runs = [
        score_function_grad(objective, 2.0, gamma, jax.random.key(k), num_samples=4)
        for k in (0, 0, 1)
    ]
    jax.tree.map(np.testing.assert_array_equal, runs[0], runs[1])
    assert (runs[0][1].gates != runs[2][1].gates).any()


def test_trainable_gamma_stays_finite():
    """Norms, weight decay and Adam of a Γ with always-on edges: no infinite logit is trained."""
    net = stream_net()
    gamma = init_gamma(net, 0.7)
    optimizer = optax.adamw(0.1, weight_decay=0.1)
    state = optimizer.init(gamma)
    values = jnp.array([1.0, -2.0, 3.0, 5.0])
    for step in range(3):
        (_, grad), _ = score_function_grad(
            lambda _, gates: gates @ values, 0.0, gamma, jax.random.key(step), num_samples=64
        )
        assert 0 < float(optax.tree.norm(grad)) < np.inf
        updates, state = optimizer.update(grad, state, gamma)
        gamma = optax.apply_updates(gamma, updates)
    assert np.isfinite(gamma.free).all()
    np.testing.assert_array_equal(np.isinf(gamma.logits), [False, False, False, True])
    # Downhill: an edge that adds to the objective becomes less likely.
    assert (np.sign(gamma.free - init_gamma(net, 0.7).free) == [-1, 1, -1]).all()
