"""Edges that reuse a layer's last value: when they are live, what they pass on, what they cost."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.figures.layouts import make_layout
from sanas_jax import costs, gates
from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.controller import Controller
from sanas_jax.forward import forward, init, init_last
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from tests.helpers.nets import all_gates


def reusing_net():
    """A cheap and a dear branch into `f`; the dear one and `f` may reuse their last values."""
    layers = (Layer("x"), Layer("h", nn.relu), Layer("d"), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("conv", "x", "h", Conv2D(2, (3, 1))),
        Edge("dear", "h", "d", Dense(4)),
        Edge("keep_d", "d", "d", Identity()),
        Edge("pass", "d", "f", Identity(), gated=False),
        Edge("cheap", "x", "f", Dense(4)),
        Edge("keep_f", "f", "f", Identity()),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((6, 1, 1), layers, edges, output="y", features="f")


NET = reusing_net()
MODEL = Sanas(NET, Controller(nn.GRUCell(3), 0.0), hop=2)


def test_the_trunk_ends_where_a_value_may_be_reused():
    assert NET.trunk == {"x", "h"}
    assert NET.incoming["f"] == tuple(e for e in NET.edges if e.name in ("pass", "cheap"))


def test_reuse_is_live_where_nothing_else_reaches_the_layer():
    for mask in all_gates(len(NET.edges)):
        on = {e.name: bool(g) or not e.gated for e, g in zip(NET.edges, mask, strict=True)}
        found = dict(
            zip(NET.index, prune(NET, jnp.asarray(mask)).astype(bool).tolist(), strict=True)
        )
        dear = on["conv"] and on["dear"]
        kept = on["keep_d"] and not dear
        reached = dear or kept or on["cheap"]
        assert found == {
            "conv": dear,
            "dear": dear,
            "keep_d": kept,
            "pass": dear or kept,
            "cheap": on["cheap"],
            "keep_f": on["keep_f"] and not reached,
            "out": reached or on["keep_f"],
        }


def by_hand(params, live, stream):
    """[T, K] logits of one stream, a step after the other."""

    def dense(name, value):
        weights = params[name]["Dense_0"]
        return value.reshape(-1) @ weights["kernel"] + weights["bias"]

    d, f, out = np.zeros(4), np.zeros(4), []
    for t, row in enumerate(live):
        on = dict(zip(NET.index, row.tolist(), strict=True))
        x = stream[2 * t : 2 * t + 6]
        conv = params["conv"]["Conv_0"]
        h = sum(x[i : i + 4, :, 0] @ conv["kernel"][i, 0] for i in range(3)) + conv["bias"]
        d = dense("dear", np.maximum(h, 0)) if on["dear"] else d if on["keep_d"] else np.zeros(4)
        total = d * on["pass"] + (dense("cheap", x) if on["cheap"] else 0)
        f = f if on["keep_f"] else np.maximum(total, 0)
        out.append(dense("out", f))
    return np.stack(out)


def test_unroll_and_loop_equal_the_rule_written_out():
    params = init_model(MODEL, jax.random.key(0))
    stream = jax.random.normal(jax.random.key(1), (5, 30, 1, 1))
    steps = MODEL.num_steps(30)
    drawn = jax.random.bernoulli(jax.random.key(2), 0.5, (steps, 5, len(NET.edges)))
    drawn = drawn.astype(jnp.float32)
    carry = init_carry(MODEL, 5)
    _, outs = unroll(MODEL, params, carry, stream, jax.random.key(3), gates=drawn)
    assert {"keep_d", "keep_f", "dear", "cheap"} <= {
        edge.name for edge, used in zip(NET.edges, outs.live.sum((0, 1)), strict=True) if used > 2
    }
    weights = jax.tree.map(np.asarray, params["net"])
    for b in range(5):
        expected = by_hand(weights, np.asarray(outs.live[:, b]), np.asarray(stream[b]))
        np.testing.assert_allclose(outs.logits[:, b], expected, rtol=1e-4, atol=1e-5)
    for t in range(steps):
        now = stream[:, 2 * t : 2 * t + 6]
        carry, out = step(
            MODEL, params, carry, now, jax.random.key(3), policy=lambda gamma, key, t=t: drawn[t]
        )
        np.testing.assert_allclose(out.logits, outs.logits[t], rtol=1e-4, atol=1e-6)


def test_a_step_alone_has_nothing_to_reuse():
    params = init(NET, jax.random.key(0))
    only = jnp.zeros((2, len(NET.edges))).at[:, NET.index["keep_f"]].set(1.0)
    out = forward(NET, params, prune(NET, only), jnp.ones((2, 6, 1, 1)))
    np.testing.assert_array_equal(out.features, 0)
    assert {name: value.shape for name, value in init_last(NET, 2).items()} == {
        "d": (2, 4),
        "f": (2, 4),
    }


def test_reuse_costs_nothing_and_every_cost_counts_it():
    assert costs.edge_macs(NET)["keep_f"] == costs.edge_params(NET)["keep_f"] == 0
    only = jnp.zeros(len(NET.edges)).at[NET.index["keep_f"]].set(1.0)
    assert costs.macs(NET)(only) == costs.edge_macs(NET)["out"]
    for cost in (costs.parallel(NET, 2), costs.memory(NET)):
        values = jax.jit(cost)(jnp.asarray(all_gates(len(NET.edges))))
        assert np.isfinite(values).all()
        assert (values[1:] >= 0).all()
    assert set(make_layout(NET).paths) == set(NET.index)


def test_a_reusing_edge_needs_a_gate_and_company():
    layers = (Layer("x"), Layer("f"), Layer("y"))
    out = Edge("out", "f", "y", Dense(2), gated=False)
    first = Edge("first", "x", "f", Dense(2))
    for keep in (
        Edge("keep", "f", "f", Identity(), gated=False),
        Edge("keep", "x", "x", Identity()),
    ):
        with pytest.raises(ValueError, match="edge 'keep': expected a gate, and other edges"):
            Net((2,), layers, (first, keep, out), output="y", features="f")
    twice = tuple(Edge(name, "f", "f", Identity()) for name in ("keep", "again"))
    with pytest.raises(ValueError, match="layer 'f': expected one edge that reuses it, got"):
        Net((2,), layers, (first, *twice, out), output="y", features="f")


def test_gradients_flow_through_what_was_reused():
    params = init_model(MODEL, jax.random.key(0))
    stream = jax.random.normal(jax.random.key(1), (2, 8, 1, 1))
    first = gates.all_on(gates.Gamma(jnp.zeros((2, len(NET.edges)))), jax.random.key(0))
    then = jnp.zeros_like(first).at[:, NET.index["keep_f"]].set(1.0)
    forced = jnp.stack([first, then])

    def last_logits(net):
        carry = init_carry(MODEL, 2)
        own = params | {"net": net}
        return unroll(MODEL, own, carry, stream, jax.random.key(2), gates=forced)[1].logits[1].sum()

    grads = jax.grad(last_logits)(params["net"])
    assert float(jnp.abs(grads["dear"]["Dense_0"]["kernel"]).max()) > 0
