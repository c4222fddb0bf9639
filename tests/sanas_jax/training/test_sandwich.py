"""The whole network beside the samples: a row more of their rollouts, at the price of a row."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs
from sanas_jax import gates as gates_lib
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.estimators import leave_one_out
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.training import Batch, Budget, Objective, Price, Score, Teach
from sanas_jax.training.loss import make_loss
from sanas_jax.training.terms import masked_mean, step_loss


def trunk_net():
    """Nearly all of the work in the trunk: three blocks with BatchNorm, two exits, a classifier."""
    layers = (
        Layer("x"),
        *(Layer(name, nn.relu) for name in ("a", "b", "c", "f")),
        Layer("y"),
    )
    edges = (
        Edge("one", "x", "a", Separable(16, 3, residual=False), gated=False),
        Edge("two", "a", "b", Separable(16, 3)),
        Edge("three", "b", "c", Separable(16, 3)),
        Edge("early", "a", "f", Exit(4)),
        Edge("late", "c", "f", Exit(4)),
        Edge("out", "f", "y", nn.Dense(3), gated=False),
    )
    return Net((12, 8, 1), layers, edges, output="y", features="f")


MODEL = Sanas(trunk_net(), Controller(nn.GRUCell(3), 0.3), hop=4)
PLAIN = Objective(
    Price(costs.relative(MODEL.net, costs.macs(MODEL.net))), Score(leave_one_out(), samples=3)
)
TAUGHT = dataclasses.replace(PLAIN, teach=Teach(0.7, 0.4, 0.1))
BUDGET = Budget(jnp.float32(0.3), jnp.float32(0.0))
KEY = jax.random.key(1)


def batch_of(streams=6, frames=32):
    rng = np.random.default_rng(0)
    steps = MODEL.num_steps(frames)
    features = jnp.asarray(rng.standard_normal((streams, frames, 8, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, (steps, streams)))
    return Batch(features, labels, jnp.asarray(rng.random((steps, streams)) < 0.8))


BATCH, PARAMS = batch_of(), init_model(MODEL, jax.random.key(0))


def gradient(objective):
    """The compiled gradient of a step's loss, its metrics and statistics beside it."""
    loss = make_loss(MODEL, objective)

    def of(params):
        return loss(PARAMS | params, (), BATCH, KEY, BUDGET)

    trained = {name: PARAMS[name] for name in ("net", "controller")}
    return jax.jit(jax.grad(of, has_aux=True)).lower(trained).compile(), trained


def by_a_second_unroll():
    """The sandwich as two computations: the samples, and beside them the whole network."""
    plain = make_loss(MODEL, dataclasses.replace(PLAIN, teach=Teach(label_smoothing=0.1)))

    def of(params):
        params = PARAMS | params
        total, aux = plain(params, (), BATCH, KEY, BUDGET)
        carry = init_carry(MODEL, BATCH.features.shape[0], stats=params["stats"])

        def run(key, policy):
            options = {"policy": policy, "train": True, "mask": BATCH.mask}
            return unroll(MODEL, params, carry, BATCH.features, key, **options)[1]

        whole = run(KEY, gates_lib.all_on).logits
        drawn = jax.vmap(lambda key: run(key, gates_lib.sample).logits)(jax.random.split(KEY, 3))
        taught = jax.nn.softmax(jax.lax.stop_gradient(whole))
        apart = optax.losses.kl_divergence(jax.nn.log_softmax(drawn), taught[None]).mean(0)
        ce = step_loss(whole, BATCH.labels, None, 0.1)
        return total + 0.7 * masked_mean(ce, BATCH.mask) + 0.4 * masked_mean(apart, BATCH.mask), aux

    trained = {name: PARAMS[name] for name in ("net", "controller")}
    return jax.jit(jax.grad(of, has_aux=True)).lower(trained).compile(), trained


def flops(compiled):
    return compiled.cost_analysis()["flops"]


@pytest.fixture(scope="module")
def programs():
    return {"plain": gradient(PLAIN)[0], "taught": gradient(TAUGHT)[0], "two": by_a_second_unroll()}


def test_the_sandwich_has_the_gradients_of_two_computations(programs):
    two, trained = programs["two"]
    (got, aux), (expected, plain) = programs["taught"](trained), two(trained)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # The samples are those that are drawn without it, and statistics are theirs alone.
    for a, b in zip(jax.tree.leaves(aux), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_sandwich_runs_the_trunk_once_there_and_back(programs):
    """Twice through the trunk's backward pass would be about two thirds more of everything."""
    assert flops(programs["taught"]) < 1.15 * flops(programs["plain"])
    assert flops(programs["two"][0]) > 1.4 * flops(programs["plain"])


def test_the_mode_is_measured_on_the_same_trunk(programs):
    measured, trained = gradient(dataclasses.replace(PLAIN, measure_mode=True))
    assert flops(measured) < 1.1 * flops(programs["plain"])
    (got, aux), (expected, _) = measured(trained), programs["plain"](trained)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # All gates begin above 1/2 at the first step; the cost is a mean over the valid steps.
    assert 0 < aux.metrics["mode_cost"] <= 1
