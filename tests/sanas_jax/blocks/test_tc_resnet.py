"""Blocks of TC-ResNet against loops, and what they do with statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.tc_resnet import TcHead, TcResidual
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")


def conv(x, kernel, stride=1):
    """Convolution over time by loop: [B, T, C] with [k, C, M] to ceil(T/stride) rows."""
    size, rows = len(kernel), -(-x.shape[1] // stride)
    missing = max(0, (rows - 1) * stride + size - x.shape[1])
    padded = np.pad(x, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)))
    windows = [padded[:, r * stride : r * stride + size] for r in range(rows)]
    return np.stack([np.einsum("bkc,kcm->bm", window, kernel) for window in windows], 1)


def norm(x, params):
    """BatchNorm in training, over all but the channels."""
    spread = np.sqrt(x.var((0, 1)) + 1e-5)
    return (x - x.mean((0, 1))) / spread * params["scale"] + params["bias"]


def drawn(block, shape, seed=0):
    """An input, random weights as float64, and what the block makes of them in training."""
    x = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    variables = variables | {"params": random_like(variables["params"], seed + 1)}
    got, updated = block.apply(variables, x, train=True, mutable=["batch_stats"])
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    return np.asarray(x, np.float64), weights, np.asarray(got), updated["batch_stats"]


def test_tc_head_takes_coefficients_as_channels():
    x, params, got, _ = drawn(TcHead(4), (2, 7, 5, 1))
    y = norm(conv(x[..., 0], params["Conv_0"]["kernel"][:, 0]), params["BatchNorm_0"])
    assert got.shape == (2, 7, 1, 4)
    np.testing.assert_allclose(got[:, :, 0], y, atol=1e-4)


@pytest.mark.parametrize("time", [12, 13])
def test_tc_residual_where_the_channels_change(time):
    x, params, got, _ = drawn(TcResidual(4), (2, time, 1, 3))
    kernels = [params[f"Conv_{i}"]["kernel"][:, 0] for i in range(3)]
    norms = [params[f"BatchNorm_{i}"] for i in range(3)]
    assert [kernel.shape for kernel in kernels] == [(1, 3, 4), (9, 3, 4), (9, 4, 4)]
    around = np.maximum(norm(x[:, ::2, 0] @ kernels[0][0], norms[0]), 0)
    y = np.maximum(norm(conv(x[:, :, 0], kernels[1], 2), norms[1]), 0)
    expected = norm(conv(y, kernels[2]), norms[2]) + around
    assert got.shape == (2, -(-time // 2), 1, 4)
    np.testing.assert_allclose(got[:, :, 0], expected, atol=1e-4)


def test_tc_residual_where_the_channels_stay():
    x, params, got, _ = drawn(TcResidual(3), (2, 11, 1, 3))
    y = x[:, :, 0]
    for i in range(2):
        y = conv(y, params[f"Conv_{i}"]["kernel"][:, 0])
        y = norm(y, params[f"BatchNorm_{i}"])
        y = y if i else np.maximum(y, 0)
    np.testing.assert_allclose(got[:, :, 0], y + x[:, :, 0], atol=1e-4)


def test_running_statistics_are_of_all_rows_and_positions():
    x, params, _, stats = drawn(TcHead(4), (3, 7, 5, 1))
    y = conv(x[..., 0], params["Conv_0"]["kernel"][:, 0])
    np.testing.assert_allclose(stats["BatchNorm_0"]["mean"], 0.1 * y.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(stats["BatchNorm_0"]["var"], 0.9 + 0.1 * y.var((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("block", [TcHead(4), TcResidual(4)], ids=["head", "residual"])
def test_in_evaluation_rows_are_independent(block):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 9, 5, 1)), jnp.float32)
    x = x if isinstance(block, TcHead) else x.swapaxes(2, 3)
    variables = block.init(jax.random.key(0), x)
    whole, single = block.apply(variables, x), block.apply(variables, x[1:2])
    np.testing.assert_allclose(whole[1:2], single, atol=1e-5)


def test_blocks_declare_what_the_trunk_may_do():
    for block in (TcHead(4), TcResidual(4)):
        assert block.stats_over_stream
        assert not hasattr(block, "time_stride")  # zeros around each window
