"""Separable temporal blocks: MACs by formula, shifts in time, the way around, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.separable import Crop, Exit, Separable, crop
from sanas_jax.costs import count_macs

X = jax.random.normal(jax.random.key(0), (3, 30, 6))
BLOCKS = [
    Separable(6, 5),
    Separable(8, 5, 2),
    Separable(8, 4, residual=False),
]


def applied(block, x=X, train=False):
    variables = block.init(jax.random.key(1), x)
    # Statistics other than 0 and 1, as after training.
    stats = jax.tree.map(lambda s: s + 0.3, variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": stats}
    if train:
        return block.apply(variables, x, train=True, mutable=["batch_stats"])
    return block.apply(variables, x)


def macs_of(block, x=X[:1]):
    variables = block.init(jax.random.key(0), x)
    return count_macs(block.apply, variables, x)


@pytest.mark.parametrize("block", BLOCKS, ids=repr)
def test_macs_by_formula(block):
    rows = (30 - block.kernel) // block.stride + 1
    around = 6 * block.maps if block.residual and block.maps != 6 else 0
    per_row = block.kernel * 6 + 6 * block.maps
    assert macs_of(block) == rows * (per_row + around)


def test_macs_of_an_exit_by_formula():
    assert macs_of(Exit(7)) == 30 * 6 + 6 * 7


@pytest.mark.parametrize("block", [*BLOCKS, Crop(5, 2)], ids=repr)
def test_a_shift_of_the_input_shifts_the_output(block):
    run = block.apply if isinstance(block, Crop) else None
    whole = run({}, X) if run else applied(block)
    later = run({}, X[:, block.stride :]) if run else applied(block, X[:, block.stride :])
    assert block.time_stride == block.stride
    np.testing.assert_allclose(whole[:, 1:], later[:, : whole.shape[1] - 1], atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_crop_is_a_valid_kernel_with_one_tap_in_its_middle(kernel, stride):
    taps = np.zeros(kernel)
    taps[(kernel - 1) // 2] = 1
    starts = range(0, 30 - kernel + 1, stride)
    expected = np.stack([np.tensordot(taps, X[:, s : s + kernel], (0, 1)) for s in starts], 1)
    np.testing.assert_allclose(crop(X, kernel, stride), expected, atol=1e-6)
    np.testing.assert_array_equal(Crop(kernel, stride).apply({}, X), crop(X, kernel, stride))


@pytest.mark.parametrize("block", [Separable(6, 5), Separable(6, 5, 2)], ids=repr)
def test_without_its_learnt_part_a_residual_block_is_the_identity(block):
    variables = block.init(jax.random.key(1), X)
    silent = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if "scale" in str(path[-1]) else leaf,
        variables["params"],
    )
    out = block.apply({"params": silent, "batch_stats": variables["batch_stats"]}, X)
    np.testing.assert_allclose(out, crop(X, block.kernel, block.stride), atol=1e-6)


def test_statistics_are_of_all_rows_and_positions():
    block = Separable(4, 3, residual=False)
    _, updated = applied(block, train=True)
    kernel = np.asarray(block.init(jax.random.key(1), X)["params"]["DepthwiseConv_0"]["kernel"])
    y = sum(np.asarray(X)[:, i : i + 28] * kernel[i, 0] for i in range(3))
    got = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(got["mean"], 0.95 * 0.3 + 0.05 * y.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(got["var"], 0.95 * 1.3 + 0.05 * y.var((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("block", [Separable(6, 5), Separable(4, 5, 2), Exit(7)], ids=repr)
def test_downstream_of_a_join_statistics_are_of_live_rows_only(block):
    variables = block.init(jax.random.key(1), X)
    live = jnp.array([True, False, True])

    def stats_of(x, live):
        _, updated = block.apply(variables, x, train=True, live=live, mutable=["batch_stats"])
        return updated["batch_stats"]

    got = stats_of(X.at[1].set(100.0), live)
    expected = stats_of(X[::2], None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)
    nobody = stats_of(X, jnp.zeros(3, bool))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nobody))


def test_an_exit_begins_as_the_mean_over_its_rows():
    exit_ = Exit(7)
    variables = exit_.init(jax.random.key(1), X)
    got = exit_.apply(variables, X)
    expected = X.mean(1) @ variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(got, expected / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-6)
    image = exit_.apply(variables, X[..., None])
    np.testing.assert_allclose(image, got, rtol=1e-6)
