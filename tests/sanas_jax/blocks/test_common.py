"""Blocks: values against loops, and what `time_stride` promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks import Conv2D, Dense, Identity, max_pool
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict")


def conv_by_loop(x, kernel, bias, stride):
    """Valid convolution, [B, T, F, C] with kernel [kt, kf, C, M], in float64."""
    batch, time, freq, _ = x.shape
    kt, kf, _, maps = kernel.shape
    out = np.zeros((batch, (time - kt) // stride[0] + 1, (freq - kf) // stride[1] + 1, maps))
    for t in range(out.shape[1]):
        for f in range(out.shape[2]):
            patch = x[:, t * stride[0] :, f * stride[1] :][:, :kt, :kf]
            out[:, t, f] = np.einsum("btfc,tfcm->bm", patch, kernel) + bias
    return out


def pool_by_loop(x, pool):
    t, f = x.shape[1] // pool[0], x.shape[2] // pool[1]
    rows = [
        [
            x[:, i * pool[0] :][:, : pool[0], j * pool[1] :][:, :, : pool[1]].max((1, 2))
            for j in range(f)
        ]
        for i in range(t)
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


@pytest.mark.parametrize(
    ("kernel", "stride", "pool"),
    [((3, 2), (1, 1), (1, 1)), ((4, 2), (2, 1), (1, 3)), ((2, 3), (1, 2), (2, 2))],
)
def test_conv2d_against_a_loop(kernel, stride, pool):
    block = Conv2D(3, kernel, stride, pool)
    x = np.random.default_rng(0).standard_normal((2, 11, 9, 2)).astype(np.float32)
    params = random_like(block.init(jax.random.key(0), x), 1)
    weights = {k: np.asarray(v, np.float64) for k, v in params["params"]["Conv_0"].items()}
    full = conv_by_loop(x.astype(np.float64), weights["kernel"], weights["bias"], stride)
    expected = pool_by_loop(full, pool)
    got = block.apply(params, x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pool", [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_max_pool_values_and_gradient(pool):
    # 7 and 8 are no multiples of the pools: the remainder is dropped and gets no gradient.
    x = np.random.default_rng(1).permutation(2 * 7 * 8 * 2).reshape(2, 7, 8, 2)
    x = x.astype(np.float32)
    expected = pool_by_loop(x, pool)
    np.testing.assert_array_equal(max_pool(x, pool), expected)
    grad = jax.grad(lambda x: max_pool(x, pool).sum())(jnp.asarray(x))
    # All entries differ, so exactly the winners have gradient 1.
    np.testing.assert_array_equal(grad, np.isin(x, expected).astype(np.float32))


def test_dense_flattens_row_major():
    block = Dense(2)
    x = jnp.arange(12.0).reshape(2, 3, 2)
    params = random_like(block.init(jax.random.key(0), x), 0)
    weights = params["params"]["Dense_0"]
    expected = np.asarray(x).reshape(2, 6) @ weights["kernel"] + np.asarray(weights["bias"])[None]
    np.testing.assert_allclose(block.apply(params, x), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0, 0.4])
def test_dense_init_scale_is_the_output_variance(scale):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 2000)), jnp.float32)
    y, _ = Dense(1000, scale).init_with_output(jax.random.key(0), x)
    # 8000 outputs: the standard error of their variance is about 2 %.
    assert float(jnp.var(y)) == pytest.approx(scale, rel=0.1)


def test_identity_has_no_parameters():
    x = jnp.ones((2, 3))
    y, variables = Identity().init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)
    assert jax.tree.leaves(variables) == []


@pytest.mark.parametrize(
    "block",
    [Conv2D(2, (3, 2)), Conv2D(2, (3, 2), (2, 1)), Conv2D(2, (3, 2), (2, 1), (2, 1)), Identity()],
    ids=["plain", "stride", "stride and pool", "identity"],
)
def test_time_stride_is_kept(block):
    """Shifting the input by `time_stride` rows shifts the output by one."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 20, 4, 1)), jnp.float32)
    params = random_like(block.init(jax.random.key(0), x), 2)
    full = block.apply(params, x)
    shifted = block.apply(params, x[:, block.time_stride :])
    rows = min(shifted.shape[1], full.shape[1] - 1)
    assert rows >= 2
    np.testing.assert_allclose(shifted[:, :rows], full[:, 1 : 1 + rows], atol=1e-6)
    assert block.time_stride in (1, 2, 4)


def test_dense_declares_no_time_stride():
    assert not hasattr(Dense(2), "time_stride")
