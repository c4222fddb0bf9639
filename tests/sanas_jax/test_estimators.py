"""Score-function gradients: unbiased, proved by enumerating every architecture.

A patched `sample` forces one outcome at a time on the library's own code; weighted with their exact
probabilities, the estimates must add up to the gradient of the expected objective. In double
precision, to 1e-9 of the largest entry, but for costs that a black box gives in single precision.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import estimators
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
)
from sanas_jax.gates import Gamma, log_prob
from sanas_jax.graph import prune
from tests.helpers.nets import all_gates, dag, stream_net
from tests.helpers.problems import NET, architectures, probability, problem

pytestmark = pytest.mark.usefixtures("strict")

# 9 edges, 9 gates.
BIG = dag(
    [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (0, 3), (3, 4), (2, 4), (0, 4)], 5, features=3, width=2
)


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
