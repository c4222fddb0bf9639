"""What a recipe may add: smoothing, weights of steps, the sandwich rule, averages, AdamW."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs
from sanas_jax import gates as gates_lib
from sanas_jax.controller import Controller
from sanas_jax.estimators import leave_one_out
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    Teach,
    init_state,
    make_update,
)
from sanas_jax.training.optimizer import make_optimizer
from sanas_jax.training.terms import cross_entropy, step_loss
from tests.helpers.nets import stream_net

MODEL = Sanas(stream_net(), Controller(nn.GRUCell(3)), hop=2)
COST = costs.relative(MODEL.net, costs.macs(MODEL.net))
PLAIN = Objective(Price(COST), Score(leave_one_out(), samples=3))
BUDGET = Budget(jnp.float32(0.3), jnp.float32(0.0))
# Without momentum or scale, the step is the gradient.
GRADIENT = optax.sgd(1.0)


def batch_of(seed=0, weight=None):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(rng.standard_normal((5, 12, 1, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, (4, 5)))
    mask = jnp.asarray(rng.random((4, 5)) < 0.8)
    return Batch(features, labels, mask, weight)


def gradient(objective, batch):
    """Gradient of one step on fresh parameters, and these."""
    state = init_state(MODEL, GRADIENT, objective, jax.random.key(0))
    update = jax.jit(make_update(MODEL, GRADIENT, objective))
    new, metrics = update(state, batch, jax.random.key(1), BUDGET)
    return jax.tree.map(lambda a, b: a - b, state.params, new.params), state.params, metrics


def assert_close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, expected)


def test_smoothing_spreads_a_share_of_the_label():
    logits = jax.random.normal(jax.random.key(0), (4, 5, 3))
    labels = batch_of().labels
    soft = optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.2)
    expected = optax.softmax_cross_entropy(logits, soft)
    np.testing.assert_allclose(cross_entropy(logits, labels, None, 0.2), expected, rtol=1e-5)
    np.testing.assert_array_equal(step_loss(logits, labels), cross_entropy(logits, labels))


def test_weights_of_steps_scale_their_loss():
    ones, half = jnp.ones((4, 5)), jnp.full((4, 5), 0.5)
    static = dataclasses.replace(PLAIN, static=True)
    plain, _, _ = gradient(static, batch_of())
    assert_close(gradient(static, batch_of(weight=ones))[0], plain)
    halved, _, metrics = gradient(static, batch_of(weight=half))
    assert_close(halved, jax.tree.map(lambda g: 0.5 * g, plain))
    # A step that weighs nothing teaches nothing, whatever its label.
    none = ones.at[1].set(0.0)
    other = batch_of(weight=none)
    other = other._replace(labels=other.labels.at[1].set((other.labels[1] + 1) % 3))
    assert_close(gradient(static, other)[0], gradient(static, batch_of(weight=none))[0])
    assert metrics["loss"] > 0


def test_what_is_computed_again_has_the_same_gradient():
    batch = batch_of()
    plain, _, _ = gradient(PLAIN, batch)
    again, _, _ = gradient(dataclasses.replace(PLAIN, remat=True), batch)
    assert_close(again, plain)
    again, once = (
        str(jax.make_jaxpr(partial(gradient, dataclasses.replace(PLAIN, remat=remat)))(batch))
        for remat in (True, False)
    )
    assert "remat" in again
    assert "remat" not in once


def test_entropy_is_a_bonus():
    """What the weight adds to the gradient is −weight · ∇H along the same rollouts."""
    batch = batch_of()
    with_bonus = dataclasses.replace(PLAIN.score, entropy_weight=0.3)
    plain, params, _ = gradient(PLAIN, batch)
    rewarded, _, metrics = gradient(dataclasses.replace(PLAIN, score=with_bonus), batch)
    keys = jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def entropy(params):
        def of(key):
            start = init_carry(MODEL, 5)
            outs = unroll(MODEL, params, start, batch.features, key, mask=batch.mask)[1]
            return jnp.sum(gates_lib.entropy(outs.gamma) * batch.mask) / batch.mask.sum()

        return jax.vmap(of)(keys).mean()

    assert_close(metrics["entropy"], entropy(params))
    bonus = jax.grad(entropy)(params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(bonus)) > 1e-3
    assert_close(rewarded, jax.tree.map(lambda a, b: a - 0.3 * b, plain, bonus))


def full_logits(params, batch):
    carry = init_carry(MODEL, 5)
    key = jax.random.key(0)
    return unroll(MODEL, params, carry, batch.features, key, policy=gates_lib.all_on)[1].logits


@pytest.mark.slow
def test_the_whole_network_is_trained_beside_the_samples():
    batch = batch_of()
    plain, params, _ = gradient(PLAIN, batch)
    both, _, _ = gradient(dataclasses.replace(PLAIN, teach=Teach(full_weight=0.7)), batch)

    def loss(params):
        ce = cross_entropy(full_logits(params, batch), batch.labels)
        return 0.7 * jnp.sum(ce * batch.mask) / batch.mask.sum()

    assert_close(both, jax.tree.map(jnp.add, plain, jax.grad(loss)(params)))


@pytest.mark.slow
def test_the_whole_network_teaches_the_samples_and_is_not_taught():
    batch = batch_of()
    plain, params, _ = gradient(PLAIN, batch)
    taught, _, _ = gradient(dataclasses.replace(PLAIN, teach=Teach(distill_weight=0.7)), batch)
    target = jax.nn.softmax(full_logits(params, batch))
    keys = jax.random.split(jax.random.key(1), 3)

    def loss(params):
        total = 0.0
        for key in keys:
            outs = unroll(MODEL, params, init_carry(MODEL, 5), batch.features, key)[1]
            kl = jnp.sum(target * (jnp.log(target) - jax.nn.log_softmax(outs.logits)), -1)
            total += jnp.sum(kl * batch.mask) / batch.mask.sum()
        return 0.7 * total / 3

    assert_close(taught, jax.tree.map(jnp.add, plain, jax.grad(loss)(params)))


def test_the_average_follows_the_parameters():
    objective = dataclasses.replace(PLAIN, average_decay=0.5)
    state = init_state(MODEL, GRADIENT, objective, jax.random.key(0))
    expected = state.params
    update = jax.jit(make_update(MODEL, GRADIENT, objective))
    for number in range(6):
        state, _ = update(state, batch_of(number), jax.random.key(number), BUDGET)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, expected, state.params)
    assert_close(state.deployed, expected)
    assert init_state(MODEL, GRADIENT, PLAIN, jax.random.key(0)).average is None


@pytest.mark.parametrize("decoupled", [True, False])
def test_decoupled_decay_shrinks_matrices_alone(decoupled):
    optimizer = make_optimizer(0.1, weight_decay=0.5, decoupled=decoupled)
    part = {"kernel": jnp.full((2, 3), 4.0), "bias": jnp.full(3, 4.0)}
    params = {"net": part, "controller": part}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    # L2 enters the gradient, of which Adam sees only the sign at its first step.
    shrunk = (
        {"kernel": 4 - 0.1 * 0.5 * 4, "bias": 4.0} if decoupled else {"kernel": 3.9, "bias": 3.9}
    )
    for name, value in shrunk.items():
        np.testing.assert_allclose(new["net"][name], value, rtol=1e-5)
        np.testing.assert_array_equal(new["controller"][name], 4.0)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Teach, "label_smoothing", 1.0),
        (partial(Objective, Price(COST)), "average_decay", -0.1),
        (Teach, "full_weight", -1.0),
        (Teach, "distill_weight", float("nan")),
        (partial(Price, COST), "invalid_penalty", -2.0),
        (Score, "discount", 1.5),
    ],
)
def test_impossible_values_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"{name}: expected 0 .* got {value}"):
        kind(**{name: value})


def test_a_score_without_samples_is_refused():
    with pytest.raises(ValueError, match="samples: expected 1 or more, got 0"):
        Score(samples=0)
