"""The graph: what is refused, shapes, trunk, and which edges are live."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.graph import Edge, Layer, Net, check_gates, prune, read_gates
from tests.helpers.nets import all_gates, dag, early_join_net, random_dag, stream_net

pytestmark = pytest.mark.usefixtures("strict")


class Remembers(nn.Module):
    """A block with a variable that is neither a parameter nor a batch statistic."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        self.variable("memory", "last", jnp.zeros, x.shape)
        return x


def chain(**changes) -> Net:
    """x → h → y with one thing changed."""
    fields = {
        "input_shape": (3,),
        "layers": (Layer("x"), Layer("h", nn.relu), Layer("y")),
        "edges": (Edge("a", "x", "h", Dense(2)), Edge("b", "h", "y", Dense(4))),
        "output": "y",
        "features": "h",
    }
    return Net(**(fields | changes))


def test_net_well_formed_is_accepted():
    net = chain()
    assert net.shapes == {"x": (3,), "h": (2,), "y": (4,)}
    assert net.index == {"a": 0, "b": 1}
    assert net.gated == (0, 1)
    assert hash(net) == hash(chain())
    assert net == chain()


A, B = chain().edges


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"edges": (A, B, Edge("c", "x", "nowhere", Dense(2)))},
            r"edge 'c': unknown target layer 'nowhere'; expected one of \['x', 'h', 'y'\]",
        ),
        ({"edges": (A, B, Edge("c", "q", "h", Dense(2)))}, "edge 'c': unknown source layer 'q'"),
        (
            {"edges": (A, B, Edge("c", "y", "h", Dense(2)))},
            "edge 'c': expected to run from an earlier to a later layer, got 'y' → 'h'",
        ),
        (
            {"edges": (A, B, Edge("c", "h", "h", Dense(2), gated=False))},
            "edge 'c': expected a gate, and other edges into layer 'h' whose value is reused",
        ),
        (
            {"edges": (A, B, Edge("a", "x", "y", Dense(4)))},
            "edge name 'a': expected once, got 2",
        ),
        (
            {"layers": (Layer("x"), Layer("h"), Layer("h"), Layer("y"))},
            "layer name 'h': expected once, got 2",
        ),
        (
            {"layers": (Layer("x"), Layer("h"), Layer("lost"), Layer("y"))},
            "layer 'lost': no path from 'x' reaches it",
        ),
        ({"edges": (A,)}, "output layer 'y' is not reachable from 'x'"),
        (
            {
                "layers": (Layer("x"), Layer("u"), Layer("h"), Layer("y")),
                "edges": (A, Edge("b", "u", "y", Dense(4))),
            },
            "output layer 'y' is not reachable from 'x'",
        ),
        (
            {"edges": (Edge("b", "x", "y", Dense(4)),)},
            "features layer 'h' is not reachable from 'x'",
        ),
        ({"layers": (Layer("x"),)}, "layers: expected an input and an output, got 1 layers"),
        (
            {"output": "x"},
            r"output: expected a layer after the input, one of \['h', 'y'\]; got 'x'",
        ),
        ({"features": "z"}, "features: expected a layer after the input.*got 'z'"),
        (
            {"edges": (A, B, Edge("c", "x", "h", Dense(5)))},
            r"layer 'h': shapes do not add up: edge 'a' gives \(2,\), edge 'c' gives \(5,\)",
        ),
        (
            {"edges": (Edge("a", "x", "h", Conv2D(2, (2, 2))), B)},
            r"edge 'a': its block on layer 'x' of shape \(3,\): ",
        ),
        (
            {"input_shape": (3, 3, 1), "edges": (Edge("a", "x", "h", Conv2D(2, (4, 1))), B)},
            r"edge 'a': .* layer 'x' of shape \(3, 3, 1\): it gives an empty value \(0, 3, 2\)",
        ),
        (
            {"edges": (Edge("a", "x", "h", Remembers()), B)},
            r"edge 'a': .*expected a block with parameters and batch.* only.*\['memory'\]",
        ),
        (
            {"layers": (Layer("x"), Layer("h", nn.sigmoid), Layer("y"))},
            r"layer 'h': expected an activation with f\(0\) = 0.*got f\(0\) = 0.5",
        ),
    ],
)
def test_net_malformed_raises(changes, message):
    with pytest.raises(ValueError, match=message):
        chain(**changes)


def test_an_activation_keeps_zero():
    for keeps in (jnp.tanh, nn.gelu):
        chain(layers=(Layer("x"), Layer("h", keeps), Layer("y")))
    with pytest.raises(ValueError, match=r"expected an activation .* got f\(0\) = 1"):
        chain(layers=(Layer("x"), Layer("h", jnp.exp), Layer("y")))


def test_net_any_layer_order_is_the_users():
    """The same layers in another order make another net, whose backward edge is refused."""
    with pytest.raises(ValueError, match="earlier to a later layer, got 'h' → 'y'"):
        chain(layers=(Layer("x"), Layer("y"), Layer("h", nn.relu)))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1)])
def test_check_gates_wrong_shape_raises(shape):
    with pytest.raises(ValueError, match=r"gates: expected shape \[..., 2\], one entry per edge"):
        check_gates(chain(), jnp.ones(shape))
    with pytest.raises(ValueError, match=r"got \("):
        prune(chain(), jnp.ones(shape))


def test_read_gates_always_on():
    net = chain(edges=(A, Edge("b", "h", "y", Dense(4), gated=False)))
    got = read_gates(net, jnp.zeros((5, 2)))
    np.testing.assert_array_equal(got, np.tile([0.0, 1.0], (5, 1)))
    assert net.gated == (0,)


def test_trunk_by_hand():
    assert chain().trunk == {"x", "h", "y"}
    assert stream_net().trunk == {"x", "h"}
    assert early_join_net().trunk == {"x", "a"}
    # A single in-edge from behind a join is not trunk.
    net = dag([(0, 1), (0, 2), (1, 2), (2, 3)], 4, features=2)
    assert net.trunk == {"l0", "l1"}


def live_by_paths(net: Net, gates: np.ndarray) -> np.ndarray:
    """Oracle: the union of all paths of on-edges from the input to a read layer."""
    on = [bool(g) or not edge.gated for g, edge in zip(gates, net.edges, strict=True)]
    live = np.zeros(len(net.edges), np.float32)

    def walk(layer: str, path: list[int]) -> None:
        if layer in (net.output, net.features):
            live[path] = 1
        for e, edge in enumerate(net.edges):
            if on[e] and edge.source == layer:
                walk(edge.target, [*path, e])

    walk(net.input, [])
    return live


NETS = {
    "chain": chain(),
    "stream": stream_net(),
    "early join": early_join_net(),
    "diamond": dag([(0, 1), (0, 2), (1, 3), (2, 3), (1, 2)], 4, features=2),
    # Listed against the direction of the graph, so that the sweeps cannot rely on the order.
    "reversed": dag([(3, 4), (1, 3), (2, 3), (0, 3), (1, 2), (0, 2), (0, 1)], 5, features=3),
    "features aside": dag([(0, 1), (0, 2), (1, 3), (2, 3), (1, 4), (0, 4)], 5, features=3),
} | {f"random {seed}": random_dag(seed) for seed in range(12)}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_prune_against_paths(net):
    masks = all_gates(len(net.edges))
    expected = np.stack([live_by_paths(net, mask) for mask in masks])
    live = prune(net, jnp.asarray(masks))
    np.testing.assert_array_equal(live, expected)
    np.testing.assert_array_equal(jax.jit(lambda g: prune(net, g))(masks), expected)
    np.testing.assert_array_equal(jax.vmap(lambda g: prune(net, g))(masks), expected)
    for mask, row in list(zip(masks, expected, strict=True))[:: max(1, len(masks) // 8)]:
        np.testing.assert_array_equal(prune(net, jnp.asarray(mask)), row)


@pytest.mark.parametrize("seed", range(4))
def test_prune_idempotent_and_monotone(seed):
    net = random_dag(seed)
    masks = all_gates(len(net.edges))
    live = np.asarray(prune(net, masks))
    np.testing.assert_array_equal(prune(net, live), live)
    assert (live <= np.asarray(read_gates(net, masks))).all()
    # Switching any one gate on never kills a live edge.
    for e in range(len(net.edges)):
        more = masks.copy()
        more[:, e] = 1
        assert (np.asarray(prune(net, more)) >= live).all()


def test_prune_all_on_keeps_what_is_on_a_path():
    net = dag([(0, 1), (0, 2), (1, 3), (2, 3)], 4, features=2)
    np.testing.assert_array_equal(prune(net, jnp.ones(4)), np.ones(4))
    # A layer from which nothing read is reached is dead even with all gates on.
    dead_end = Net(
        (2,),
        (Layer("x"), Layer("d"), Layer("y")),
        (Edge("d", "x", "d", Identity()), Edge("y", "x", "y", Identity())),
        "y",
        "y",
    )
    np.testing.assert_array_equal(prune(dead_end, jnp.ones(2)), [0.0, 1.0])


def test_prune_batched_axes():
    net = stream_net()
    masks = all_gates(4).reshape(2, 4, 2, 4)
    np.testing.assert_array_equal(
        prune(net, masks), prune(net, masks.reshape(16, 4)).reshape(2, 4, 2, 4)
    )
