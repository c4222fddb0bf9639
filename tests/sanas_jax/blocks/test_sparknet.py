"""Blocks of SparkNet against loops; the gates' mean against drawn noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.sparknet import SIGMA, SparkBlock, SparkGates, mean_gate
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")


def taps(x, kernel):
    """Depthwise convolution over time by loop, as long as its input: [B, T, C] with [k, C]."""
    size = len(kernel)
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (0, 0)))
    windows = [padded[:, t : t + size] for t in range(x.shape[1])]
    return np.stack([(window * kernel).sum(1) for window in windows], 1)


def norm(x, params):
    """BatchNorm in training, over all but the channels."""
    spread = np.sqrt(x.var((0, 1)) + 1e-5)
    return (x - x.mean((0, 1))) / spread * params["scale"] + params["bias"]


def drawn(block, shape, seed=0):
    """An input, random variables, and the weights as float64."""
    x = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    variables = variables | {"params": random_like(variables["params"], seed + 1)}
    return (
        x,
        variables,
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"]),
    )


def trained(block, x, variables):
    return np.asarray(block.apply(variables, x, train=True, mutable=["batch_stats"])[0])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(2, 7, 4, 1), (2, 7, 1, 4)])
def test_spark_block(residual, shape):
    block = SparkBlock(3, 5, residual)
    x, variables, params = drawn(block, shape)
    rows = np.asarray(x, np.float64).reshape(2, 7, 4)
    y = taps(rows, params["DepthwiseConv_0"]["kernel"][:, 0, 0])
    expected = norm(y @ params["Dense_0"]["kernel"], params["BatchNorm_0"])
    if residual:
        expected += norm(rows @ params["Dense_1"]["kernel"], params["BatchNorm_1"])
    got = trained(block, x, variables)
    assert got.shape == (2, 7, 1, 3)
    np.testing.assert_allclose(got[:, :, 0], expected, atol=1e-4)


def test_spark_gates_out_of_training_are_clipped():
    block = SparkGates(6)
    x, variables, params = drawn(block, (2, 7, 1, 4))
    rows = np.asarray(x, np.float64)[:, :, 0]
    linear = rows @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    scale, bias = params["BatchNorm_0"]["scale"], params["BatchNorm_0"]["bias"]
    mu = np.tanh(linear / np.sqrt(1 + 1e-5) * scale + bias)
    got = np.asarray(block.apply(variables, x))[:, :, 0]
    np.testing.assert_allclose(got, np.clip(mu + 0.5, 0, 1), atol=1e-5)
    assert (got == 0).any()
    assert (got == 1).any()


def test_spark_gates_in_training_are_the_mean_over_the_noise():
    block = SparkGates(6)
    x, variables, params = drawn(block, (2, 7, 1, 4))
    linear = np.asarray(x, np.float64)[:, :, 0] @ params["Dense_0"]["kernel"]
    mu = np.tanh(norm(linear + params["Dense_0"]["bias"], params["BatchNorm_0"]))
    noise = SIGMA * np.random.default_rng(3).standard_normal((40_000, *mu.shape))
    expected = np.clip(mu + noise + 0.5, 0, 1).mean(0)
    np.testing.assert_allclose(trained(block, x, variables)[:, :, 0], expected, atol=0.01)


def test_mean_gate_rises_everywhere_and_is_symmetric():
    mu = jnp.linspace(-1, 1, 21)
    gates, slopes = jax.vmap(jax.value_and_grad(mean_gate))(mu)
    assert float(slopes.min()) > 0.1  # where clip has none
    np.testing.assert_allclose(gates + gates[::-1], 1, atol=1e-6)
    np.testing.assert_allclose(gates[10], 0.5, atol=1e-6)


@pytest.mark.parametrize("block", [SparkBlock(4, 3), SparkGates(4)])
def test_blocks_declare_what_the_trunk_may_do(block):
    assert block.stats_over_stream
    assert not hasattr(block, "time_stride")  # zeros around each window
