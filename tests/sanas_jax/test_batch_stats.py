"""Batch statistics under stochastic gates: of live rows only, explicit, the same in every form."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import gates as gates_lib
from sanas_jax.controller import Controller
from sanas_jax.costs import macs, relative
from sanas_jax.forward import forward, init, init_stats
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    init_state,
    make_evaluate,
    make_update,
)
from sanas_jax.training.optimizer import make_optimizer

MOMENTUM = 0.9


class DenseBn(nn.Module):
    """Flatten, affine map, BatchNorm."""

    features: int

    @nn.compact
    def __call__(self, x, *, train=False, live=None):
        # No bias: BatchNorm takes it out, and Adam would make steps of its gradient's rounding.
        y = nn.Dense(self.features, use_bias=False)(x.reshape(x.shape[0], -1))
        rows = jnp.ones(x.shape[0], bool) if live is None else live
        rows = jnp.where(rows.any(), rows, True)[:, None]
        norm = nn.BatchNorm(not train, momentum=MOMENTUM, use_fast_variance=False)
        return norm(y, mask=jnp.broadcast_to(rows, y.shape))


def small_net():
    """input → a → out with a way around; statistics at the input, in the middle and at the end."""
    layers = (Layer("input"), Layer("a", nn.relu), Layer("b", nn.relu), Layer("out"))
    edges = (
        Edge("first", "input", "a", DenseBn(5)),
        Edge("plain", "a", "b", nn.Dense(4)),
        Edge("second", "a", "b", DenseBn(4)),
        Edge("short", "input", "b", DenseBn(4)),
        Edge("last", "b", "out", nn.Dense(3), gated=False),
    )
    return Net((4, 2), layers, edges, output="out", features="b")


NET = small_net()
PARAMS, STATS = init(NET, jax.random.key(0)), init_stats(NET)
X = jax.random.normal(jax.random.key(1), (6, 4, 2))
MODEL = Sanas(NET, Controller(nn.GRUCell(3), 0.3), hop=2)


def test_the_net_knows_which_edges_keep_statistics():
    assert NET.with_stats == {"first", "second", "short"} == set(STATS)
    assert NET.trunk == {"input"}


def test_statistics_are_those_of_the_live_rows():
    gates = jnp.array([[1, 1, 1, 0, 1]] * 2 + [[1, 0, 0, 1, 1]] * 4, jnp.float32)
    live = prune(NET, gates)
    out = forward(NET, PARAMS, live, X, stats=STATS, train=True)
    # In the last four rows `first` is on but leads nowhere: not live.
    for edge, rows in (("first", slice(0, 2)), ("short", slice(2, 6))):
        y = np.asarray(X[rows]).reshape(-1, 8) @ PARAMS[edge]["Dense_0"]["kernel"]
        got = out.stats[edge]["BatchNorm_0"]
        np.testing.assert_allclose(got["mean"], (1 - MOMENTUM) * y.mean(0), rtol=1e-5, atol=1e-6)
        expected = MOMENTUM + (1 - MOMENTUM) * y.var(0)
        np.testing.assert_allclose(got["var"], expected, rtol=1e-5)


def test_rows_that_are_off_change_nothing():
    gates = prune(NET, jnp.array([[1, 1, 1, 0, 1]] * 3 + [[0, 0, 0, 0, 1]] * 3, jnp.float32))
    out = forward(NET, PARAMS, gates, X, stats=STATS, train=True)
    other = forward(NET, PARAMS, gates, X.at[3:].set(100.0), stats=STATS, train=True)
    np.testing.assert_allclose(out.logits, other.logits, rtol=1e-6)
    assert_trees_close(out.stats, other.stats, 1e-6)


def test_an_edge_live_in_no_row_keeps_its_statistics():
    gates = jnp.zeros((6, 5)).at[:, NET.index["short"]].set(1)
    out = forward(NET, PARAMS, prune(NET, gates), X, stats=STATS, train=True)
    for edge in ("first", "second"):
        assert_trees_close(out.stats[edge], STATS[edge], 0)
    assert np.isfinite(out.logits).all()
    grads = jax.grad(
        lambda p: forward(NET, p, prune(NET, gates), X, stats=STATS, train=True).logits.sum()
    )(PARAMS)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_evaluation_changes_nothing_and_sees_rows_one_by_one():
    gates = jnp.ones((6, 5))
    whole = forward(NET, PARAMS, gates, X, stats=STATS)
    assert_trees_close(whole.stats, STATS, 0)
    single = forward(NET, PARAMS, gates[:1], X[:1], stats=STATS)
    np.testing.assert_allclose(whole.logits[:1], single.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_unroll_equals_loop(train):
    params = init_model(MODEL, jax.random.key(2))
    stream, key = jax.random.normal(jax.random.key(3), (5, 10, 2)), jax.random.key(4)

    def loop(net):
        own = params | {"net": net}
        carry, outs = init_carry(MODEL, 5, stats=params["stats"]), []
        for t in range(MODEL.num_steps(10)):
            carry, out = step(MODEL, own, carry, stream[:, 2 * t : 2 * t + 4], key, train=train)
            outs.append(out.logits)
        return jnp.stack(outs), carry.stats

    def whole(net):
        carry = init_carry(MODEL, 5, stats=params["stats"])
        end, outs = unroll(MODEL, params | {"net": net}, carry, stream, key, train=train)
        return outs.logits, end.stats

    def both(run):
        def total(net):
            logits, stats = run(net)
            return (logits**2).sum(), (logits, stats)

        return jax.jit(jax.grad(total, has_aux=True))(params["net"])

    (one, values), (other, expected) = both(loop), both(whole)
    assert_trees_close(values, expected, 1e-5)
    assert_trees_close(one, other, 1e-4)


@pytest.mark.slow
def test_update_advances_statistics_and_vmaps():
    objective = Objective(Price(relative(NET, macs(NET))), Score(samples=2))
    optimizer = make_optimizer(1e-2)
    update = make_update(MODEL, optimizer, objective)
    batch = Batch(
        jax.random.normal(jax.random.key(5), (4, 8, 2)),
        jnp.zeros((3, 4), int),
        jnp.ones((3, 4), bool),
    )
    budgets = Budget(jnp.array([0.1, 1.0]), jnp.zeros(2))
    keys = jax.random.split(jax.random.key(6))
    states = [init_state(MODEL, optimizer, objective, jax.random.key(s)) for s in (7, 8)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    many, metrics = jax.vmap(update, (0, None, 0, 0))(stacked, batch, keys, budgets)
    for g, state in enumerate(states):
        one, _ = update(state, batch, keys[g], jax.tree.map(lambda leaf, g=g: leaf[g], budgets))
        assert_trees_close(one.params, jax.tree.map(lambda leaf, g=g: leaf[g], many.params), 1e-4)
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one.params, state.params)
        assert min(jax.tree.leaves(moved["stats"]["short"])) > 0
    assert np.isfinite(metrics["loss"]).all()
    evaluated = make_evaluate(MODEL, objective)(one.params, batch)
    assert np.isfinite(evaluated["loss"])


def test_running_statistics_are_the_mean_over_the_samples():
    """Each of M rollouts is a batch of its own; what is kept is their mean, not one of them."""
    objective = Objective(Price(relative(NET, macs(NET))), Score(samples=3))
    optimizer = make_optimizer(1e-2)
    state = init_state(MODEL, optimizer, objective, jax.random.key(0))
    features = jax.random.normal(jax.random.key(1), (5, 10, 2))
    steps, key = MODEL.num_steps(10), jax.random.key(2)
    batch = Batch(features, jnp.zeros((steps, 5), int), jnp.ones((steps, 5), bool))

    @jax.jit
    def of_samples(params):
        carry = init_carry(MODEL, 5, stats=params["stats"])
        run = lambda key: unroll(MODEL, params, carry, features, key, train=True)[0].stats  # noqa: E731
        return jax.vmap(run)(jax.random.split(key, 3))

    samples = of_samples(state.params)
    update = jax.jit(make_update(MODEL, optimizer, objective))
    budget = Budget(jnp.float32(0.1), jnp.float32(0))
    got = update(state, batch, key, budget)[0].params["stats"]
    assert_trees_close(got, jax.tree.map(lambda leaf: leaf.mean(0), samples), 1e-5)
    differ = jax.tree.map(lambda leaf: float(jnp.abs(leaf - leaf.mean(0)[None]).max()), samples)
    assert min(jax.tree.leaves(differ["second"])) > 1e-4


def test_missing_statistics_raise():
    with pytest.raises(ValueError, match=r"running statistics of 3 edges .*got 0"):
        forward(NET, PARAMS, jnp.ones(5), X)
    with pytest.raises(ValueError, match="running statistics"):
        unroll(
            MODEL,
            init_model(MODEL, jax.random.key(0)),
            init_carry(MODEL, 6),
            X,
            jax.random.key(0),
            policy=gates_lib.all_on,
        )


def assert_trees_close(a, b, tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = max(float(np.abs(y).max()), 1e-3)
        np.testing.assert_allclose(x, y, atol=tolerance * scale, rtol=0)
