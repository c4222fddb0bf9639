"""What is certain or off gives no nan: Γ of 0 and 1, blocks whose value is none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.controller import Controller
from sanas_jax.estimators import batch_mean, disarm, no_baseline, score_function_grad
from sanas_jax.forward import forward, init, join, trunk_edges
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, init_carry

pytestmark = pytest.mark.usefixtures("strict")


def squares(params, gates):
    return ((gates * jnp.array([[1.0, 2.0, 4.0]])).sum(-1) - params) ** 2


@pytest.mark.parametrize("estimator", [batch_mean(), no_baseline(), disarm()])
def test_probabilities_of_0_and_1_have_no_gradient_and_spoil_none(estimator):
    run = lambda gamma: score_function_grad(  # noqa: E731
        squares, 0.5, gamma, jax.random.key(0), num_samples=4000, estimator=estimator
    )
    (weight, got), estimate = run(jnp.array([0.5, 1.0, 0.0]))
    gates = np.asarray(estimate.gates)
    assert (gates[:, 1] == 1).all()
    assert (gates[:, 2] == 0).all()
    np.testing.assert_array_equal(np.asarray(got)[1:], 0)
    # d/dp of p (3 − 0.5)² + (1 − p) (2 − 0.5)².
    assert float(got[0]) == pytest.approx(2.5**2 - 1.5**2, rel=0.15)
    assert float(weight) == pytest.approx(-2 * (2.5 - 0.5), rel=0.05)


def test_batch_mean_is_over_the_other_samples_too():
    returns = jnp.arange(6.0).reshape(1, 3, 2)
    mask = jnp.ones((1, 3, 2), bool).at[0, 2, 1].set(False)
    got = batch_mean().value((), returns, mask)
    # The valid returns are 0..4, and their sum is 10.
    expected = (10 - np.arange(5)) / 4
    np.testing.assert_allclose(got.reshape(-1)[:5], expected, rtol=1e-6)
    np.testing.assert_allclose(got[0, 2, 1], 2.0)  # itself it is not among them


class UnitNorm(nn.Module):
    """x / |x|, which has no value at 0."""

    @nn.compact
    def __call__(self, x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def norm_net():
    """A norm below a join that may be dead, and a way around both."""
    layers = (Layer("x"), Layer("a"), Layer("b"), Layer("y"))
    edges = (
        Edge("one", "x", "a", nn.Dense(3)),
        Edge("two", "x", "a", nn.Dense(3)),
        Edge("norm", "a", "b", UnitNorm()),
        Edge("around", "x", "b", nn.Dense(3)),
        Edge("out", "b", "y", nn.Dense(2), gated=False),
    )
    return Net((3,), layers, edges, output="y", features="b")


@pytest.mark.parametrize("form", ["forward", "join"])
def test_the_value_of_an_edge_that_is_off_does_not_count_even_if_it_is_nan(form):
    net = norm_net()
    params, x = init(net, jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 3))
    live = prune(net, jnp.array([[1.0, 1, 1, 1, 1], [0, 0, 1, 1, 1]]))
    assert live[1, 2] == 0

    def logits(params, x):
        if form == "forward":
            return forward(net, params, live, x).logits
        trunk = trunk_edges(net, params, x[:, None].reshape(2, 3), num_steps=1, hop=3)
        return join(net, params, live, {k: v[0] for k, v in trunk.values.items()}).logits

    # Alone, and without the norm, the second row is this.
    around = x[1] @ params["around"]["kernel"] + params["around"]["bias"]
    expected = around @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(logits(params, x)[1], expected, rtol=1e-5)


def test_the_slope_of_an_edge_that_is_off_does_not_count_even_if_it_is_nan():
    """The layer below it is alive and 0; another edge reads it."""
    net = norm_net()
    edges = (*net.edges, Edge("beside", "a", "b", nn.Dense(3)))
    net = Net((3,), net.layers, edges, output="y", features="b")
    params, x = init(net, jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 3))
    params["one"] = jax.tree.map(jnp.zeros_like, params["one"])
    gates = jnp.array([1.0, 0, 0, 1, 1, 1])

    def loss(params):
        return jnp.square(forward(net, params, gates, x).logits).sum()

    grads = jax.grad(loss)(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.abs(grads["one"]["kernel"]).max() > 0


def test_a_price_of_0_is_not_told():
    model = Sanas(norm_net(), Controller(nn.GRUCell(3), conditioned=True), hop=3)
    with pytest.raises(ValueError, match=r"cost_weight: expected prices above 0, got 0\.0"):
        init_carry(model, 2, 0.0)
