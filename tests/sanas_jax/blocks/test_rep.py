"""Re-parameterised blocks: branches by loop, in training and folded; shifts; MACs of both forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.rep import RepDeployed, RepSeparable, fold
from sanas_jax.costs import count_macs
from sanas_jax.graph.check import check_block
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")

BLOCKS = [
    RepSeparable(6, (5, 3)),
    RepSeparable(4, (5, 3), 2),
    RepSeparable(6, (4, 3, 3, 1), 3),
    RepSeparable(5, (1,)),
]


def drawn(block, shape=(2, 19, 1, 6), seed=0):
    """An input and random weights and statistics, these far from 0 and 1."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    stats = {
        name: {
            "mean": jnp.asarray(rng.standard_normal(s["mean"].shape), jnp.float32),
            "var": jnp.asarray(rng.uniform(0.2, 3, s["var"].shape), jnp.float32),
        }
        for name, s in variables["batch_stats"].items()
    }
    return x, {"params": random_like(variables["params"], seed + 1), "batch_stats": stats}


def branch_by_branch(block, x, variables):
    """The block by loop in float64; BatchNorm by the running statistics, or the batch's (None)."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    stats = variables["batch_stats"]
    numbers = iter(range(99))

    def norm(value):
        name = f"BatchNorm_{next(numbers)}"
        mean, var = value.mean((0, 1)), value.var((0, 1))
        if stats is not None:
            mean, var = (np.asarray(stats[name][part], np.float64) for part in ("mean", "var"))
        scaled = (value - mean) / np.sqrt(var + 1e-5)
        return scaled * params[name]["scale"] + params[name]["bias"]

    x = np.asarray(x, np.float64).reshape(*x.shape[:2], -1)
    size = max(block.kernels)
    starts = range(0, x.shape[1] - size + 1, block.stride)
    y = 0
    for i, kernel in enumerate(block.kernels):
        taps = params[f"DepthwiseConv_{i}"]["kernel"][:, 0, 0]
        first = (size - kernel) // 2
        seen = [(x[:, s + first : s + first + kernel] * taps).sum(1) for s in starts]
        y = y + norm(np.stack(seen, 1))
    y = np.maximum(y + norm(x[:, [s + (size - 1) // 2 for s in starts]]), 0)
    z = norm(y @ params["Dense_0"]["kernel"])
    return z + norm(y) if block.maps == y.shape[-1] else z


@pytest.mark.parametrize("block", BLOCKS, ids=repr)
def test_out_of_training_it_is_its_branches(block):
    x, variables = drawn(block)
    got = block.apply(variables, x)[:, :, 0]
    np.testing.assert_allclose(got, branch_by_branch(block, x, variables), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS, ids=repr)
def test_in_training_it_is_its_branches_by_the_batchs_statistics(block):
    x, variables = drawn(block)
    got, updated = block.apply(variables, x, train=True, mutable=["batch_stats"])
    expected = branch_by_branch(block, x, variables | {"batch_stats": None})
    np.testing.assert_allclose(got[:, :, 0], expected, rtol=1e-4, atol=1e-4)
    assert updated["batch_stats"].keys() == variables["batch_stats"].keys()


@pytest.mark.parametrize("block", BLOCKS, ids=repr)
def test_fold_gives_the_parameters_of_one_branch(block):
    x, variables = drawn(block)
    folded = fold(block, variables["params"], variables["batch_stats"])
    single = block.deployed
    assert single == RepDeployed(block.maps, max(block.kernels), block.stride)
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(
        jnp.shape, single.init(jax.random.key(0), x)["params"]
    )
    got = single.apply({"params": folded}, x)[:, :, 0]
    np.testing.assert_allclose(got, branch_by_branch(block, x, variables), rtol=1e-5, atol=1e-5)


def test_macs_are_of_the_form_in_use_and_in_training_of_all_branches():
    block = RepSeparable(6, (5, 3))
    x, variables = drawn(block, (1, 19, 1, 6))
    assert count_macs(block.apply, variables, x) == 15 * (5 * 6 + 6 * 6)

    def train(variables, x):
        return block.apply(variables, x, train=True, mutable=["batch_stats"])

    assert count_macs(train, variables, x) == 15 * (5 * 6 + 3 * 6 + 6 * 6)


@pytest.mark.parametrize("block", [*BLOCKS, *(block.deployed for block in BLOCKS)], ids=repr)
def test_blocks_commute_with_shifts(block):
    assert block.time_stride == block.stride
    check_block(block, (19, 1, 6))


def test_coefficients_are_channels():
    block = RepSeparable(3, (3,))
    x, variables = drawn(block)
    turned = block.apply(variables, x.swapaxes(2, 3))
    np.testing.assert_array_equal(turned, block.apply(variables, x))


def test_statistics_are_of_live_rows():
    block = RepSeparable(6, (3,))
    x, variables = drawn(block)

    def stats(x, live):
        return block.apply(variables, x, train=True, live=live, mutable=["batch_stats"])[1]

    live = jnp.array([True, False])
    other = x.at[1].add(9.0)
    for a, b in zip(
        jax.tree.leaves(stats(x, live)), jax.tree.leaves(stats(other, live)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert block.stats_over_stream
