"""The convolution of Conv2D: which form is taken, and that nobody notices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Conv2D
from sanas_jax.kernels.convolution import transforms_pay

pytestmark = pytest.mark.usefixtures("branch")

BLOCK = Conv2D(32, (10, 4), pool=(1, 2))
WIDE = (16, 120, 11, 32)  # [B, T, F, C] where transforms pay


def plain(block):
    """The same block as a flax convolution, without a choice of forms."""
    conv = nn.Conv(block.maps, block.kernel, padding="VALID")

    def run(params, x):
        y = conv.apply({"params": params["Conv_0"]}, x)
        batch, time, freq, maps = y.shape
        return y.reshape(batch, time, freq // 2, 2, maps).max(3)

    return run


def primitives(jaxpr):
    return [eqn.primitive.name for eqn in jaxpr.jaxpr.eqns]


def test_transforms_pay_for_many_channels_and_many_rows():
    assert transforms_pay((64, 282, 11, 64), (10, 4, 64, 64))
    assert transforms_pay(WIDE, (10, 4, 32, 32))
    assert not transforms_pay((1, 82, 11, 64), (10, 4, 64, 64))  # a window of one stream
    assert not transforms_pay((64, 301, 40, 1), (20, 8, 1, 64))  # one channel
    assert not transforms_pay((64, 282, 11, 64), (1, 1, 64, 64))  # one tap
    assert not transforms_pay((64, 282, 11), (10, 64, 64))  # one axis


def test_conv2d_is_the_plain_convolution_where_transforms_run(branch):
    x = jax.random.normal(jax.random.key(0), WIDE)
    params = BLOCK.init(jax.random.key(1), x)["params"]
    ours = jax.make_jaxpr(lambda p, x: BLOCK.apply({"params": p}, x))(params, x)
    chosen = branch == "accelerator"  # else there is a choice of forms in its place
    assert ("conv_general_dilated" in primitives(ours)) == chosen

    def loss(run):
        return jax.jit(jax.value_and_grad(lambda p, x: jnp.square(run(p, x)).sum(), (0, 1)))

    got = loss(lambda p, x: BLOCK.apply({"params": p}, x))(params, x)
    expected = loss(plain(BLOCK))(params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert jnp.abs(a - b).max() <= 1e-5 * jnp.abs(b).max()


def test_conv2d_of_one_window_is_written_as_ever():
    x = jnp.zeros((1, 82, 11, 64))
    block = Conv2D(64, (10, 4))
    params = block.init(jax.random.key(0), x)
    assert "conv_general_dilated" in primitives(jax.make_jaxpr(block.apply)(params, x))


@pytest.mark.parametrize("strides", [(2, 1), (1, 2)])
def test_conv2d_with_a_stride_is_written_as_ever(strides):
    x = jnp.zeros(WIDE)
    block = Conv2D(32, (10, 4), strides)
    params = jax.eval_shape(block.init, jax.random.key(0), x)
    assert "conv_general_dilated" in primitives(jax.make_jaxpr(block.apply)(params, x))


def test_macs_are_those_of_the_convolution_as_written():
    x = jax.ShapeDtypeStruct(WIDE, np.float32)
    params = jax.eval_shape(BLOCK.init, jax.random.key(0), x)
    positions = 111 * 8
    assert costs.count_macs(BLOCK.apply, params, x) == WIDE[0] * positions * 10 * 4 * 32 * 32

    def iteration(run):
        return lambda params, x: jax.grad(lambda p, x: run(p, x).sum(), (0, 1))(params, x)

    ours = costs.count_macs(
        iteration(lambda p, x: BLOCK.apply({"params": p}, x)), params["params"], x
    )
    assert ours == costs.count_macs(iteration(plain(BLOCK)), params["params"], x)
