"""The controller: equations by hand, any cell, counted operations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.controller import (
    Controller,
    advance,
    controller_macs,
    gamma_of,
    init_controller,
    initial_state,
)
from sanas_jax.spaces import kws_cnn
from tests.helpers.nets import random_like, stream_net

pytestmark = pytest.mark.usefixtures("strict")

NET = stream_net(width=4)
CONTROLLER = Controller(nn.GRUCell(5), bias=3.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def params():
    return random_like(init_controller(CONTROLLER, NET, jax.random.key(0)), 3)


def test_first_gamma_is_the_bias():
    fresh = init_controller(CONTROLLER, NET, jax.random.key(0))
    z = initial_state(CONTROLLER, NET, 2)
    np.testing.assert_array_equal(z, np.zeros((2, 5)))
    gamma = gamma_of(CONTROLLER, NET, fresh, z)
    # The last edge has no gate: always on, whatever the state.
    np.testing.assert_array_equal(gamma.logits, np.tile([3, 3, 3, np.inf], (2, 1)))
    np.testing.assert_allclose(gamma.probs[:, :3], 0.9526, atol=1e-4)


def test_gamma_of_by_hand(params):
    z = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    head = jax.tree.map(np.asarray, params["head"])
    expected = z @ head["kernel"] + head["bias"]
    gamma = gamma_of(CONTROLLER, NET, params, jnp.asarray(z))
    np.testing.assert_allclose(gamma.logits[:, :3], expected, rtol=1e-5, atol=1e-6)
    assert np.isposinf(np.asarray(gamma.logits[:, 3])).all()


def test_gamma_of_keeps_the_gates_places():
    net = stream_net(width=4, shortcut_gates=False)  # "short", the second edge, has no gate
    params = random_like(init_controller(CONTROLLER, net, jax.random.key(0)), 3)
    logits = gamma_of(CONTROLLER, net, params, jnp.zeros((1, 5))).logits
    bias = params["head"]["bias"]
    np.testing.assert_allclose(logits[0], [bias[0], np.inf, bias[1], np.inf], rtol=1e-6)


def test_advance_is_the_gru_of_the_paper(params):
    """h' = (1 − u) n + u h with n = tanh(W x + r (U h + b)), in float64."""
    rng = np.random.default_rng(1)
    z, x = rng.standard_normal((2, 5)), rng.standard_normal((2, 4))
    w = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["cell"])
    r = sigmoid(x @ w["ir"]["kernel"] + w["ir"]["bias"] + z @ w["hr"]["kernel"])
    u = sigmoid(x @ w["iz"]["kernel"] + w["iz"]["bias"] + z @ w["hz"]["kernel"])
    hidden = z @ w["hn"]["kernel"] + w["hn"]["bias"]
    n = np.tanh(x @ w["in"]["kernel"] + w["in"]["bias"] + r * hidden)
    got = advance(CONTROLLER, params, jnp.float32(z), jnp.float32(x))
    np.testing.assert_allclose(got, (1 - u) * n + u * z, rtol=1e-5, atol=1e-6)


def test_advance_flattens_features(params):
    z, x = jnp.ones((2, 5)), jnp.arange(8.0).reshape(2, 2, 2)
    np.testing.assert_array_equal(
        advance(CONTROLLER, params, z, x), advance(CONTROLLER, params, z, x.reshape(2, 4))
    )


def test_rows_are_independent(params):
    z, x = jnp.ones((3, 5)), jnp.asarray(np.random.default_rng(0).random((3, 4)), jnp.float32)
    full = advance(CONTROLLER, params, z, x)
    other = advance(CONTROLLER, params, z, x.at[1].set(9.0))
    np.testing.assert_array_equal(full[jnp.array([0, 2])], other[jnp.array([0, 2])])
    assert (full[1] != other[1]).any()


def test_plain_rnn_is_a_controller_too():
    controller = Controller(nn.SimpleCell(6))
    params = init_controller(controller, NET, jax.random.key(0))
    z = initial_state(controller, NET, 2)
    assert advance(controller, params, z, jnp.ones((2, 4))).shape == (2, 6)
    # SimpleCell(6): 4·6 + 6·6, head 6·3.
    assert controller_macs(controller, NET) == 24 + 36 + 18


def test_cell_with_two_states_raises():
    with pytest.raises(ValueError, match="expected a cell whose state is one array, got tuple"):
        initial_state(Controller(nn.LSTMCell(4)), NET, 1)


def test_controller_macs_of_the_paper():
    """GRU 128 → 100: 3·(128·100 + 100·100) = 68,400; a gate layer of 100 · (number of gates)."""
    net = kws_cnn("cnn-trad-fpool3")
    assert len(net.gated) == 8
    assert controller_macs(Controller(), net) == 68_400 + 100 * 8
