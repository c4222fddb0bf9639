"""MACs of a runtime that remembers, against rows counted one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import spaces
from sanas_jax.blocks import Dense
from sanas_jax.blocks.separable import Separable
from sanas_jax.costs import charge, edge_macs, macs, relative
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.graph.trunk import row_strides
from tests.helpers.nets import all_gates


def small_net():
    """Two convolutions in the trunk with a way around; windows of 12 frames."""
    layers = (Layer("x"), Layer("a"), Layer("b"), Layer("f"), Layer("y"))
    edges = (
        Edge("first", "x", "a", Separable(3, 3, 2, residual=False)),
        Edge("second", "a", "b", Separable(2, 3, residual=False)),
        Edge("deep", "b", "f", Dense(4)),
        Edge("early", "x", "f", Dense(4)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((12, 2), layers, edges, output="y", features="f")


NET, HOP = small_net(), 4


def test_rows_of_the_stream_are_those_of_blocks_that_shift():
    assert row_strides(NET, HOP) == {"first": 2, "second": 2}
    assert row_strides(NET, 3) == {}  # the stride does not divide the hop
    assert fresh_macs(NET, HOP) == edge_macs(NET) | {
        "first": 2 * (3 * 2 + 2 * 3),  # 2 rows of 3 taps on 2 channels, then 2 channels to 3
        "second": 2 * (3 * 3 + 3 * 2),
    }


def by_counting(live):
    """Each edge keeps the set of rows that it has computed; a step adds those it lacks."""
    strides, rows = {"first": 2, "second": 2}, {"first": 5, "second": 3}
    macs, done, out = edge_macs(NET), {name: set() for name in strides}, []
    for t, row in enumerate(live):
        total = 0.0
        for name, on in zip(NET.index, row, strict=True):
            if not on:
                continue
            if name not in strides:
                total += macs[name]
                continue
            start = t * HOP // strides[name]
            window = set(range(start, start + rows[name]))
            total += macs[name] / rows[name] * len(window - done[name])
            # A ring buffer holds one window.
            done[name] = window
        out.append(total)
    return out


def test_incremental_macs_against_rows_counted():
    rng = np.random.default_rng(0)
    gates = all_gates(len(NET.edges))[rng.integers(0, 2 ** len(NET.edges), (40, 3))]
    live = prune(NET, jnp.asarray(gates))
    got = incremental_macs(NET, HOP).along(live)
    assert got.shape == (40, 3)
    for b in range(3):
        np.testing.assert_allclose(got[:, b], by_counting(np.asarray(live[:, b])), rtol=1e-6)


def test_a_steady_stream_of_the_modern_space_costs_its_fresh_rows():
    net = spaces.separable()
    live = jnp.repeat(prune(net, jnp.ones(len(net.edges)))[None], 4, 0)
    cost = incremental_macs(net, 20).along(live)
    keep = net.index["keep"]
    assert not live[:, keep].any()  # nothing to reuse where everything runs
    # 49 rows in five turns of 10, and others likewise: hardly more than the whole window.
    assert 1 < cost[0] / sum(edge_macs(net).values()) < 1.125
    np.testing.assert_allclose(cost[1:], sum(fresh_macs(net, 20).values()), rtol=1e-6)
    assert cost[1] < 0.5 * cost[0]


def test_time_is_an_axis_that_nothing_else_is_taken_for():
    """[E] read as time, or [B, E] under a vmap, gave a number: of other steps than were meant."""
    cost, gates = incremental_macs(NET, HOP), jnp.ones((6, 3, len(NET.edges)))
    with pytest.raises(ValueError, match=r"gates: expected .* \[T, ..., E\], .* got \(5,\)"):
        cost.along(gates[0, 0])
    with pytest.raises(TypeError):
        jax.vmap(cost)(gates)
    share = relative(NET, cost)
    with pytest.raises(ValueError, match="gates: expected"):
        charge(share, gates[0, 0])
    np.testing.assert_allclose(share.along(gates)[1:], 1.0, rtol=1e-6)  # once rings are full
    np.testing.assert_allclose(
        share.along(gates), cost.along(gates) / sum(fresh_macs(NET, HOP).values()), rtol=1e-6
    )
    assert share.full == 1
    # A cost of single architectures is charged as it is.
    np.testing.assert_array_equal(charge(macs(NET), gates), macs(NET)(gates))


def test_gates_that_lead_nowhere_are_free():
    gates = jnp.ones((4, len(NET.edges))).at[:, NET.index["deep"]].set(0)  # `first`, `second` too
    cost = incremental_macs(NET, HOP)
    np.testing.assert_array_equal(cost.along(gates), cost.along(prune(NET, gates)))
    assert (np.asarray(cost.along(gates)) == edge_macs(NET)["early"] + edge_macs(NET)["out"]).all()
