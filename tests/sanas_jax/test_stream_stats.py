"""Blocks whose batch statistics are of the whole stream: part of the trunk, blind to gates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.blocks import Dense
from sanas_jax.blocks.norm import batch_norm
from sanas_jax.controller import Controller
from sanas_jax.forward import forward
from sanas_jax.gates import all_on, sample
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll

MOMENTUM = 0.9


class RowNorm(nn.Module):
    """Every second row times a matrix, then BatchNorm over rows and positions."""

    features: int
    time_stride: int = 2
    stats_over_stream = True

    @nn.compact
    def __call__(self, x, *, train=False, live=None):
        y = nn.Dense(self.features, use_bias=False)(x[:, ::2])
        return batch_norm(y, train, live, momentum=MOMENTUM)


def small_net():
    """Two normalised layers in the trunk, each with an exit."""
    layers = (Layer("x"), Layer("a", nn.relu), Layer("b", nn.relu), Layer("f"), Layer("y"))
    edges = (
        Edge("first", "x", "a", RowNorm(3)),
        Edge("second", "a", "b", RowNorm(3)),
        Edge("early", "a", "f", Dense(4)),
        Edge("late", "b", "f", Dense(4)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((8, 2), layers, edges, output="y", features="f")


NET = small_net()
MODEL = Sanas(NET, Controller(nn.GRUCell(3), 0.0), hop=4)
PARAMS = init_model(MODEL, jax.random.key(0))
STREAM = jax.random.normal(jax.random.key(1), (3, 20, 2))


def unrolled(params, policy, train):
    carry = init_carry(MODEL, 3, stats=params["stats"])
    return unroll(MODEL, params, carry, STREAM, jax.random.key(2), policy=policy, train=train)


def test_they_are_part_of_the_trunk():
    assert NET.with_stats == {"first", "second"}
    assert not NET.with_live_stats
    assert NET.trunk == {"x", "a", "b"}


def test_statistics_are_of_every_position_of_the_stream():
    end, _ = unrolled(PARAMS, sample, train=True)
    y = np.asarray(STREAM[:, ::2]) @ PARAMS["net"]["first"]["Dense_0"]["kernel"]
    got = end.stats["first"]["BatchNorm_0"]
    np.testing.assert_allclose(got["mean"], (1 - MOMENTUM) * y.mean((0, 1)), rtol=1e-4, atol=1e-6)
    expected = MOMENTUM + (1 - MOMENTUM) * y.var((0, 1))
    np.testing.assert_allclose(got["var"], expected, rtol=1e-5)


def test_they_do_not_depend_on_the_gates():
    some, _ = unrolled(PARAMS, sample, train=True)
    none, _ = unrolled(PARAMS, lambda gamma, key: jnp.zeros_like(gamma.logits), train=True)
    every, _ = unrolled(PARAMS, all_on, train=True)
    for other in (none, every):
        for a, b in zip(jax.tree.leaves(some.stats), jax.tree.leaves(other.stats), strict=True):
            np.testing.assert_array_equal(a, b)


def test_stream_equals_batch_once_trained():
    """With running statistics: the whole stream at once, step by step, window by window."""
    end, _ = unrolled(PARAMS, sample, train=True)
    params = PARAMS | {"stats": end.stats}
    _, outs = unrolled(params, sample, train=False)
    assert 0 < outs.live.mean() < 1
    carry = init_carry(MODEL, 3, stats=params["stats"])
    for t in range(MODEL.num_steps(20)):
        x = STREAM[:, 4 * t : 4 * t + 8]
        carry, out = step(MODEL, params, carry, x, jax.random.key(2))
        np.testing.assert_allclose(out.logits, outs.logits[t], rtol=1e-5, atol=1e-6)
        alone = forward(NET, params["net"], prune(NET, outs.gates[t]), x, stats=params["stats"])
        np.testing.assert_allclose(alone.logits, outs.logits[t], rtol=1e-5, atol=1e-6)
        assert alone.stats.keys() == params["stats"].keys()
