"""Losses, penalties and returns: numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.training.terms import (
    abs_penalty,
    class_weights,
    cross_entropy,
    masked_mean,
    max_penalty,
    returns_to_go,
    step_loss,
)

pytestmark = pytest.mark.usefixtures("strict")


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]]))
    # softmax = [1/8, 2/8, 5/8] and [1/2, 1/4, 1/4].
    got = cross_entropy(logits, jnp.array([1, 0]))
    np.testing.assert_allclose(got, [np.log(4), np.log(2)], rtol=1e-6)
    weighted = cross_entropy(logits, jnp.array([1, 0]), jnp.array([3.0, 0.5, 1.0]))
    np.testing.assert_allclose(weighted, [0.5 * np.log(4), 3 * np.log(2)], rtol=1e-6)


def test_cross_entropy_of_a_label_and_what_is_taught_by_hand():
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]]))
    labels, taught = jnp.array([1, 0]), jnp.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    told = np.array([(np.log(8) + np.log(4)) / 2, np.log(4)])
    got = cross_entropy(logits, labels, taught=taught, teacher_weight=1.0)
    np.testing.assert_allclose(got, told, rtol=1e-6)
    got = cross_entropy(logits, labels, taught=taught, teacher_weight=0.25)
    mixed = 0.75 * np.log([4, 2]) + 0.25 * told
    np.testing.assert_allclose(got, mixed, rtol=1e-6)
    # Weights are those of the labels' classes; steps take it along.
    weights = jnp.array([3.0, 0.5, 1.0])
    got = step_loss(
        logits[:, None], labels[:, None], weights, taught=taught[:, None], teacher_weight=0.25
    )
    np.testing.assert_allclose(got[:, 0], mixed * [0.5, 3], rtol=1e-6)
    untaught = cross_entropy(logits, labels, smoothing=0.3)
    got = cross_entropy(logits, labels, smoothing=0.3, taught=taught, teacher_weight=0.0)
    np.testing.assert_allclose(got, untaught, rtol=1e-6)


def test_cross_entropy_padding_is_finite():
    logits = jnp.zeros((3, 4))
    got = cross_entropy(logits, jnp.array([-7, 4, 100]), jnp.ones(4))
    assert np.isfinite(np.asarray(got)).all()
    grad = jax.grad(lambda x: cross_entropy(x, jnp.array([-7, 4, 100])).sum())(logits)
    assert np.isfinite(np.asarray(grad)).all()


def test_cross_entropy_large_logits():
    got = cross_entropy(jnp.array([[1000.0, 0.0]]), jnp.array([1]))
    np.testing.assert_allclose(got, [1000.0])


def test_penalties_by_hand():
    cost, budget = jnp.array([1.0, 3.0, 7.0]), jnp.float32(3)
    np.testing.assert_array_equal(max_penalty(cost, budget), [0, 0, 4])
    np.testing.assert_array_equal(abs_penalty(cost, budget), [2, 0, 4])
    np.testing.assert_array_equal(max_penalty(cost, jnp.float32(0)), cost)


def test_masked_mean_by_hand():
    values = jnp.array([[1.0, 2.0], [3.0, np.nan]])
    mask = jnp.array([[True, False], [True, False]])
    assert float(masked_mean(values, mask)) == 2.0
    assert float(masked_mean(values, jnp.zeros((2, 2), bool))) == 0.0
    grad = jax.grad(lambda v: masked_mean(v, mask))(values)
    np.testing.assert_array_equal(grad, [[0.5, 0], [0.5, 0]])


def test_returns_to_go_by_hand():
    values, mask = jnp.array([1.0, 2.0, 4.0]), jnp.ones(3, bool)
    np.testing.assert_array_equal(returns_to_go(values, mask, 1.0), [7, 6, 4])
    np.testing.assert_array_equal(returns_to_go(values, mask, 0.5), [3, 4, 4])
    np.testing.assert_array_equal(returns_to_go(values, mask, 0.0), [1, 2, 4])


def test_returns_to_go_padding_and_rows():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 3)).astype(np.float32)
    mask = np.arange(6)[:, None] < np.array([6, 4, 1])
    for discount in (0.0, 0.9, 1.0):
        expected = np.zeros((6, 3))
        for b in range(3):
            for t in range(6):
                expected[t, b] = sum(
                    discount ** (s - t) * values[s, b] for s in range(t, 6) if mask[s, b]
                )
        got = returns_to_go(values, mask, discount)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        garbage = np.where(mask, values, np.nan)
        np.testing.assert_array_equal(returns_to_go(garbage, mask, discount), got)


def test_returns_to_go_vmaps_over_discounts():
    values = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2)), jnp.float32)
    mask = jnp.ones((4, 2), bool)
    discounts = jnp.array([0.0, 0.5, 1.0])
    got = jax.vmap(lambda d: returns_to_go(values, mask, d))(discounts)
    for row, discount in zip(got, (0.0, 0.5, 1.0), strict=True):
        np.testing.assert_allclose(row, returns_to_go(values, mask, discount), rtol=1e-6)


def test_class_weights_by_hand():
    # 12 items, 3 classes: 12 / (6·3), 12 / (2·3), 12 / (4·3).
    np.testing.assert_allclose(class_weights(jnp.array([6, 2, 4])), [2 / 3, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(class_weights(jnp.array([3, 0, 1])), [4 / 9, 0, 4 / 3], rtol=1e-6)
