"""The separable space: what is shared, what each gate leaves out, what is equal."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs, spaces
from sanas_jax.blocks.audio import LogMel
from sanas_jax.controller import Controller
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.forward import forward, init, init_stats
from sanas_jax.graph import prune, subnet
from sanas_jax.graph.trunk import row_strides
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll

NET = spaces.separable()
SMALL = spaces.separable(wide=((4, 5, 2), (6, 9, 1), (6, 9, 2)), slim=((3, 9, 4),), exits=(2,))


def live_of(*names, net=NET):
    """Names of the live edges when these are on."""
    gates = jnp.array([not e.gated or e.name in names for e in net.edges], jnp.float32)
    return {name for name, on in zip(net.index, prune(net, gates).tolist(), strict=True) if on}


def test_all_convolutions_are_in_the_trunk_and_run_over_the_rows_of_the_stream():
    inside = {e.target for e in NET.edges if e.target not in ("deep", "features", "logits")}
    assert inside < NET.trunk
    fresh, whole = fresh_macs(NET, 20), costs.edge_macs(NET)
    shared = {name for name in whole if fresh[name] < whole[name]}
    assert shared >= {"slim_0", *(f"block_{i}" for i in range(4))}


def test_gates_decide_depth_width_and_reuse():
    assert live_of("glance") == {"glance", "out"}
    assert live_of("exit_slim") == {"slim_0", "slim_1", "exit_slim", "out"}
    chain = [f"block_{i}" for i in range(5)]
    assert live_of("exit_2") == {*chain[:2], "exit_2", "pass", "out"}
    assert live_of("exit_short") == {*chain, "short", "exit_short", "pass", "out"}
    assert live_of("keep") == {"keep", "pass", "out"}
    assert live_of("keep", "exit_4") == {*chain[:4], "exit_4", "pass", "out"}
    assert {NET.edges[e].name for e in NET.gated} == {
        "glance",
        *(f"exit_{name}" for name in ("slim", "2", "4", "short", "long")),
        "keep",
    }


def test_an_architecture_without_the_wide_chain_stands_alone():
    alone = subnet(NET, live_of("glance", "exit_slim"))
    assert set(alone.index) == {"glance", "slim_0", "slim_1", "exit_slim", "out"}


def test_everything_on_leaves_nothing_out_but_reuse():
    live = prune(NET, jnp.ones(len(NET.edges)))
    assert {name for name, on in zip(NET.index, live.tolist(), strict=True) if not on} == {"keep"}
    macs = costs.edge_macs(NET)
    assert sum(macs.values()) < 2.5e6
    cheapest = costs.macs(NET)(jnp.zeros(len(NET.edges)).at[NET.index["glance"]].set(1.0))
    assert cheapest == macs["glance"] + macs["out"] < 10_000


@pytest.mark.slow
def test_stream_equals_batch():
    model = Sanas(SMALL, Controller(nn.GRUCell(8), 0.0), hop=20)
    params = init_model(model, jax.random.key(0))
    stream = jax.random.normal(jax.random.key(1), (2, 181, 40, 1))
    key = jax.random.key(2)
    carry = init_carry(model, 2, stats=params["stats"])
    end, _ = unroll(model, params, carry, stream, key, train=True)
    params |= {"stats": end.stats}
    carry = init_carry(model, 2, stats=params["stats"])
    _, outs = unroll(model, params, carry, stream, key)
    assert 0 < outs.live[..., SMALL.index["keep"]].mean() < 1
    for t in range(model.num_steps(181)):
        window = stream[:, 20 * t : 20 * t + 101]
        carry, out = step(model, params, carry, window, key)
        np.testing.assert_array_equal(out.gates, outs.gates[t])
        np.testing.assert_allclose(out.logits, outs.logits[t], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_single_late_block_can_be_left_out():
    """Gates off leave the identity; statistics are then of the rows that ran the block."""
    net = spaces.separable(
        wide=((4, 5, 2), (6, 9, 2), (6, 9, 1)), slim=((3, 9, 4),), exits=(), skips=(2,), reuse=False
    )
    assert net.trunk >= {"h1"}
    assert not net.trunk & {"h2", "short", "long"}
    assert net.with_live_stats == {"short", "long", "exit_short", "exit_long"}
    params, stats = init(net, jax.random.key(0)), init_stats(net)
    x = jax.random.normal(jax.random.key(1), (4, 101, 40, 1))
    gates = jnp.ones((4, len(net.edges))).at[:2, net.index["block_2"]].set(0.0)
    out = forward(net, params, prune(net, gates), x, stats=stats)
    alone = subnet(net, [name for name in net.index if name != "block_2"])
    own = {name: params[name] for name in alone.index}
    own_stats = {name: stats[name] for name in alone.with_stats}
    every = jnp.ones(len(alone.edges))
    expected = forward(alone, own, every, x[:2], stats=own_stats)
    np.testing.assert_allclose(out.logits[:2], expected.logits, rtol=1e-5, atol=1e-5)
    others = forward(alone, own, every, x[2:], stats=own_stats)
    assert np.abs(out.logits[2:] - others.logits).max() > 1e-3
    with pytest.raises(ValueError, match="skips: expected blocks that keep the number of maps"):
        spaces.separable(skips=(1,))


def test_other_sizes_and_impossible_exits():
    assert SMALL.shapes["features"] == (96,)
    assert "keep" not in spaces.separable(reuse=False).index
    with pytest.raises(ValueError, match=r"exits: expected depths from 1 to 4, got \[2, 5\]"):
        spaces.separable(exits=(2, 5))
    assert hash(NET) == hash(spaces.separable())
    assert dataclasses.replace(NET) == NET


GATED = spaces.separable(log_mel=LogMel())


def test_bands_are_computed_where_an_edge_reads_them():
    look = {"energy", "onset", "exit_sound"}  # always
    assert live_of(net=GATED) == look | {"out"}
    assert live_of("glance", net=GATED) == look | {"mel", "glance", "out"}
    assert live_of("exit_2", net=GATED) == live_of("exit_2") | look | {"mel"}
    assert live_of("keep", net=GATED) == live_of("keep") | look
    assert {"loud", "sound", "bands"} < GATED.trunk
    assert {"energy", "onset", "mel"} < row_strides(GATED, 20).keys()


def test_silence_costs_no_bands_and_the_first_word_after_it_a_window_of_them():
    gates = np.zeros((9, len(GATED.edges)), np.float32)
    gates[[0, 7, 8], GATED.index["glance"]] = 1
    fresh, whole = fresh_macs(GATED, 20), costs.edge_macs(GATED)
    silence = fresh["energy"] + fresh["onset"] + whole["exit_sound"] + whole["out"]
    expected = np.full(9, silence)
    expected[[0, 7]] += whole["glance"] + whole["mel"]  # in steps 1 to 6 all rows have gone
    expected[8] += whole["glance"] + fresh["mel"]
    expected[0] += whole["energy"] - fresh["energy"] + 4 * fresh["onset"]  # five steps' rows
    got = incremental_macs(GATED, 20).along(gates)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert silence < 25_000 < fresh["mel"]


def test_a_network_on_bands_says_the_same_under_the_gate():
    """A new exit is silent, so what it adds to the features is nothing before it is trained."""
    sizes = {"wide": ((4, 5, 2), (6, 9, 1)), "slim": ((3, 9, 4),), "exits": (1,)}
    plain, gated = (spaces.separable(log_mel=mel, **sizes) for mel in (None, LogMel()))
    params, stats = init(gated, jax.random.key(0)), init_stats(gated)
    samples = 0.1 * jax.random.normal(jax.random.key(1), (2, 103, 160, 1))
    every = jnp.ones(len(gated.edges))
    got = forward(gated, params, prune(gated, every), samples, stats=stats)
    own, own_stats = (
        {e.name: tree[e.name] for e in plain.edges if e.name in tree} for tree in (params, stats)
    )
    bands = LogMel().apply({"batch_stats": stats["mel"]}, samples)[..., None]
    live = prune(plain, jnp.ones(len(plain.edges)))
    expected = forward(plain, own, live, bands, stats=own_stats)
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-5)
