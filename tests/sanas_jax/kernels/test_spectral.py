"""Convolution by transforms: equal to the convolution as written, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sanas_jax.kernels import spectral

# Odd sizes, one tile, more tiles than a group holds, batches that groups do not divide, kernels of
# one tap on an axis, a kernel as wide as the input.
SHAPES = (
    ((2, 40, 11, 5), (10, 4, 5, 3)),
    ((3, 29, 6, 4), (29, 3, 4, 2)),
    ((1, 500, 5, 2), (3, 2, 2, 3)),
    ((61, 23, 7, 2), (4, 1, 2, 5)),
    ((5, 17, 4, 3), (1, 4, 3, 2)),
    ((2, 9, 1, 2), (3, 1, 2, 2)),
)


def direct(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def make(shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    like = rng.standard_normal(jax.eval_shape(direct, x, kernel).shape).astype(dtype)
    return jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(like)


def value_and_gradients(conv, x, kernel, dy):
    y, back = jax.vjp(conv, x, kernel)
    return (y, *back(dy))


def assert_close(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert jnp.abs(a - b).max() <= tolerance * jnp.abs(b).max()


@pytest.mark.parametrize("shapes", SHAPES)
def test_conv_is_the_convolution(shapes):
    arrays = make(shapes)
    got = jax.jit(value_and_gradients, static_argnums=0)(spectral.conv, *arrays)
    assert_close(got, value_and_gradients(direct, *arrays), 1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
def test_conv_is_exact_but_for_rounding(shapes, x64):
    arrays = make(shapes, np.float64)
    got = jax.jit(value_and_gradients, static_argnums=0)(spectral.conv, *arrays)
    assert_close(got, value_and_gradients(direct, *arrays), 1e-13)


def test_conv_rounds_as_little_at_the_size_of_the_paper():
    arrays = make(((2, 282, 11, 64), (10, 4, 64, 64)))
    got = jax.jit(value_and_gradients, static_argnums=0)(spectral.conv, *arrays)
    assert_close(got, jax.jit(value_and_gradients, static_argnums=0)(direct, *arrays), 3e-6)


@pytest.mark.slow
def test_conv_under_vmap_is_a_loop():
    x, kernel, dy = (jnp.stack([a, 2 * a]) for a in make(SHAPES[0]))
    each = jax.vmap(lambda *arrays: value_and_gradients(spectral.conv, *arrays))(x, kernel, dy)
    for i in range(2):
        one = value_and_gradients(spectral.conv, x[i], kernel[i], dy[i])
        assert_close([a[i] for a in each], one, 1e-6)


@pytest.mark.parametrize("shapes", SHAPES)
def test_plan_covers_every_row_once(shapes):
    x, kernel = shapes
    cut = spectral.plan(x, kernel)
    rows = x[1] - kernel[0] + 1
    assert cut.length == cut.valid + kernel[0] - 1
    assert cut.valid * (cut.tiles - 1) < rows <= cut.valid * cut.tiles


def test_macs_by_hand():
    # One tile of 4 rows, 3 coefficients; 2 bands in, 1 out; 1 map in, 1 out.
    x, kernel = (1, 4, 2, 1), (3, 2, 1, 1)
    cut = spectral.Plan(tiles=1, length=4, valid=2)
    over_time, over_freq, products = 6 * 4 * 2, 6 * 4 * 3, 3 * 3 * 2
    assert spectral.macs(cut, x, kernel) == over_time + over_freq + products + 2 * 6 * 3 + 2 * 6 * 1
    assert spectral.direct_macs(x, kernel) == 2 * 6
