"""Costs: counted operations, tables, memory, consistency, black boxes; live edges only."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Conv2D, Dense
from sanas_jax.graph import Edge, Layer, Net, prune
from tests.helpers.nets import Scale, all_gates, identity_net, random_dag, stream_net

pytestmark = pytest.mark.usefixtures("strict")


def macs_of(module: nn.Module, *shape: int) -> int:
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    return costs.count_macs(module.apply, variables, x)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Dense(7), (1, 5), 35),
        (nn.Dense(7), (3, 5), 3 * 35),
        # 20×8 on 101×40: 82·33 outputs; docs/protocol.md: conv_0 of cnn-trad-fpool3.
        (nn.Conv(64, (20, 8), padding="VALID"), (1, 101, 40, 1), 82 * 33 * 20 * 8 * 64),
        # Strided: ceil((11 − 2)/3) = 3 and ceil((9 − 2)/2) = 4 outputs.
        (nn.Conv(5, (3, 3), (3, 2), padding="VALID"), (1, 11, 9, 2), 3 * 4 * 9 * 2 * 5),
        # Same padding: as many outputs as inputs.
        (nn.Conv(5, (3, 3)), (1, 6, 7, 2), 6 * 7 * 9 * 2 * 5),
        # Groups of 2 input channels each.
        (
            nn.Conv(8, (3, 1), padding="VALID", feature_group_count=4),
            (1, 9, 2, 8),
            7 * 2 * 3 * 2 * 8,
        ),
        # Depthwise.
        (nn.Conv(6, (3,), padding="VALID", feature_group_count=6), (1, 10, 6), 8 * 3 * 6),
        # Dilated kernel: 3 taps over 5 rows, 12 − 4 outputs.
        (nn.Conv(4, (3,), padding="VALID", kernel_dilation=2), (1, 12, 3), 8 * 3 * 3 * 4),
        # Transposed, stride 2: every one of the 6 inputs meets every tap once, the input's zeros
        # are free. 2·6 outputs × 2 taps × 3 × 5 / 2.
        (nn.ConvTranspose(5, (2,), (2,), padding="VALID"), (1, 6, 3), 6 * 2 * 3 * 5),
        (Conv2D(4, (2, 2), pool=(1, 2)), (1, 5, 5, 3), 4 * 4 * 4 * 3 * 4),
        (Scale(), (1, 4), 0),
    ],
)
def test_count_macs_formulas(module, shape, expected):
    assert macs_of(module, *shape) == expected


class Stack(nn.Module):
    """A user's block: dense layers in a scan, a branch and a product of activations."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        w = self.param("w", nn.initializers.ones, (4, 4))
        x, _ = jax.lax.scan(lambda h, _: (nn.tanh(h @ w), None), x, None, length=6)
        x = jax.lax.cond(x.sum() > 0, lambda v: v @ w @ w, lambda v: v, x)
        x = jax.jit(lambda v: v @ w)(x)
        return jnp.einsum("bi,bj->bij", x, x).reshape(x.shape[0], 16)


def test_count_macs_of_a_users_module():
    # 6 scan steps, the dearer branch (2), one call: 9 products of 16; outer product 16.
    assert macs_of(Stack(), 1, 4) == 9 * 16 + 16


def test_count_macs_dot_general_batched():
    a, b = jnp.zeros((5, 2, 3)), jnp.zeros((5, 3, 4))
    assert costs.count_macs(jnp.matmul, a, b) == 5 * 2 * 3 * 4
    assert costs.count_macs(lambda a: jnp.einsum("ijk,ijk->", a, a), a) == 30


def test_count_macs_while_loop_raises():
    def unknown(x):
        return jax.lax.while_loop(lambda v: v.sum() < 10, lambda v: v @ v, x)

    with pytest.raises(ValueError, match="MACs of a while loop: expected a static trip count"):
        costs.count_macs(unknown, jnp.ones((2, 2)))
    # Without products inside there is nothing to count.
    assert (
        costs.count_macs(lambda x: jax.lax.while_loop(lambda v: v < 3, lambda v: v + 1, x), 0) == 0
    )


def test_edge_macs_and_params_by_hand():
    net = stream_net(window=6, width=2, num_classes=3)
    # conv 3×1, 1→2 on 6×1: 4 outputs. short 6→2, deep 8→2, out 2→3.
    assert costs.edge_macs(net) == {"conv": 4 * 3 * 2, "short": 12, "deep": 16, "out": 6}
    assert costs.edge_params(net) == {"conv": 8, "short": 14, "deep": 18, "out": 9}
    assert costs.edge_macs(identity_net())["i"] == 0


def test_macs_by_hand():
    net = stream_net(window=6, width=2, num_classes=3)
    gates = jnp.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1.0]])
    # Row 2: conv without deep is a dead end. Row 3: deep without conv has no input, and then the
    # classifier has none either, always on or not.
    np.testing.assert_array_equal(costs.macs(net)(gates), [58, 46, 18, 0, 18])
    np.testing.assert_array_equal(costs.params(net)(gates), [49, 35, 23, 0, 23])


@pytest.mark.parametrize("seed", range(4))
def test_cost_is_monotone_in_gates_and_charges_live_edges(seed):
    net = random_dag(seed)
    rng = np.random.default_rng(seed)
    table = {edge.name: int(rng.integers(1, 100)) for edge in net.edges}
    masks = all_gates(len(net.edges))
    cost = costs.table(net, table)
    got = np.asarray(cost(masks))
    expected = np.asarray(prune(net, masks)) @ np.array(list(table.values()))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(jax.jit(cost)(masks), got)
    np.testing.assert_array_equal(jax.vmap(cost)(masks), got)
    for e in range(len(net.edges)):
        more = masks.copy()
        more[:, e] = 1
        assert (np.asarray(cost(more)) >= got).all()
    assert got[-1] == got.max()


def test_table_json_is_the_mapping():
    net = identity_net()
    table = {"i": 2, "o": 0.5}
    gates = all_gates(2)
    np.testing.assert_array_equal(
        costs.table(net, json.dumps(table))(gates), costs.table(net, table)(gates)
    )
    assert float(costs.table(net, table)(jnp.ones(2))) == 2.5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"i": 1.0}, r"expected one per edge; missing \['o'\], unknown \[\]"),
        ({"i": 1, "o": 1, "q": 1}, r"missing \[\], unknown \['q'\]"),
        ({"i": -1, "o": 1}, "edge 'i': expected a number ≥ 0, got -1"),
        ({"i": 1, "o": float("nan")}, "edge 'o': expected a number ≥ 0, got nan"),
        ({"i": 1, "o": float("inf")}, "edge 'o': expected a number ≥ 0, got inf"),
        ({"i": 1, "o": "3"}, "edge 'o': expected a number ≥ 0, got '3'"),
        ({"i": True, "o": 1}, "edge 'i': expected a number ≥ 0, got True"),
        ("{'i': 1}", "expected a JSON object, got invalid JSON"),
        ("[1, 2]", "expected edge name → number, got list"),
        ([1, 2], "expected edge name → number, got list"),
    ],
)
def test_table_malformed_raises(table, message):
    with pytest.raises(ValueError, match="costs: .*" + message):
        costs.table(identity_net(), table)


def branches(features: str) -> Net:
    """x → a → b → f beside x → f, then an always-on classifier; 4, 3, 2, 5 and 2 values."""
    layers = tuple(Layer(name) for name in ("x", "a", "b", "f", "y"))
    edges = (
        Edge("xa", "x", "a", Dense(3)),
        Edge("ab", "a", "b", Dense(2)),
        Edge("xf", "x", "f", Dense(5)),
        Edge("bf", "b", "f", Dense(5)),
        Edge("fy", "f", "y", Dense(2), gated=False),
    )
    return Net((4,), layers, edges, output="y", features=features)


def test_memory_by_hand():
    gates = jnp.array(
        [[1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 1, 0, 0, 1.0]]
    )
    # The classifier reads f, which is kept anyway.
    # All on: x a = 7, x a b = 9 (x waits for f), x b f = 11, f y = 7.
    # Without xf: x a = 7, a b = 5, b f = 7, f y = 7.
    # xf alone, or beside a dead branch: x f = 9, f y = 7. Nothing reaches f: 0.
    kept = [11, 7, 9, 9, 0]
    np.testing.assert_array_equal(costs.memory(branches("f"), 1)(gates), kept)
    np.testing.assert_array_equal(costs.memory(branches("f"))(gates), 4 * np.array(kept))
    # a is held to the end once it is computed, for the controller.
    # All on: x a b f = 14, a f y = 10. Without xf: x a = 7, a b = 5, a b f = 10, a f y = 10.
    # xa, ab, xf: b is dead; x a f = 12, a f y = 10. xa and ab alone: x a = 7.
    held = [14, 10, 9, 12, 7]
    np.testing.assert_array_equal(costs.memory(branches("a"), 1)(gates), held)


def memory_in_steps(net: Net, live: np.ndarray) -> int:
    """Values held at the worst moment, every layer one after the other."""
    edges = [edge for edge, on in zip(net.edges, live, strict=True) if on]
    computed: list[str] = [net.input]
    peak = 0
    for i, layer in enumerate(net.layers):
        if any(edge.target == layer.name for edge in edges):
            read = {edge.source for edge in edges if net.order[edge.target] >= i}
            held = [name for name in computed if name in read or name in net.read_layers]
            sizes = [int(np.prod(net.shapes[name])) for name in [*held, layer.name]]
            peak = max(peak, sum(sizes))
            computed.append(layer.name)
    return peak


@pytest.mark.parametrize("seed", range(8))
def test_memory_of_random_nets(seed):
    net = random_dag(seed, max_edges=8)
    widths = np.random.default_rng(seed).integers(1, 50, len(net.layers))
    edges = tuple(
        dataclasses.replace(edge, block=Dense(int(widths[net.order[edge.target]])))
        for edge in net.edges
    )
    net = dataclasses.replace(net, edges=edges)
    masks = jnp.asarray(all_gates(len(net.edges)))
    cost = costs.memory(net, 1)
    expected = [memory_in_steps(net, np.asarray(live)) for live in prune(net, masks)]
    assert len(set(expected)) > 2
    got = np.asarray(cost(masks))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(cost))(masks), got)
    np.testing.assert_array_equal(cost(masks.reshape(2, -1, len(net.edges))).ravel(), got)
    assert cost(masks[-1]).shape == ()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_memory_of_a_number_without_size_raises(value):
    with pytest.raises(ValueError, match="bytes_per_value: expected a number > 0, got"):
        costs.memory(stream_net(), value)


def test_inconsistent_by_hand():
    net = stream_net()
    # The classifier is always on, but the third architecture gives it nothing to classify.
    gates = jnp.array([[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1.0]])
    np.testing.assert_array_equal(costs.inconsistent(net)(gates), [0, 0, 1, 1, 0])


@pytest.mark.parametrize("seed", range(6))
def test_inconsistent_is_unreachable(seed):
    net = random_dag(seed)
    masks = all_gates(len(net.edges))
    expected = []
    for mask in masks:
        reached = {net.input}
        for _ in net.layers:
            for edge, on in zip(net.edges, mask, strict=True):
                if (on or not edge.gated) and edge.source in reached:
                    reached.add(edge.target)
        expected.append(net.output not in reached)
    assert 0 < sum(expected) < len(masks)
    cost = costs.inconsistent(net)
    np.testing.assert_array_equal(cost(masks), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(cost))(masks), expected)


def test_custom_jax_function_sees_live_gates():
    net = stream_net()
    cost = costs.custom(net, lambda live: live.sum(-1) ** 2)
    # Live edges: all 4; none (deep has no input); short and out.
    gates = jnp.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1.0]])
    np.testing.assert_array_equal(cost(gates), [16, 0, 4])


def steps_in_sequence(live: np.ndarray) -> int:
    """A black box: 5 for an even number of live edges, else their number squared."""
    assert isinstance(live, np.ndarray)
    assert live.shape == (4,)
    count = int(live.sum())
    return 5 if count % 2 == 0 else count**2


def test_custom_black_box():
    net = stream_net()
    cost = costs.custom(net, steps_in_sequence, black_box=True)
    masks = jnp.asarray(all_gates(4))
    expected = [steps_in_sequence(np.asarray(row)) for row in prune(net, masks)]
    assert len(set(expected)) > 1
    np.testing.assert_array_equal(cost(masks), expected)
    np.testing.assert_array_equal(jax.jit(cost)(masks), expected)
    np.testing.assert_array_equal(jax.vmap(cost)(masks), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(cost))(masks.reshape(4, 4, 4)).ravel(), expected)
    assert float(cost(masks[3])) == expected[3]
    # A constant for the gradient: the score function does not ask for a derivative.
    np.testing.assert_array_equal(jax.grad(lambda g: cost(g).sum())(masks), np.zeros((16, 4)))


def test_a_black_box_is_asked_once_for_each_distinct_architecture():
    asked = []

    def fn(live):
        asked.append(tuple(live.tolist()))
        return live.sum()

    cost = jax.jit(costs.custom(stream_net(), fn, black_box=True))
    masks = jnp.asarray(all_gates(4))[jnp.array([[15, 3, 15], [15, 15, 9]])]
    live = prune(stream_net(), masks)
    np.testing.assert_array_equal(cost(masks), live.sum(-1))
    assert sorted(asked) == sorted(set(map(tuple, np.asarray(live).reshape(-1, 4).tolist())))


def test_relative_is_one_with_all_gates_on():
    net = stream_net()
    gates = jnp.asarray(all_gates(4))
    share = costs.relative(net, costs.macs(net))
    assert float(share(jnp.ones(4))) == 1.0
    np.testing.assert_allclose(share(gates), costs.macs(net)(gates) / 58, rtol=1e-6)


def test_users_block_in_a_net():
    layers = (Layer("x"), Layer("h"), Layer("y"))
    edges = (Edge("stack", "x", "h", Stack()), Edge("o", "h", "y", Dense(2)))
    net = Net((4,), layers, edges, "y", "h")
    assert costs.edge_macs(net) == {"stack": 160, "o": 32}
    assert costs.edge_params(net) == {"stack": 16, "o": 34}


class Normalised(nn.Module):
    """Affine map and BatchNorm, whose running statistics are a collection beside `params`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, live=None) -> jax.Array:
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(self.features)(x))


def test_batch_statistics_are_not_parameters():
    layers = (Layer("x"), Layer("y"))
    net = Net((4,), layers, (Edge("n", "x", "y", Normalised(3)),), "y", "y")
    assert costs.edge_macs(net) == {"n": 12}
    # Kernel 12, bias 3; scale 3 and shift 3. Running mean and variance are not learnt.
    assert costs.edge_params(net) == {"n": 21}
