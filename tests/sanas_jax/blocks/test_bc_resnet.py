"""Blocks of BC-ResNet against loops, and what they do with statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.bc_resnet import BcHead, BcResidual, BcTail, SubSpectralNorm
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")


def conv(x, kernel, pads, stride=1, dilation=1):
    """Convolution by loop: [B, T, F, C] with [kt, kf, C, M]; stride in frequency, dilation in time.

    A kernel [kt, kf, 1, C] is depthwise.
    """
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    if kernel.shape[2] == 1 and x.shape[-1] > 1:
        kernel = kernel * np.eye(x.shape[-1])
    kt, kf = kernel.shape[:2]
    rows = x.shape[1] - (kt - 1) * dilation
    columns = (x.shape[2] - kf) // stride + 1
    out = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for t in range(rows):
        for f in range(columns):
            patch = x[:, t::dilation, f * stride :][:, :kt, :kf]
            out[:, t, f] = np.einsum("btfc,tfcm->bm", patch, kernel)
    return out


def norm(x, params):
    """BatchNorm in training, over all but the channels."""
    spread = np.sqrt(x.var((0, 1, 2)) + 1e-5)
    return (x - x.mean((0, 1, 2))) / spread * params["scale"] + params["bias"]


def sub_norm(x, params, sub_bands=5):
    """The same for each band of frequencies by itself."""
    bands = np.split(x, sub_bands, axis=2)
    return np.concatenate(
        [
            norm(band, {name: value[s] for name, value in params.items()})
            for s, band in enumerate(bands)
        ],
        axis=2,
    )


def drawn(block, shape, seed=0):
    """An input, random weights as float64, and what the block makes of them in training."""
    x = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    variables = variables | {"params": random_like(variables["params"], seed + 1)}
    got, updated = block.apply(variables, x, train=True, mutable=["batch_stats"])
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    return np.asarray(x, np.float64), weights, np.asarray(got), updated["batch_stats"]


def residual(x, params, dilation, stride, names):
    """f2(x) + broadcast f1 of its mean; `names` of the two norms and the 1×1 convolution of f1."""
    sub, over_time, pointwise = names
    y = conv(x, params["DepthwiseConv_0"]["kernel"], ((0, 0), (1, 1)), stride)
    y = sub_norm(y, params[sub]["BatchNorm_0"])
    pads = ((dilation, dilation), (0, 0))
    z = conv(y.mean(2, keepdims=True), params["DepthwiseConv_1"]["kernel"], pads, 1, dilation)
    z = norm(z, params[over_time])
    return y + z / (1 + np.exp(-z)) @ params[pointwise]["kernel"]


def test_bc_head():
    x, params, got, _ = drawn(BcHead(4), (2, 7, 10, 1))
    y = conv(x, params["Conv_0"]["kernel"], ((2, 2), (2, 2)), 2)
    assert got.shape == (2, 7, 5, 4)
    np.testing.assert_allclose(got, norm(y, params["BatchNorm_0"]), atol=1e-4)


@pytest.mark.parametrize("dilation", [1, 4])
def test_bc_residual_where_the_channels_stay(dilation):
    x, params, got, _ = drawn(BcResidual(3, dilation), (2, 9, 10, 3))
    names = ("SubSpectralNorm_0", "BatchNorm_0", "Dense_0")
    expected = x + residual(x, params, dilation, 1, names)
    np.testing.assert_allclose(got, expected, atol=2e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_bc_residual_where_the_channels_change(stride):
    x, params, got, _ = drawn(BcResidual(4, 2, stride), (2, 9, 10, 3))
    y = np.maximum(norm(x @ params["Dense_0"]["kernel"], params["BatchNorm_0"]), 0)
    names = ("SubSpectralNorm_0", "BatchNorm_1", "Dense_1")
    assert got.shape == (2, 9, 10 // stride, 4)
    np.testing.assert_allclose(got, residual(y, params, 2, stride, names), atol=2e-4)


def test_bc_residual_broadcasts_what_it_learns_over_time():
    """What f1 adds is the same at all frequencies."""
    block = BcResidual(3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 10, 3)), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    params = variables["params"]
    without = params | {"Dense_0": jax.tree.map(jnp.zeros_like, params["Dense_0"])}
    added = block.apply(variables, x) - block.apply(variables | {"params": without}, x)
    np.testing.assert_allclose(added, jnp.broadcast_to(added[:, :, :1], added.shape), atol=1e-6)
    assert float(jnp.abs(added).max()) > 0.1


def test_bc_tail():
    x, params, got, _ = drawn(BcTail(4), (2, 7, 5, 3))
    y = conv(x, params["DepthwiseConv_0"]["kernel"], ((2, 2), (0, 0)))
    y = norm(y @ params["Dense_0"]["kernel"], params["BatchNorm_0"])
    assert got.shape == (2, 7, 1, 4)
    np.testing.assert_allclose(got, y, atol=1e-4)


def test_sub_spectral_norm_keeps_statistics_of_each_band():
    x, _, _, stats = drawn(SubSpectralNorm(5), (3, 7, 10, 2))
    stats = stats["BatchNorm_0"]
    assert stats["mean"].shape == stats["var"].shape == (5, 2)
    for band in range(5):
        part = x[:, :, 2 * band : 2 * band + 2]
        np.testing.assert_allclose(stats["mean"][band], 0.1 * part.mean((0, 1, 2)), atol=1e-5)
        var = 0.9 + 0.1 * part.var((0, 1, 2))
        np.testing.assert_allclose(stats["var"][band], var, rtol=1e-4)


def test_sub_spectral_norm_refuses_frequencies_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of 5, got 12"):
        SubSpectralNorm(5).init(jax.random.key(0), jnp.ones((1, 2, 12, 3)))


def test_bc_residual_refuses_a_stride_without_a_transition():
    with pytest.raises(ValueError, match="expected 1 where the channels stay 3, got 2"):
        BcResidual(3, stride=2).init(jax.random.key(0), jnp.ones((1, 4, 10, 3)))


@pytest.mark.parametrize(
    "block", [BcHead(4), BcResidual(4), BcTail(4)], ids=["head", "residual", "tail"]
)
def test_in_evaluation_rows_are_independent(block):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 5, 2)), jnp.float32)
    variables = block.init(jax.random.key(0), x)
    whole, single = block.apply(variables, x), block.apply(variables, x[1:2])
    np.testing.assert_allclose(whole[1:2], single, atol=1e-5)


def test_blocks_declare_what_the_trunk_may_do():
    for block in (BcHead(4), BcResidual(4), BcTail(4)):
        assert block.stats_over_stream
        assert not hasattr(block, "time_stride")  # zeros around each window
