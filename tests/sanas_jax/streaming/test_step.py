"""The step that skips and remembers: equal to `unroll`, whatever the gates and their past."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs, spaces
from sanas_jax import gates as gates_lib
from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.costs.incremental import incremental_macs
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.streaming import carry_of, dead_answers, fill, init_memory, stream_step
from sanas_jax.streaming.rings import rings
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")
STEPS = 12


def conv_net():
    """Convolutions over time behind gates, an always-on edge below one, and a dense shortcut."""
    layers = (Layer("x"), Layer("h", nn.relu), Layer("g", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("conv", "x", "h", Conv2D(2, (3, 2))),
        Edge("more", "h", "g", Conv2D(2, (4, 1), stride=(2, 1))),
        Edge("dense", "g", "f", Dense(4), gated=False),
        Edge("short", "x", "f", Dense(4)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((14, 3, 1), layers, edges, "y", "f")


def joined_net():
    """Rows that end in a join (a block with its skip), reuse, and a convolution after the join."""
    layers = (Layer("x"), Layer("h", nn.relu), Layer("s", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("block", "x", "h", Separable(4, 3, 2, residual=False), gated=False),
        Edge("wide", "h", "s", Separable(4, 3)),
        Edge("slim", "h", "s", Separable(4, 3, residual=False)),
        Edge("keep", "s", "s", Identity()),
        Edge("exit", "s", "f", Exit(5)),
        Edge("glance", "x", "f", Exit(5)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((13, 3, 1), layers, edges, "y", "f")


def short_net():
    """A window with fewer rows than a hop after its stride, and one that ends in the output."""
    layers = (Layer("x"), Layer("h"), Layer("y"))
    edges = (
        Edge("conv", "x", "h", Conv2D(2, (5, 1), stride=(2, 1))),
        Edge("out", "h", "y", Dense(3), gated=False),
    )
    return Net((8, 2, 1), layers, edges, "y", "h")


MODELS = {
    "conv": Sanas(conv_net(), Controller(nn.GRUCell(4), 0.0), hop=4),
    "joined": Sanas(joined_net(), Controller(nn.GRUCell(4), 0.0), hop=4),
    "odd hop": Sanas(conv_net(), Controller(nn.GRUCell(4), 0.0), hop=3),
    "hop = window": Sanas(short_net(), Controller(nn.GRUCell(4), 0.0), hop=8),
}


def prepare(model, seed=0):
    params = random_like(init_model(model, jax.random.key(seed)), seed)
    if "stats" in params:  # variances
        params["stats"] = jax.tree.map(jnp.abs, params["stats"])
    frames = model.window + (STEPS - 1) * model.hop
    shape = (frames, *model.net.input_shape[1:])
    return params, jax.random.normal(jax.random.key(seed + 1), shape)


def run_online(model, params, stream, policy, key):
    memory = fill(model, init_memory(model), stream[: model.window - model.hop])
    answers = dead_answers(model.net, params)
    run = jax.jit(
        lambda memory, frames: stream_step(
            model, params, answers, memory, frames, key, policy=policy
        ),
        donate_argnums=0,
    )
    out = []
    for t in range(STEPS):
        end = model.window + t * model.hop
        memory, decision = run(memory, stream[end - model.hop : end])
        out.append(jax.tree.map(np.asarray, decision))
    return memory, jax.tree.map(lambda *leaves: np.stack(leaves), *out)


def forced_step(model, params):
    """`(memory, frames, gates [E]) -> (memory, decision)`."""
    answers, key = dead_answers(model.net, params), jax.random.key(0)

    @jax.jit
    def run(memory, frames, gates):
        policy = lambda gamma, key: gates[None]  # noqa: E731
        return stream_step(model, params, answers, memory, frames, key, policy=policy)

    return run


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "joined" else []) for name in MODELS],
)
def test_steps_are_those_of_unroll(name):
    model = MODELS[name]
    params, stream = prepare(model)
    key = jax.random.key(3)
    carry = init_carry(model, 1, stats=params.get("stats"))
    end, expected = unroll(model, params, carry, stream[None], key)
    memory, got = run_online(model, params, stream, gates_lib.sample, key)
    np.testing.assert_array_equal(got.gates, expected.gates[:, 0])
    np.testing.assert_array_equal(got.live, expected.live[:, 0])
    np.testing.assert_allclose(got.logits, expected.logits[:, 0], atol=1e-5)
    np.testing.assert_allclose(got.features, expected.features[:, 0], atol=1e-5)
    np.testing.assert_allclose(carry_of(model, memory).z, end.z, atol=1e-5)
    off = 1 - np.asarray(expected.live[:, 0])
    assert off.any(0).sum() > len(model.net.edges) // 2  # or there was nothing to catch up with


def test_an_edge_catches_up_with_what_it_missed():
    """Off for 0, 1, 2, ... steps, then on: the same answer as one that was never off."""
    model = MODELS["conv"]
    params, stream = prepare(model)
    away = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1]
    memory = fill(model, init_memory(model), stream[: model.window - model.hop])
    run = forced_step(model, params)
    forced = jnp.array(away, jnp.float32)[:, None, None] * jnp.ones((1, 1, len(model.net.edges)))
    _, expected = unroll(
        model, params, init_carry(model, 1), stream[None], jax.random.key(0), gates=forced
    )
    for t in range(STEPS):
        stop = model.window + t * model.hop
        memory, out = run(memory, stream[stop - model.hop : stop], forced[t, 0])
        np.testing.assert_allclose(out.logits, expected.logits[t, 0], atol=1e-5)
        conv = model.net.index["conv"]
        most = rings(model)["conv"].steps
        since = next((i for i in range(t + 1) if away[t - i]), t + 1 + most)
        assert memory.counts[1 + conv] == min(since, most)


class CountedConv(nn.Module):
    """A convolution over time that tells how many rows it computes when it runs."""

    kernel: int
    time_stride = 1
    computed: ClassVar[list[int]] = []

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(2, (self.kernel, 1), padding="VALID")(x)
        jax.debug.callback(lambda: self.computed.append(y.shape[1]))
        return y


@pytest.mark.parametrize(("hop", "most"), [(4, 20), (5, 20), (8, 19)])
def test_what_is_charged_is_what_is_computed(hop, most):
    """Windows of 19 rows, whatever an edge has missed: `incremental_macs` is a count of them."""
    layers = (Layer("x"), Layer("h"), Layer("f"), Layer("y"))
    edges = (
        Edge("conv", "x", "h", CountedConv(3)),
        Edge("deep", "h", "f", Dense(4)),
        Edge("short", "x", "f", Dense(4)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    net = Net((21, 2, 1), layers, edges, "y", "f")
    model = Sanas(net, Controller(nn.GRUCell(4), 0.0), hop=hop)
    params, stream = prepare(model)
    gates = np.ones((STEPS, len(edges)), np.float32)
    gates[:, net.index["conv"]] = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1]
    steps = jnp.asarray(gates)
    memory = fill(model, init_memory(model), stream[: model.window - model.hop])

    run = forced_step(model, params)
    counted = []
    for t in range(STEPS):
        stop = model.window + t * model.hop
        CountedConv.computed.clear()
        memory, _ = run(memory, stream[stop - model.hop : stop], steps[t])
        jax.effects_barrier()
        counted.append(sum(CountedConv.computed))
    of_edge = costs.edge_macs(net)
    charged = incremental_macs(net, hop).along(prune(net, steps))
    others = gates @ np.array([of_edge[e.name] * (e.name != "conv") for e in edges])
    without = (gates[:, net.index["conv"]] == 0) * of_edge["deep"]  # pruned with what it reads
    rows = (np.asarray(charged) - others + without) / (of_edge["conv"] / 19)
    np.testing.assert_allclose(counted, rows, atol=1e-4)
    assert max(counted) == most  # in turns of 4 or 5 rows, or, where these are 24, at once


def test_an_edge_that_is_off_is_not_computed():
    """Its weights may be anything."""
    model = MODELS["conv"]
    params, stream = prepare(model)
    broken = params["net"] | {"more": jax.tree.map(lambda x: x * jnp.nan, params["net"]["more"])}

    def policy(gamma, key):
        del key
        return jnp.ones_like(gamma.logits).at[..., model.net.index["more"]].set(0)

    _, expected = run_online(model, params, stream, policy, jax.random.key(0))
    _, got = run_online(model, params | {"net": broken}, stream, policy, jax.random.key(0))
    np.testing.assert_array_equal(got.logits, expected.logits)


SPACES = {
    "separable": lambda: spaces.separable(num_classes=4),
    "skips": lambda: spaces.separable(num_classes=4, skips=(2, 4)),
    "kws": lambda: spaces.kws_cnn("cnn-trad-fpool3", num_classes=4, maps=(2, 2)),
    "tc-resnet": lambda: spaces.tc_resnet(num_classes=4),
    "rep-cnn": lambda: spaces.rep_cnn(8, num_classes=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_steps_of_the_spaces_of_speech(name):
    model = Sanas(SPACES[name](), Controller(nn.GRUCell(4), 0.5))
    params, stream = prepare(model)
    key = jax.random.key(5)
    carry = init_carry(model, 1, stats=params.get("stats"))
    _, expected = unroll(model, params, carry, stream[None], key)
    _, got = run_online(model, params, stream, gates_lib.sample, key)
    np.testing.assert_array_equal(got.live, expected.live[:, 0])
    scale = np.abs(expected.logits).max()
    np.testing.assert_allclose(got.logits / scale, expected.logits[:, 0] / scale, atol=1e-5)


def test_fill_takes_the_windows_first_frames_only():
    model = MODELS["conv"]
    with pytest.raises(ValueError, match=r"frames: expected \(10, 3, 1\), got \(14, 3, 1\)"):
        fill(model, init_memory(model), jnp.zeros((14, 3, 1)))
