"""The masked forward pass: closed form, loops, and the trunk computed once for all steps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks import Dense
from sanas_jax.forward import forward, in_join, init, join, stochastic_forward, trunk_edges
from sanas_jax.gates import Gamma, log_prob, sample
from sanas_jax.graph import Edge, Layer, Net, prune
from tests.helpers.nets import (
    Scale,
    all_gates,
    dag,
    early_join_net,
    random_dag,
    random_like,
    stream_net,
)

pytestmark = pytest.mark.usefixtures("strict")


def scale_params(**edges):
    """{edge: (w, c)} as parameters of `Scale`."""
    return {name: {"w": jnp.float32(w), "c": jnp.float32(c)} for name, (w, c) in edges.items()}


def test_forward_by_hand():
    layers = (Layer("x"), Layer("h", nn.relu), Layer("y"))
    ends = {"a": ("x", "h"), "b": ("h", "y"), "c": ("x", "y")}
    net = Net((1,), layers, tuple(Edge(n, *e, Scale()) for n, e in ends.items()), "y", "h")
    params = scale_params(a=(2, 1), b=(3, -1), c=(10, 0.5))
    x = jnp.array([[1.0], [-4.0]])
    # h = relu(a (2x + 1)), y = b (3h − 1) + c (10x + 0.5)
    for gates, h, y in (
        ([1, 1, 1], [3, 0], [8 + 10.5, -1 - 39.5]),
        ([1, 1, 0], [3, 0], [8, -1]),
        ([0, 1, 0], [0, 0], [-1, -1]),  # below a dead branch an edge still emits its bias
        ([0, 0, 1], [0, 0], [10.5, -39.5]),
        ([0, 0, 0], [0, 0], [0, 0]),
    ):
        out = forward(net, params, jnp.array(gates, jnp.float32), x)
        np.testing.assert_allclose(out.features[:, 0], h)
        np.testing.assert_allclose(out.logits[:, 0], y)
    # Pruned, the dead branch contributes nothing.
    out = forward(net, params, prune(net, jnp.array([0.0, 1.0, 0.0])), x)
    np.testing.assert_array_equal(out.logits, np.zeros((2, 1)))


def forward_by_loop(net, params, gates, x):
    """Algorithm 2 on one example in float64 NumPy, for nets of dense layers."""
    values = {net.input: np.asarray(x, np.float64)}
    for layer in net.layers[1:]:
        total = 0.0
        for e, edge in enumerate(net.edges):
            if edge.target == layer.name and (gates[e] > 0 or not edge.gated):
                w = params[edge.name]["Dense_0"]
                kernel, bias = np.float64(w["kernel"]), np.float64(w["bias"])
                total = total + values[edge.source] @ kernel + bias
        total = total + np.zeros(net.shapes[layer.name])
        values[layer.name] = np.maximum(total, 0) if layer.activation else total
    return values[net.output], values[net.features]


@pytest.mark.parametrize("seed", range(3))
def test_forward_against_a_loop(seed):
    net = random_dag(seed, max_edges=6)
    params = random_like(init(net, jax.random.key(0)), seed)
    masks = all_gates(len(net.edges))
    x = np.random.default_rng(seed).standard_normal((len(masks), 2)).astype(np.float32)
    out = jax.jit(lambda p, g, x: forward(net, p, g, x))(params, masks, x)
    numpy_params = jax.tree.map(np.asarray, params)
    for row, mask in enumerate(masks):
        logits, features = forward_by_loop(net, numpy_params, mask, x[row])
        scale = 1 + np.abs(logits).max()
        np.testing.assert_allclose(out.logits[row], logits, atol=2e-6 * scale)
        np.testing.assert_allclose(out.features[row], features, atol=2e-6 * scale)
    # One architecture for the whole batch: [E] instead of [B, E].
    shared = forward(net, params, jnp.asarray(masks[-1]), x)
    np.testing.assert_allclose(shared.logits[-1], out.logits[-1], rtol=1e-5, atol=1e-6)


def test_forward_rows_are_independent():
    net = stream_net()
    params = random_like(init(net, jax.random.key(0)), 1)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, 6, 1, 1)), jnp.float32)
    gates = jnp.asarray(rng.integers(0, 2, (4, 4)), jnp.float32)
    out = forward(net, params, gates, x)
    other = forward(net, params, gates.at[2].set(1 - gates[2]), x.at[2].set(7.0))
    keep = np.array([0, 1, 3])
    np.testing.assert_array_equal(out.logits[keep], other.logits[keep])
    assert (out.logits[2] != other.logits[2]).any()


def test_forward_all_on_is_the_static_net():
    """The plain super-network, written as one flax module."""

    class Static(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.relu(nn.Conv(2, (3, 1), padding="VALID", name="conv")(x))
            flat = [v.reshape(v.shape[0], -1) for v in (x, h)]
            f = nn.Dense(2, name="short")(flat[0]) + nn.Dense(2, name="deep")(flat[1])
            return nn.Dense(3, name="out")(nn.relu(f))

    net = stream_net()
    params = random_like(init(net, jax.random.key(0)), 1)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6, 1, 1)), jnp.float32)
    expected = Static().apply({"params": {k: next(iter(v.values())) for k, v in params.items()}}, x)
    out = forward(net, params, jnp.ones(4), x)
    np.testing.assert_allclose(out.logits, expected, rtol=1e-5, atol=1e-6)


def test_forward_wrong_shapes_raise():
    net = stream_net()
    params, x = init(net, jax.random.key(0)), jnp.zeros((2, 6, 1, 1))
    for bad in (x[0], x[:, :5], jnp.zeros((2, 6, 1))):
        with pytest.raises(ValueError, match=r"x: expected shape \[B, 6, 1, 1\], got \("):
            forward(net, params, jnp.ones(4), bad)
    with pytest.raises(ValueError, match=r"gates: expected shape \[..., 4\]"):
        forward(net, params, jnp.ones(3), x)
    for bad in (jnp.ones((3, 4)), jnp.ones((1, 4)), jnp.ones((2, 2, 4))):
        with pytest.raises(ValueError, match=r"gates: expected shape \[E\] or \[B, E\] with B = 2"):
            forward(net, params, bad, x)
    with pytest.raises(ValueError, match="gamma: expected shape"):
        stochastic_forward(net, params, jnp.full(3, 0.5), jax.random.key(0), x)


def test_init_is_reproducible_and_edges_differ():
    net = dag([(0, 1), (0, 2), (1, 2)], 3, features=1)
    params = init(net, jax.random.key(0))
    same = init(net, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, same)
    kernels = [params[name]["Dense_0"]["kernel"] for name in ("0-1", "0-2", "1-2")]
    assert (kernels[0] != kernels[1]).any()
    assert (kernels[1] != kernels[2]).any()
    assert set(params) == set(net.index)


@pytest.mark.parametrize("batched", [False, True])
def test_stochastic_forward(batched):
    net = stream_net()
    params = random_like(init(net, jax.random.key(0)), 1)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 6, 1, 1)), jnp.float32)
    logits = jnp.array([0.2, -0.5, 0.1, np.inf])
    gamma = Gamma(jnp.tile(logits[None], (5, 1)))
    key = jax.random.key(3)
    out, drawn = stochastic_forward(net, params, gamma if batched else Gamma(logits), key, x)
    np.testing.assert_array_equal(drawn.gates, sample(gamma, key))
    np.testing.assert_array_equal(drawn.live, prune(net, drawn.gates))
    np.testing.assert_allclose(drawn.log_prob, log_prob(drawn.gates, gamma))
    np.testing.assert_array_equal(out.logits, forward(net, params, drawn.live, x).logits)
    # Every example has an architecture of its own.
    assert len(np.unique(drawn.gates, axis=0)) > 1


@pytest.mark.parametrize("hop", [1, 2, 3])
@pytest.mark.parametrize("net", [stream_net(), early_join_net()], ids=["stream", "early join"])
def test_trunk_and_join_equal_forward(net, hop):
    """Every architecture on every window: the split form against Algorithm 2."""
    params = random_like(init(net, jax.random.key(0)), 2)
    steps, window = 3, net.input_shape[0]
    rng = np.random.default_rng(0)
    shape = (2, window + (steps - 1) * hop, *net.input_shape[1:])
    stream = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    live = prune(net, all_gates(len(net.edges)))
    live = jnp.repeat(live[:, None], 2, 1)  # [masks, B, E]
    trunk = trunk_edges(net, params, stream, num_steps=steps, hop=hop).values

    @jax.jit
    def split(live):
        return jax.vmap(lambda trunk_t: join(net, params, live, trunk_t))(trunk)

    @jax.jit
    def whole(live):
        parts = jnp.stack([stream[:, t * hop : t * hop + window] for t in range(steps)])
        return jax.vmap(lambda x: forward(net, params, live, x))(parts)

    got, expected = jax.vmap(split)(live), jax.vmap(whole)(live)
    for a, b in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_the_join_runs_what_the_trunk_does_not():
    net = stream_net()
    assert [edge.name for edge in net.edges if in_join(net, edge)] == ["out"]


@pytest.mark.parametrize("always", ["conv", "deep", "short", "both"])
def test_trunk_and_join_always_on_below_a_gate(always):
    """An always-on edge below a dead layer emits what it makes of zeros, in both forms."""
    chain = {"a": ("x", "a"), "b": ("a", "b"), "c": ("b", "f"), "s": ("x", "f"), "o": ("f", "y")}
    free = {"conv": {"a"}, "deep": {"c", "o"}, "short": {"s", "o"}, "both": {"b", "c", "o"}}[always]
    layers = (Layer("x"), Layer("a", nn.relu), Layer("b", nn.relu), Layer("f"), Layer("y"))
    for names in ("abcso", "abco"):
        edges = tuple(Edge(n, *chain[n], Dense(2), gated=n not in free) for n in names)
        net = Net((3, 1, 1), layers, edges, output="y", features="f")
        params = random_like(init(net, jax.random.key(0)), 4)
        stream = jax.random.normal(jax.random.key(1), (1, 5, 1, 1))
        trunk = trunk_edges(net, params, stream, num_steps=2, hop=2).values
        for mask in all_gates(len(edges)):
            live = prune(net, mask)[None]
            got = join(net, params, live, {k: v[1] for k, v in trunk.items()})
            expected = forward(net, params, live, stream[:, 2:])
            for a, b in zip(got[:2], expected[:2], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
