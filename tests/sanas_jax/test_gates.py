"""Γ and H: probabilities, frequencies, certain edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.gates import (
    Gamma,
    all_on,
    antithetic,
    as_gamma,
    check_gamma,
    edge_log_prob,
    entropy,
    init_gamma,
    log_prob,
    mode,
    sample,
    sample_gates,
)
from tests.helpers.nets import all_gates, identity_net, stream_net

pytestmark = pytest.mark.usefixtures("strict")

LOGITS = np.array([-1.5, 0.3, 2.0, 0.0, np.inf, -np.inf, -4.0], np.float32)


def probability(masks, logits):
    """P(H) by hand, float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return np.prod(np.where(masks > 0, p, 1 - p), -1)


def test_sample_frequencies():
    draws = 20_000
    gamma = Gamma(jnp.tile(jnp.asarray(LOGITS)[None], (draws, 1)))
    gates = np.asarray(sample(gamma, jax.random.key(0)))
    assert set(np.unique(gates)) == {0.0, 1.0}
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    sigma = np.sqrt(p * (1 - p) / draws)
    assert (np.abs(gates.mean(0) - p) <= 4.5 * sigma).all()
    # Independent edges: the correlation of two of them is within its own noise.
    correlation = np.corrcoef(gates[:, [0, 1, 2, 3, 6]].T)
    np.testing.assert_allclose(correlation, np.eye(5), atol=4.5 / np.sqrt(draws))


def test_sample_is_reproducible_and_depends_on_the_key():
    gamma = Gamma(jnp.zeros((50,)))
    one = sample(gamma, jax.random.key(1))
    np.testing.assert_array_equal(one, sample(gamma, jax.random.key(1)))
    assert (one != sample(gamma, jax.random.key(2))).any()
    np.testing.assert_array_equal(one, jax.jit(sample)(gamma, jax.random.key(1)))


def test_log_prob_is_a_distribution():
    masks = all_gates(len(LOGITS))
    got = np.exp(log_prob(masks, Gamma(jnp.asarray(np.tile(LOGITS, (len(masks), 1))))))
    assert got.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(got, probability(masks, LOGITS), rtol=1e-5, atol=1e-12)


def test_edge_log_prob_by_hand():
    # σ(log 3) = 3/4.
    gamma = Gamma(jnp.full((2,), np.log(3.0)))
    got = edge_log_prob(jnp.array([1.0, 0.0]), gamma)
    np.testing.assert_allclose(got, np.log([0.75, 0.25]), rtol=1e-6)
    assert float(log_prob(jnp.array([1.0, 0.0]), gamma)) == pytest.approx(np.log(3 / 16))


def test_edge_log_prob_is_exact_where_a_clipped_probability_is_not():
    got = edge_log_prob(jnp.array([0.0, 1.0]), Gamma(jnp.array([60.0, 60.0])))
    np.testing.assert_allclose(got, [-60.0, -np.exp(-60.0)], rtol=1e-5)


def test_impossible_gate_has_log_prob_minus_infinity():
    gamma = Gamma(jnp.array([np.inf, -np.inf]))
    np.testing.assert_array_equal(edge_log_prob(jnp.array([0.0, 1.0]), gamma), [-np.inf] * 2)
    np.testing.assert_array_equal(edge_log_prob(jnp.array([1.0, 0.0]), gamma), [0.0, 0.0])


def test_certain_edges_have_finite_gradients():
    gates = jnp.array([1.0, 0.0, 1.0])

    def total(logits):
        return log_prob(gates, Gamma(logits)) + entropy(Gamma(logits))

    grad = jax.grad(total)(jnp.array([np.inf, -np.inf, 0.7]))
    p = 1 / (1 + np.exp(-0.7))
    # d log σ(l) = 1 − p; d entropy = −l p (1 − p).
    np.testing.assert_allclose(grad, [0, 0, 1 - p - 0.7 * p * (1 - p)], rtol=1e-5)


def test_probabilities_of_0_and_1_have_no_gradient():
    """log P = log p where on, log(1 − p) where off; of what is certain nothing can be learned."""
    gates, probs = jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.5, 0.75])
    grad = jax.grad(lambda probs: log_prob(gates, probs))(probs)
    np.testing.assert_allclose(grad, [0, 0, 2, -4], rtol=1e-5)


def test_log_prob_gradient_is_gate_minus_probability():
    logits = jnp.array([-1.0, 0.5, 3.0])
    gates = jnp.array([1.0, 0.0, 1.0])
    grad = jax.grad(lambda logits: log_prob(gates, Gamma(logits)))(logits)
    np.testing.assert_allclose(grad, gates - jax.nn.sigmoid(logits), rtol=1e-5)


def test_entropy_against_enumeration():
    masks = all_gates(len(LOGITS))
    p = probability(masks, LOGITS)
    expected = -np.sum(p[p > 0] * np.log(p[p > 0]))
    assert float(entropy(Gamma(jnp.asarray(LOGITS)))) == pytest.approx(expected, rel=1e-5)
    assert float(entropy(Gamma(jnp.zeros(4)))) == pytest.approx(4 * np.log(2), rel=1e-6)


def test_mode_is_on_above_one_half():
    gamma = Gamma(jnp.asarray(LOGITS))
    # p = 0.5 exactly (logit 0) is off.
    np.testing.assert_array_equal(mode(gamma), [0, 1, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(mode(jnp.array([0.4, 0.5, 0.6])), [0, 0, 1])
    np.testing.assert_array_equal(all_on(gamma), np.ones(7))
    # The most probable of all architectures.
    masks = all_gates(7)
    best = masks[np.argmax(probability(masks, LOGITS + 1e-3))]
    np.testing.assert_array_equal(mode(Gamma(jnp.asarray(LOGITS + 1e-3))), best)


def test_sample_gates_pairs_a_draw_with_its_log_prob():
    gamma = Gamma(jnp.asarray(np.tile(LOGITS, (6, 1))))
    key = jax.random.key(5)
    gates, logp = sample_gates(gamma, key)
    np.testing.assert_array_equal(gates, sample(gamma, key))
    expected = np.log(probability(np.asarray(gates), LOGITS))
    np.testing.assert_allclose(logp, expected, rtol=1e-5)
    assert logp.shape == (6,)


def test_probabilities_are_read_as_gamma():
    probs = jnp.array([0.0, 0.2, 0.5, 1.0])
    gamma = as_gamma(probs)
    np.testing.assert_allclose(gamma.probs, probs, atol=1e-7)
    assert gamma.logits[0] == -np.inf
    assert gamma.logits[3] == np.inf
    assert as_gamma(gamma) is gamma


def test_init_gamma():
    net = stream_net()
    gamma = init_gamma(net, 0.8)
    np.testing.assert_allclose(gamma.probs, [0.8, 0.8, 0.8, 1.0], rtol=1e-6)
    # 0.953 is σ(3), the controller's first probability.
    np.testing.assert_allclose(init_gamma(net).logits[:3], 3.0, atol=0.02)
    # What is trained is finite: three gates, and no infinite logit of the always-on edge.
    np.testing.assert_allclose(gamma.free, np.log(4) * np.ones(3), rtol=1e-6)
    for bad in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"probability: expected a number in \(0, 1\)"):
            init_gamma(net, bad)


def test_check_gamma_wrong_shape_raises():
    with pytest.raises(ValueError, match=r"gamma: expected shape \[..., 2\].*got \(3,\)"):
        check_gamma(identity_net(), jnp.full((3,), 0.5))
    with pytest.raises(ValueError, match="gamma"):
        check_gamma(identity_net(), jnp.float32(0.5))


@pytest.mark.parametrize("function", [mode, all_on, entropy])
def test_functions_vmap(function):
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32)
    rows = jnp.stack([function(Gamma(row)) for row in logits])
    np.testing.assert_allclose(function(Gamma(logits)), rows, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(function)(Gamma(logits)), rows, rtol=1e-6)


def test_antithetic_has_the_law_of_gamma_and_differs_most(x64):
    p = jnp.array([0.1, 0.4, 0.5, 0.8, 1.0])
    gamma = Gamma(jax.scipy.special.logit(p))
    rows = Gamma(jnp.broadcast_to(gamma.logits, (100_000, 5)))
    one = sample(rows, jax.random.key(0))
    other = antithetic(one, rows, jax.random.key(1))
    np.testing.assert_allclose(other.mean(0), p, atol=0.01)
    np.testing.assert_allclose((one != other).mean(0), 2 * np.minimum(p, 1 - p), atol=0.01)
    assert (other[:, 4] == 1).all()
