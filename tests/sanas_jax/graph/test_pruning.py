"""The network of the live edges alone computes what the masked super-network computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.day.training_step import dense_graph
from experiments.config import ModelConfig
from sanas_jax.costs import edge_macs, edge_params, macs
from sanas_jax.forward import forward, init
from sanas_jax.graph import prune, subnet
from tests.helpers.nets import random_dag
from tests.sanas_jax.test_batch_stats import NET, PARAMS, STATS, X


def live_of(net, gates):
    return np.asarray(prune(net, jnp.asarray(gates)))


@pytest.mark.parametrize("seed", range(12))
def test_equal_outputs_on_random_graphs(seed):
    net = random_dag(seed)
    rng = np.random.default_rng(seed)
    params = init(net, jax.random.key(seed))
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases that a leak would show
    x = jax.random.normal(jax.random.key(seed), (5, 2))
    compared = 0
    for _ in range(8):
        live = live_of(net, rng.integers(0, 2, len(net.edges)).astype(np.float32))
        names = [name for name, on in zip(net.index, live, strict=True) if on]
        try:
            small = subnet(net, names)
        except ValueError:
            continue
        compared += 1
        expected = forward(net, params, jnp.asarray(live), x)
        own = {edge.name: params[edge.name] for edge in small.edges}
        got = forward(small, own, jnp.ones(len(small.edges)), x)
        np.testing.assert_allclose(got.logits, expected.logits, rtol=1e-6)
        assert sum(edge_macs(small).values()) == int(macs(net)(jnp.asarray(live)))
        assert small.index.keys() >= set(names)
    assert compared


def test_statistics_come_along():
    live = live_of(NET, [1, 0, 1, 0, 1])
    small = subnet(NET, ["first", "second", "last"])
    expected = forward(NET, PARAMS, jnp.asarray(live), X, stats=STATS)
    own = {name: PARAMS[name] for name in small.index}
    stats = {name: STATS[name] for name in small.with_stats}
    got = forward(small, own, jnp.ones(3), X, stats=stats)
    np.testing.assert_allclose(got.logits, expected.logits, rtol=1e-6)
    np.testing.assert_allclose(got.features, expected.features, rtol=1e-6)
    assert sum(edge_params(small).values()) < sum(edge_params(NET).values())


def test_bad_edges_raise():
    with pytest.raises(ValueError, match=r"edges: expected names .* got \['other'\]"):
        subnet(NET, ["other"])
    with pytest.raises(ValueError, match="edges: expected a path to 'out'"):
        subnet(NET, ["first"])


def test_operations_grow_with_layers_not_with_edges():
    def operations(edges):
        net = dense_graph(ModelConfig(), 12, edges=edges)
        traced = jax.make_jaxpr(lambda gates: prune(net, gates))(jnp.ones((3, len(net.edges))))
        return sum(eqn.primitive.name in ("max", "mul", "reduce_max") for eqn in traced.eqns)

    # 4, 8 and 16 layers beside the output.
    assert operations(28) - operations(6) <= 4 * 6
    assert operations(120) - operations(28) <= 8 * 6
