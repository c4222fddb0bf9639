"""Score-function gradients: unbiased, proved by enumerating every architecture.

A patched `sample` forces one outcome at a time on the library's own code; weighted with their exact
probabilities, the estimates must add up to the gradient of the expected objective. In double
precision, to 1e-9 of the largest entry, but for costs that a black box gives in single precision.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs, estimators
from sanas_jax.estimators import (
    Estimator,
    MeanState,
    batch_mean,
    disarm,
    learned_value,
    leave_one_out,
    moving_average,
    no_baseline,
    score_function_grad,
    surrogate,
)
from sanas_jax.forward import forward, init
from sanas_jax.gates import Gamma, init_gamma, log_prob
from sanas_jax.graph import prune
from sanas_jax.training.terms import cross_entropy, max_penalty
from tests.helpers.nets import all_gates, dag, random_like, stream_net

pytestmark = pytest.mark.usefixtures("strict")

# 5 edges, 4 gates: the last edge is always on.
NET = dag([(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)], 4, features=2, width=2, always=[4])
# 9 edges, 9 gates.
BIG = dag(
    [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (0, 3), (3, 4), (2, 4), (0, 4)], 5, features=3, width=2
)


def black_box(live: np.ndarray) -> float:
    """Neither linear nor differentiable: number of live edges squared, odd numbers dearer."""
    count = int(live.sum())
    return 0.25 * count**2 + (0.5 if count % 2 else 0.0)


def problem(net, examples):
    """Objective, weights and Γ in double precision, for row s of the gates on example s."""
    params = jax.tree.map(lambda p: p.astype(jnp.float64), init(net, jax.random.key(0)))
    params = random_like(params, 1)
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.standard_normal((examples, 2)))
    y = jnp.asarray(rng.integers(0, 2, examples))
    logits = jnp.asarray(rng.standard_normal(len(net.edges)))
    always = jnp.array([not edge.gated for edge in net.edges])
    gamma = Gamma(jnp.where(always, jnp.inf, logits))
    cost = costs.custom(net, black_box, black_box=True)

    def objective(params, gates):
        out = forward(net, params, prune(net, gates), x)
        price = 0.3 * max_penalty(cost(gates), jnp.float32(2))
        return cross_entropy(out.logits, y) + price.astype(jnp.float64)

    return objective, params, gamma


def probability(net, gamma, gates):
    """P(H) of gates [..., E], a differentiable oracle; always-on edges count 1."""
    p = 1 / (1 + jnp.exp(-gamma.logits))
    each = gates * p.reshape((1,) * (gates.ndim - 1) + p.shape)
    each = each + (1 - gates) * (1 - p).reshape((1,) * (gates.ndim - 1) + p.shape)
    return jnp.prod(each[..., jnp.array(net.gated)], -1)


def architectures(net):
    """All architectures [2^G, E], always-on edges on."""
    masks = np.ones((2 ** len(net.gated), len(net.edges)))
    masks[:, list(net.gated)] = all_gates(len(net.gated))
    return jnp.asarray(masks)


def exact_gradient(net, objective, params, gamma, samples):
    """Gradient of (1/S) Σ_s E_H[ D_s(H) ], the sum over architectures written out."""
    masks = architectures(net)

    # Row r of `every` is architecture r on each of the S examples.
    def expected(params, gamma):
        every = jax.vmap(lambda mask: objective(params, jnp.tile(mask[None], (samples, 1))))(masks)
        return jnp.sum(probability(net, gamma, masks) * every.mean(-1))

    value, grads = jax.value_and_grad(expected, argnums=(0, 1))(params, gamma)
    return value, grads


def expected_estimate(monkeypatch, net, objective, params, gamma, samples, **options):
    """E[ library's estimate ] over all outcomes of the S samples: every outcome once."""
    masks = architectures(net)
    index = np.array(list(itertools.product(range(len(masks)), repeat=samples)))
    outcomes = masks[index]  # [outcomes, S, E]
    weights = jnp.prod(probability(net, gamma, outcomes), -1)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)

    def estimate(outcome):
        with monkeypatch.context() as patch:
            patch.setattr(estimators, "sample", lambda gamma, key: outcome)
            grads, aux = score_function_grad(
                objective, params, gamma, jax.random.key(0), num_samples=samples, **options
            )
        return grads, aux.values.mean()

    every = jax.jit(jax.vmap(estimate))(outcomes)
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), every)


def assert_same(got, expected, tolerance=1e-9):
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert len(got) == len(expected) > 0
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=tolerance * max(float(np.abs(b).max()), 1e-3), rtol=0)


BASELINES = {
    "none": {"estimator": no_baseline()},
    "fresh average": {"estimator": moving_average()},
    "average": {
        "estimator": moving_average(0.9),
        "estimator_state": MeanState(np.float64(1.3), np.float64(0.7)),
    },
    "batch mean": {"estimator": batch_mean()},
}


@pytest.mark.parametrize("options", BASELINES.values(), ids=BASELINES)
@pytest.mark.parametrize("samples", [1, 2])
def test_unbiased_by_enumeration(monkeypatch, x64, options, samples):
    objective, params, gamma = problem(NET, samples)
    value, exact = exact_gradient(NET, objective, params, gamma, samples)
    grads, mean = expected_estimate(monkeypatch, NET, objective, params, gamma, samples, **options)
    assert float(mean) == pytest.approx(float(value), rel=1e-12)
    assert_same(grads, exact)
    # The gradient in Γ is not small, so that its equality says something; always-on edges have 0.
    dgamma = np.asarray(grads[1].logits)
    assert (np.abs(dgamma[list(NET.gated)]) > 1e-3).all()
    assert dgamma[4] == 0


def test_disarm_unbiased_by_enumeration(monkeypatch, x64):
    """All pairs of architectures, weighted by the joint law of 1[u < p] and 1[1 − u < p]."""
    objective, params, gamma = problem(NET, 1)
    _, exact = exact_gradient(NET, objective, params, gamma, 1)
    masks = architectures(NET)
    index = np.array(list(itertools.product(range(len(masks)), repeat=2)))
    ones, others = masks[index[:, 0]], masks[index[:, 1]]
    p = jax.nn.sigmoid(gamma.logits)
    same = jnp.where(ones > 0, jnp.maximum(2 * p - 1, 0), jnp.maximum(1 - 2 * p, 0))
    weights = jnp.prod(jnp.where(ones == others, same, jnp.minimum(p, 1 - p)), -1)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)

    def estimate(one, other):
        with monkeypatch.context() as patch:
            patch.setattr(estimators, "sample", lambda gamma, key: one[None])
            patch.setattr(estimators, "antithetic", lambda gates, gamma, key: other[None])
            grads, _ = score_function_grad(
                objective, params, gamma, jax.random.key(0), num_samples=1, estimator=disarm()
            )
        return grads

    every = jax.jit(jax.vmap(estimate))(ones, others)
    assert_same(jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), every), exact)


def test_learned_value_fits_what_the_state_says():
    """Returns linear in the state and the steps to go are predicted after one batch."""
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.standard_normal((5, 2, 40, 3)), jnp.float32)
    mask = jnp.asarray(np.arange(5)[:, None, None] < rng.integers(1, 6, (1, 1, 40)))
    mask = jnp.broadcast_to(mask, (5, 2, 40))
    to_go = jnp.cumsum(mask[::-1], 0)[::-1] / 5
    returns = z @ jnp.array([1.0, -2.0, 0.5]) + 3 * to_go - 1
    estimator = learned_value(3, ridge=1e-7)
    state = estimator.init()
    np.testing.assert_array_equal(estimator.value(state, returns, mask, z), 0)
    noise = jnp.where(mask, 0, 1e3)  # what is masked must not be learnt from
    state = estimator.update(state, returns + noise, mask, z)
    got = estimator.value(state, returns, mask, z)
    np.testing.assert_allclose(got[mask], returns[mask], atol=1e-2)
    with pytest.raises(ValueError, match="expected a controller's states"):
        estimator.value(state, returns, mask)


def test_learned_value_counts_the_steps_to_go():
    """Returns that are the number of steps left are known once a batch was seen."""
    mask = jnp.arange(4)[:, None, None] < jnp.array([[[4, 2, 3], [4, 2, 3]]])  # [T, M, B]
    returns = jnp.cumsum(mask[::-1], 0)[::-1].astype(jnp.float32)
    z = jax.random.normal(jax.random.key(0), (*mask.shape, 1))
    estimator = learned_value(1, ridge=1e-6)
    state = estimator.update(estimator.init(), returns, mask, z)
    np.testing.assert_allclose(estimator.value(state, returns, mask, z), returns, atol=0.01)


@pytest.mark.slow
def test_unbiased_by_enumeration_of_nine_gates(monkeypatch, x64):
    objective, params, gamma = problem(BIG, 1)
    _, exact = exact_gradient(BIG, objective, params, gamma, 1)
    grads, _ = expected_estimate(monkeypatch, BIG, objective, params, gamma, 1)
    assert_same(grads, exact)


@pytest.mark.slow
def test_a_baseline_with_the_sample_in_it_is_found_out(monkeypatch, x64):
    """The enumeration can fail: the plain batch mean shrinks the score by 1 − 1/S."""
    plain = Estimator(
        lambda: (), lambda state, returns, mask: returns.mean(), lambda state, returns, mask: state
    )
    objective, params, gamma = problem(NET, 2)
    _, exact = exact_gradient(NET, objective, params, gamma, 2)
    grads, _ = expected_estimate(monkeypatch, NET, objective, params, gamma, 2, estimator=plain)
    assert_same(grads[0], exact[0])  # the weights' gradient does not mind
    # Rows here use different examples: the shrinking is exact for equal ones only.
    with pytest.raises(AssertionError):
        assert_same(grads[1], exact[1], 1e-3)
    one, params, gamma = problem(NET, 1)

    def same_example(params, gates):
        return jax.vmap(lambda g: one(params, g[None])[0])(gates)

    _, exact = exact_gradient(NET, same_example, params, gamma, 2)
    grads, _ = expected_estimate(monkeypatch, NET, same_example, params, gamma, 2, estimator=plain)
    assert_same(grads[1].logits, exact[1].logits / 2)


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


@pytest.mark.parametrize("make", [batch_mean, disarm])
def test_samples_of_each_input_beside_running_statistics(make, x64):
    """M × B architectures: the gradient of M·B in a row, and what the objective gives besides."""
    net, (m, b) = stream_net(), (3, 4)
    gamma = Gamma(jax.random.normal(jax.random.key(0), (b, 4), jnp.float64))
    weights = jax.random.normal(jax.random.key(1), (b, 4), jnp.float64)

    def objective(w, gates):
        live = prune(net, gates)
        values = jnp.square((live * w * weights[None]).sum(-1) - 1)
        return values, live.mean((0, 1))

    def flat(w, gates):
        return objective(w, gates.reshape(m, b, 4))[0].reshape(-1)

    options = {"key": jax.random.key(2), "estimator": make()}
    (dw, dgamma), found = score_function_grad(
        objective, 0.7, gamma, num_samples=(m, b), has_aux=True, **options
    )
    assert found.values.shape == (m, b)
    np.testing.assert_allclose(found.aux, prune(net, found.gates).mean((0, 1)))
    tiled = Gamma(jnp.tile(gamma.logits, (m, 1)))
    (expected, dtiled), _ = score_function_grad(flat, 0.7, tiled, num_samples=m * b, **options)
    np.testing.assert_allclose(dw, expected, rtol=1e-9)
    np.testing.assert_allclose(dgamma.logits, dtiled.logits.reshape(m, b, 4).sum(0), rtol=1e-9)


def test_samples_of_each_input_are_unbiased():
    """`leave_one_out` over M samples of each input, on average, is the exact gradient."""
    gamma = Gamma(jnp.array([[0.3, -0.8], [1.0, 0.2]]))
    table = jnp.array([[0.0, 3.0, 1.0, -2.0], [5.0, 4.0, 9.0, 1.0]])

    def exact(gamma):
        gates = jnp.asarray(all_gates(2))
        probability = jnp.exp(log_prob(gates[:, None], Gamma(gamma.logits[None])))
        return (probability * table.T).sum(0).mean()

    def objective(_, gates):
        number = (gates @ jnp.array([1.0, 2.0])).astype(int)
        return jnp.take_along_axis(table, number.T, 1).T

    @jax.jit
    @jax.vmap
    def estimate(key):
        grads, _ = score_function_grad(
            objective, 0.0, gamma, key, num_samples=(2, 2), estimator=leave_one_out()
        )
        return grads[1].logits

    draws = np.asarray(estimate(jax.random.split(jax.random.key(3), 40_000)))
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - jax.grad(exact)(gamma).logits) < 4.5 * error).all()
