"""Depthwise convolution: values, gradients, parameters and MACs against flax's grouped one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.costs import count_macs
from sanas_jax.kernels.depthwise import DepthwiseConv, depthwise_conv
from tests.helpers.nets import random_like

pytestmark = pytest.mark.usefixtures("strict", "branch")

# sizes, kernel, stride, dilation, padding
CASES = {
    "time valid": ((11,), (3,), (2,), (1,), "VALID"),
    "time dilated": ((13,), (3,), (1,), (4,), "SAME"),
    "time causal": ((9,), (3,), (1,), (2,), ((4, 0),)),
    "same, strided": ((10, 8), (3, 3), (2, 2), (1, 1), "SAME"),
    "frequency": ((5, 20), (1, 3), (1, 2), (1, 1), ((0, 0), (1, 1))),
    "both": ((7, 5), (5, 5), (1, 1), (1, 1), ((2, 2), (0, 0))),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def pair(request):
    """This convolution, flax's grouped one, an input and parameters of both."""
    sizes, kernel, stride, dilation, padding = request.param
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *sizes, 3)), jnp.float32)
    ours = DepthwiseConv(kernel, stride, dilation, padding, use_bias=True)
    flax = nn.Conv(*(3, kernel, stride, padding), kernel_dilation=dilation, feature_group_count=3)
    params = random_like(flax.init(jax.random.key(0), x), 1)
    return ours, flax, x, params


def test_depthwise_conv_is_a_grouped_convolution(pair):
    ours, flax, x, params = pair
    expected = flax.apply(params, x)
    got = jax.jit(ours.apply)(params, x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_depthwise_conv_gradients_are_those_of_a_grouped_convolution(pair):
    ours, flax, x, params = pair
    weights = jnp.sin(jnp.arange(flax.apply(params, x).size, dtype=jnp.float32))

    def loss(module):
        return lambda params, x: module.apply(params, x).ravel() @ weights

    expected = jax.grad(loss(flax), (0, 1))(params, x)
    got = jax.jit(jax.grad(loss(ours), (0, 1)))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)


def test_depthwise_conv_counts_the_macs_of_a_grouped_convolution(pair):
    ours, flax, x, params = pair
    taps = np.prod(ours.kernel)
    by_hand = flax.apply(params, x).size * taps
    assert count_macs(ours.apply, params, x) == count_macs(flax.apply, params, x) == by_hand


def test_depthwise_conv_parameters_are_those_of_a_grouped_convolution(pair):
    ours, flax, x, _ = pair
    shapes = [jax.eval_shape(module.init, jax.random.key(0), x) for module in (ours, flax)]
    assert shapes[0] == shapes[1]


def test_depthwise_conv_vmap_over_kernels_is_a_loop():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 9, 4)), jnp.float32)
    kernels = jnp.asarray(rng.standard_normal((3, 5, 1, 4)), jnp.float32)
    got = jax.vmap(lambda kernel: depthwise_conv(x, kernel))(kernels)
    expected = jnp.stack([depthwise_conv(x, kernel) for kernel in kernels])
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_depthwise_conv_starts_at_hes_scale():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 500, 400)), jnp.float32)
    y, _ = DepthwiseConv((9,)).init_with_output(jax.random.key(0), x)
    # 3600 weights: the standard error of their variance is about 2 %.
    assert float(jnp.var(y)) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (1,)}, "one entry for each of 2 axes"),
        ({"dilation": (1, 1, 1)}, "one entry for each of 2 axes"),
        ({"padding": ((1, 1),)}, "one entry for each of 2 axes"),
        ({"dilation": (4, 1)}, "span at most"),
    ],
)
def test_depthwise_conv_refuses_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        depthwise_conv(jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 1, 2)), **options)
