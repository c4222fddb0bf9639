"""BSN's update: the gradient of a stream of one step, and of `score_function_grad`; no steps."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs, estimators
from sanas_jax import gates as gates_lib
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Constant, Controller
from sanas_jax.estimators import batch_mean, disarm, learned_value, leave_one_out
from sanas_jax.estimators import score_function_grad as by_score_function
from sanas_jax.forward import forward
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    Teach,
    init_state,
    make_evaluate,
    make_static_evaluate,
    make_static_update,
    make_update,
)
from sanas_jax.training.terms import step_loss
from tests.helpers.nets import random_like
from tests.sanas_jax.test_batch_stats import DenseBn

B, M = 5, 2


def trunk_net():
    """Statistics of all positions in the trunk and of live rows after it, a way around, a vector
    to be read; inputs [6, 4, 1]."""
    layers = (Layer("x"), *(Layer(name, nn.relu) for name in ("a", "b", "f")), Layer("y"))
    edges = (
        Edge("one", "x", "a", Separable(3, 3, residual=False), gated=False),
        Edge("two", "a", "b", Separable(3, 3)),
        Edge("early", "a", "f", Exit(4)),
        Edge("late", "b", "f", Exit(4)),
        Edge("own", "f", "y", DenseBn(3)),
        Edge("out", "f", "y", nn.Dense(3), gated=False),
    )
    return Net((6, 4, 1), layers, edges, output="y", features="f")


def pixel_net():
    """Labels of pixels: an answer for each of 4 × 2."""
    layers = (Layer("x"), Layer("a", nn.relu), Layer("y"))
    edges = (
        Edge("in", "x", "a", nn.Dense(3), gated=False),
        Edge("deep", "a", "y", nn.Dense(3)),
        Edge("short", "x", "y", nn.Dense(3)),
    )
    return Net((4, 2, 1), layers, edges, output="y", features="y")


MODEL = Sanas(trunk_net(), Controller(Constant(), 0.3), hop=6)
TOLD = Sanas(trunk_net(), Controller(nn.GRUCell(3), 0.3, conditioned=True), hop=6)
PIXELS = Sanas(pixel_net(), Controller(Constant(), 0.3), hop=4)
WEIGHTS = jnp.array([1.0, 2.0, 0.5])
ONE_PRICE = jnp.float32(0.7)
CASES = {
    "leave one out": (MODEL, {"score": Score(leave_one_out(), M)}),
    "disarm": (MODEL, {"score": Score(disarm(), M, 0.0, 0.1)}),
    "learned value": (MODEL, {"score": Score(learned_value(1), M)}),
    "sandwich": (
        MODEL,
        {"score": Score(batch_mean(), M), "teach": Teach(0.5, 0.4, 0.1), "measure_mode": True},
    ),
    "all on": (MODEL, {"static": True, "average_decay": 0.9}),
    "a price for each": (TOLD, {"score": Score(leave_one_out(), M), "remat": True}),
    "pixels": (PIXELS, {"score": Score(samples=M), "teach": Teach(0.5, 0.4)}),
}

QUICK = ("leave one out", "pixels")


def objective_of(model, **options):
    price = Price(costs.relative(model.net, costs.macs(model.net)))
    return Objective(price, **options)


def batch_of(model, seed=0):
    """Inputs with labels; one counts for nothing, and the losses of others count differently."""
    rng, shape = np.random.default_rng(seed), model.net.shapes[model.net.output][:-1]
    features = rng.standard_normal((B, *model.net.input_shape)).astype(np.float32)
    labels = jnp.asarray(rng.integers(-1 if shape else 0, 3, (B, *shape)), jnp.int32)
    mask, weight = jnp.arange(B) != 3, jnp.asarray(rng.uniform(1, 2, B), jnp.float32)
    return Batch(jnp.asarray(features), labels, mask, weight)


def as_streams(batch):
    """The same, each of one step."""
    return Batch(batch.features, *jax.tree.map(lambda x: x[None], batch[1:]))


def budget_of(model):
    told = model.controller.conditioned
    return Budget(jnp.linspace(0.2, 0.9, B) if told else ONE_PRICE, jnp.float32(0.1))


def state_of(model, optimizer, objective):
    state = init_state(model, optimizer, objective, jax.random.key(0))
    # Other running statistics and weights than those that all begin with.
    return state._replace(params=random_like(state.params, 1, 0.3) | _positive_stats(state.params))


def _positive_stats(params):
    return {"stats": params["stats"]} if "stats" in params else {}


def assert_close(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_the_step_is_that_of_a_stream_of_one_step(case, monkeypatch):
    """For the same gates: a stream's key would be folded once more."""
    monkeypatch.setattr(jax.random, "fold_in", lambda key, number: key)
    model, options = CASES[case]
    objective, optimizer = objective_of(model, **options), optax.sgd(1.0)
    state, batch = state_of(model, optimizer, objective), batch_of(model)
    rest = (jax.random.key(5), budget_of(model))
    static = make_static_update(model, optimizer, objective, WEIGHTS)
    streams = make_update(model, optimizer, objective, WEIGHTS)
    got = jax.jit(static)(state, batch, *rest)
    expected = jax.jit(streams)(state, as_streams(batch), *rest)
    assert_close(got, expected)
    moved = [not np.array_equal(*pair) for pair in zip(*map(leaves, (got[0], state)), strict=True)]
    assert sum(moved) > len(moved) / 2


def leaves(state):
    return jax.tree.leaves(state.params["net"])


@pytest.mark.parametrize("make", [leave_one_out, batch_mean, disarm])
def test_the_gradient_is_that_of_score_function_grad(make, monkeypatch):
    """Γ's is that of the head's bias; both draw the same gates."""
    monkeypatch.setattr(jax.random, "fold_in", lambda key, number: key)

    def draw(gamma, key):
        of_sample = gates_lib.Gamma(gamma.logits[0])
        return jax.vmap(lambda k: gates_lib.sample(of_sample, k))(jax.random.split(key, M))

    def partners(gates, gamma, key):
        """Drawn for rows [B·M], whose samples are neighbours."""
        rows = [x.swapaxes(0, 1).reshape(B * M, -1) for x in (gates, gamma.logits)]
        other = gates_lib.antithetic(rows[0], gates_lib.Gamma(rows[1]), key)
        return other.reshape(B, M, -1).swapaxes(0, 1)

    monkeypatch.setattr(estimators, "sample", draw)
    monkeypatch.setattr(estimators, "antithetic", partners)
    model, optimizer, key = PIXELS, optax.sgd(1.0), jax.random.key(3)
    objective = objective_of(model, score=Score(make(), M, 0.0))
    state, batch = state_of(model, optimizer, objective), batch_of(model)
    batch = batch._replace(mask=jnp.ones(B, bool))
    new, _ = jax.jit(make_static_update(model, optimizer, objective, WEIGHTS))(
        state, batch, key, Budget(ONE_PRICE, jnp.float32(0.1))
    )

    def pays(net_params, gates):  # [M, B, E] → [M, B]
        def one(gates):
            logits = forward(model.net, net_params, prune(model.net, gates), batch.features).logits
            return step_loss(logits, batch.labels, WEIGHTS, axes=1) * batch.weight

        cost = objective.price.cost(gates)
        return jax.vmap(one)(gates) + ONE_PRICE * jnp.maximum(cost - 0.1, 0)

    head = state.params["controller"]["head"]
    gamma = gates_lib.Gamma(head["bias"], tuple(edge.gated for edge in model.net.edges))
    (dnet, dgamma), _ = jax.jit(
        lambda net, gamma: by_score_function(
            pays, net, gamma, key, num_samples=(M, B), estimator=make()
        )
    )(state.params["net"], gamma)
    assert np.abs(dgamma.free).max() > 1e-3
    assert_close(head["bias"] - new.params["controller"]["head"]["bias"], dgamma.free)
    if make is not disarm:  # which here takes the weights' gradient from both of a pair
        stepped = jax.tree.map(jnp.subtract, state.params["net"], new.params["net"])
        assert_close(stepped, dnet)


def test_what_is_masked_changes_nothing():
    objective, optimizer = objective_of(MODEL, score=Score(leave_one_out(), M)), optax.sgd(1.0)
    state, batch = state_of(MODEL, optimizer, objective), batch_of(MODEL)
    update = jax.jit(make_static_update(MODEL, optimizer, objective))
    other = batch._replace(features=batch.features.at[3].set(9.0), labels=batch.labels.at[3].set(2))
    rest = (jax.random.key(5), budget_of(MODEL))
    for a, b in zip(
        *(jax.tree.leaves(update(state, each, *rest)) for each in (batch, other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("model", [MODEL, TOLD, PIXELS], ids=["one", "told", "pixels"])
def test_evaluation_is_that_of_a_stream_of_one_step(model):
    objective = objective_of(model)
    params, batch = state_of(model, optax.sgd(1.0), objective).params, batch_of(model)
    got = jax.jit(make_static_evaluate(model, objective, WEIGHTS))(params, batch, ONE_PRICE)
    streams = jax.jit(make_evaluate(model, objective, WEIGHTS))
    assert_close(got, streams(params, as_streams(batch), ONE_PRICE))
    labelled = (batch.labels >= 0) & (batch.mask[:, None, None] if model is PIXELS else batch.mask)
    assert got["confusion"].sum() == labelled.sum()


def test_budgets_are_a_vmap_and_there_are_no_steps():
    objective, optimizer = objective_of(MODEL, score=Score(leave_one_out(), M)), optax.sgd(1.0)
    update, batch = make_static_update(MODEL, optimizer, objective), batch_of(MODEL)
    state, key = state_of(MODEL, optimizer, objective), jax.random.key(5)
    budgets = Budget(jnp.array([0.0, 3.0]), jnp.array([0.5, 0.1]))
    together, _ = jax.jit(jax.vmap(update, (None, None, None, 0)))(state, batch, key, budgets)
    for row in range(2):
        budget = jax.tree.map(lambda leaf, r=row: leaf[r], budgets)
        alone, _ = jax.jit(update)(state, batch, key, budget)
        assert_close(jax.tree.map(lambda leaf, r=row: leaf[r], together.params), alone.params)
    # Loops of one turn: of the steps alone, other loops draw numbers.
    program = str(jax.make_jaxpr(update)(state, batch, key, budget_of(MODEL)))
    assert not re.search(r"\blength=1\b", program)
    streams = make_update(MODEL, optimizer, objective)
    program = str(jax.make_jaxpr(streams)(state, as_streams(batch), key, budget_of(MODEL)))
    assert re.search(r"\blength=1\b", program)


def test_a_batch_of_the_other_kind_is_refused():
    objective, optimizer = objective_of(MODEL), optax.sgd(1.0)
    state, batch = state_of(MODEL, optimizer, objective), batch_of(MODEL)
    rest = (jax.random.key(0), budget_of(MODEL))
    with pytest.raises(ValueError, match=r"batch.mask: expected shape \[B\] .* got \(1, 5\)"):
        make_static_update(MODEL, optimizer, objective)(state, as_streams(batch), *rest)
    with pytest.raises(ValueError, match=r"batch.mask: expected shape \[T, B\] .* got \(5,\)"):
        make_update(MODEL, optimizer, objective)(state, batch, *rest)
    with pytest.raises(ValueError, match=r"batch.mask: expected shape \[B\] .* got \(1, 5\)"):
        make_static_evaluate(MODEL, objective)(state.params, as_streams(batch))
    wrong = dataclasses.replace(objective, static=True)
    with pytest.raises(ValueError, match=r"x: expected shape \[B, 6, 4, 1\]"):
        make_static_update(MODEL, optimizer, wrong)(
            state, batch._replace(features=batch.features[..., 0]), *rest
        )
