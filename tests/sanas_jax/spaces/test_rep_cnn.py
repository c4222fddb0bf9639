"""The chain of re-parameterised blocks: what is folded computes what was trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks.rep import RepDeployed
from sanas_jax.costs.incremental import fresh_macs
from sanas_jax.forward import forward, init, init_stats
from sanas_jax.graph import prune
from sanas_jax.spaces import rep_cnn, tc_resnet
from sanas_jax.spaces.rep_cnn import fold

NET = rep_cnn(8, kernels=((5, 3), (5, 3), (3,)), num_classes=3, input_shape=(21, 10, 1))
X = jax.random.normal(jax.random.key(3), (4, 21, 10, 1))


def passes(net, params, stats, gates=None, train=False):
    gates = jnp.ones((len(X), len(net.edges))) if gates is None else gates
    return forward(net, params, prune(net, gates), X, stats=stats, train=train)


@pytest.fixture(scope="module")
def trained():
    """Parameters, and the statistics that a pass in training has just normalised with; logits."""
    params, stats = init(NET, jax.random.key(0)), init_stats(NET)
    out = passes(NET, params, stats, train=True)
    batch = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, out.stats, stats)
    return params, batch, out.logits


def test_folded_network_has_the_trained_ones_logits(trained):
    params, stats, logits = trained
    np.testing.assert_allclose(passes(NET, params, stats).logits, logits, atol=1e-5)
    net, folded, rest = fold(NET, params, stats)
    assert not rest
    assert not net.with_stats
    np.testing.assert_allclose(passes(net, folded, rest).logits, logits, atol=1e-5)
    assert float(jnp.abs(logits - logits[0]).max()) > 0.01


def test_folded_network_answers_to_gates_likewise(trained):
    params, stats, _ = trained
    net, folded, rest = fold(NET, params, stats)
    gates = jnp.ones((4, len(NET.edges))).at[1:3, NET.index["block_1"]].set(0.0)
    expected = passes(NET, params, stats, gates).logits
    np.testing.assert_allclose(passes(net, folded, rest, gates).logits, expected, atol=1e-5)


def test_folded_network_is_smaller_and_as_dear():
    params, stats = init(NET, jax.random.key(0)), init_stats(NET)
    net, folded, _ = fold(NET, params, stats)
    assert {type(e.block) for e in net.edges if e.gated} == {RepDeployed}
    assert costs.edge_macs(net) == costs.edge_macs(NET)
    sizes = costs.edge_params(net)
    assert sizes["block_0"] == 5 * 10 + 10 + 10 * 8 + 8
    assert sizes["block_2"] == 3 * 8 + 8 + 8 * 8 + 8
    assert sum(sizes.values()) == sum(leaf.size for leaf in jax.tree.leaves(folded))


def test_fold_leaves_other_blocks_as_they_are():
    net = tc_resnet(8, 0.25, num_classes=3, input_shape=(21, 10, 1))
    params, stats = init(net, jax.random.key(0)), init_stats(net)
    assert fold(net, params, stats) == (net, params, stats)


# Width, MACs, parameters as it is used and as it learns.
SIZES = [(32, 213_192, 7_708, 11_644), (64, 629_576, 23_356, 30_908)]


@pytest.mark.parametrize(("width", "macs", "used", "learnt"), SIZES)
def test_sizes(width, macs, used, learnt):
    net = rep_cnn(width)
    rows, maps, by_hand = 101, 40, 0
    for i, kernel in enumerate((5, 9, 9, 13, 13)):
        rows = (rows - kernel) // (1 if i else 2) + 1
        by_hand += rows * maps * (kernel + width)
        maps = width
    assert sum(costs.edge_macs(net).values()) == macs == by_hand + 12 * width
    assert sum(costs.edge_params(net).values()) == learnt
    shapes = jax.eval_shape(lambda: fold(net, init(net, jax.random.key(0)), init_stats(net))[1])
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == used


def test_in_a_stream_blocks_compute_new_rows_only():
    net = rep_cnn(32)
    fresh, whole = fresh_macs(net, 20), costs.edge_macs(net)
    assert net.trunk == set(net.order)
    # Ten rows are new, of the last layer all nine are.
    assert fresh["block_1"] == whole["block_1"] * 10 // 41
    assert fresh["block_4"] == whole["block_4"]


def test_every_parameter_has_a_gradient():
    params, stats = init(NET, jax.random.key(0)), init_stats(NET)

    def loss(params):
        logits = passes(NET, params, stats, train=True).logits
        return -jax.nn.log_softmax(logits)[jnp.arange(4), jnp.arange(4) % 3].mean()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params)):
        assert float(jnp.abs(leaf).max()) > 0, path
