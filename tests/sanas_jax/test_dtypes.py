"""Types of weights and inputs: every pair runs, and what is computed has the better of the two."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import spaces
from sanas_jax.controller import Controller
from sanas_jax.forward import forward
from sanas_jax.gates import Gamma, antithetic, sample
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll

NETS = {
    "paper": lambda: spaces.kws_cnn("cnn-one-fstride4", shortcuts=True, num_classes=3, maps=(3,)),
    "separable": lambda: spaces.separable(num_classes=3),
}


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


@pytest.mark.parametrize("name", NETS)
def test_types_mix(name, x64):
    model = Sanas(NETS[name](), Controller(nn.GRUCell(4)), hop=20)
    like = jax.eval_shape(partial(init_model, model), jax.random.key(0))
    # With jax_enable_x64 parameters are what they are without it.
    assert {leaf.dtype for leaf in jax.tree.leaves(like)} == {jnp.dtype("float32")}
    stats = like.get("stats")
    shape = (2, model.window + model.hop, *model.net.input_shape[1:])
    gates = jnp.ones((2, len(model.net.edges)), jnp.float32)
    pairs = [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")]
    pairs += [("float32", "float32"), ("float32", "float64"), ("float64", "float32")]

    def run(params, stats, stream, gates, train):
        carry = init_carry(model, 2, stats=stats)
        end, outs = unroll(model, params, carry, stream, jax.random.key(0), train=train)
        window = stream[:, : model.window]
        alone = forward(model.net, params["net"], gates, window, stats=stats, train=train)
        return end, outs, alone

    for weights, given in pairs:
        params = {
            part: jax.tree.map(lambda x, w=weights: jax.ShapeDtypeStruct(x.shape, w), like[part])
            for part in ("net", "controller")
        }
        stream = jax.ShapeDtypeStruct(shape, given)
        for train in (False, True):
            end, outs, alone = jax.eval_shape(
                partial(run, train=train), params, stats, stream, gates
            )
            expected = jnp.result_type(weights, given, jnp.float32)  # sums are never in bfloat16
            assert outs.logits.dtype == alone.logits.dtype == end.z.dtype == expected
            assert {x.dtype for x in jax.tree.leaves(end.stats)} <= {jnp.dtype("float32")}


def test_bfloat16_weights_compute_about_the_same():
    model = Sanas(NETS["separable"](), Controller(nn.GRUCell(4)), hop=20)
    params = init_model(model, jax.random.key(0))
    stream = jax.random.normal(jax.random.key(1), (2, model.window, *model.net.input_shape[1:]))
    run = jax.jit(partial(unroll, model))
    carry = init_carry(model, 2, stats=params["stats"])
    exact = run(params, carry, stream, jax.random.key(2))[1].logits
    rounded = params | {"net": cast(params["net"], jnp.bfloat16)}
    got = run(rounded, carry, stream, jax.random.key(2))[1].logits
    error = np.abs(np.asarray(got - exact)).max() / np.abs(np.asarray(exact)).max()
    assert 0 < error < 0.03


def test_draws_are_in_float32_whatever_the_logits_are(x64):
    logits = jax.random.normal(jax.random.key(0), (200, 5), jnp.float32)
    drawn = {}
    for dtype in ("bfloat16", "float32", "float64"):
        gamma = Gamma(jnp.asarray(logits, dtype))
        gates = sample(gamma, jax.random.key(1))
        assert gates.dtype == antithetic(gates, gamma, jax.random.key(2)).dtype == dtype
        drawn[dtype] = np.asarray(gates, np.float32)
    np.testing.assert_array_equal(drawn["float64"], drawn["float32"])
    assert (drawn["bfloat16"] != drawn["float32"]).mean() < 0.01  # by the logits' rounding alone
