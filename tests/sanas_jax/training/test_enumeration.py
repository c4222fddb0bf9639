"""Every estimator × family × γ: what the library expects is what the sum over all outcomes says.

All outcomes of two steps of a stream are forced once through the library's own loss, and its
gradients weighted with their exact probabilities (double precision). Expected is, for γ = 1, the
gradient of the objective; for a smaller γ that of REINFORCE with returns Σ γ^(k−t) r_k, written out
without the library's loss, returns or estimators. What an estimator cannot do it refuses.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.controller import Controller
from sanas_jax.costs import Cost, StreamCost
from sanas_jax.estimators import (
    LinearFit,
    MeanState,
    batch_mean,
    disarm,
    learned_value,
    leave_one_out,
    moving_average,
    no_baseline,
)
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.training import Batch, Budget, Objective, Price, Score, loss, rollouts
from tests.helpers.nets import all_gates, random_like, stream_net

pytestmark = pytest.mark.usefixtures("strict")

STEPS, LAMBDA, LIMIT = 2, 0.8, 0.5
LEARNED = LinearFit(np.eye(5) + 0.3, np.linspace(-1, 2, 5))
# estimator, its state where it begins with one of the past, and samples M.
ESTIMATORS = {
    "none": (no_baseline(), None, 1),
    "average": (moving_average(), MeanState(np.float64(1.7), np.float64(0.4)), 1),
    "learned value": (learned_value(3), LEARNED, 1),
    "batch mean": (batch_mean(), None, 2),
    "leave one out": (leave_one_out(), None, 2),
}


class NormConv(nn.Module):
    """A convolution over time and BatchNorm."""

    @nn.compact
    def __call__(self, x, *, train=False, live=None):
        x = nn.Conv(2, (3, 1), padding="VALID")(x)
        return nn.BatchNorm(not train)(x)


class NormDense(nn.Module):
    """Flatten, affine map, BatchNorm: after a join."""

    @nn.compact
    def __call__(self, x, *, train=False, live=None):
        x = nn.Dense(2)(x.reshape(x.shape[0], -1))
        return nn.BatchNorm(not train)(x)


def norm_net() -> Net:
    layers = (Layer("x"), Layer("h", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("conv", "x", "h", NormConv()),
        Edge("short", "x", "f", Dense(2), gated=False),
        Edge("deep", "h", "f", NormDense()),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((6, 1, 1), layers, edges, output="y", features="f")


def reusing_net() -> Net:
    layers = (Layer("x"), Layer("h", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("conv", "x", "h", Conv2D(2, (3, 1)), gated=False),
        Edge("deep", "h", "f", Dense(2)),
        Edge("keep", "f", "f", Identity()),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((6, 1, 1), layers, edges, output="y", features="f")


def own_cost(gates: jax.Array) -> jax.Array:
    """Of each step [T, ..., E] by itself, not linear: 0.1 n², odd numbers dearer."""
    count = gates.sum(-1)
    return 0.1 * count**2 + 0.7 * (count % 2)


def past_cost(gates: jax.Array) -> jax.Array:
    """An edge that the step before left out costs as much again."""
    before = jnp.concatenate([jnp.zeros_like(gates[:1]), gates[:-1]])
    return own_cost(gates) + 0.6 * (gates * (1 - before)).sum(-1)


FAMILIES: dict[str, tuple[Net, Cost]] = {
    "plain": (stream_net(shortcut_gates=False), own_cost),
    "batch norm": (norm_net(), own_cost),
    "reuse": (reusing_net(), own_cost),
    "sequential cost": (stream_net(shortcut_gates=False), past_cost),
}
# What the library is given for a cost that looks at the steps before.
TYPED = {past_cost: StreamCost(past_cost, 1.3)}
DISARM_REFUSES = {"reuse": "a net without reuse", "sequential cost": "a cost without memory"}


def double_problem(net: Net):
    """Model, weights, a stream of two steps; in double precision."""
    model = Sanas(net, Controller(nn.GRUCell(3, param_dtype=jnp.float64)), hop=2)
    params = init_model(model, jax.random.key(0))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    stats = params.pop("stats", {})
    params = random_like(params, 3, scale=0.8)
    if stats:
        params["stats"] = jax.tree.map(lambda s: jnp.abs(s) + 0.4, stats)
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.standard_normal((1, 6 + 2 * (STEPS - 1), 1, 1)))
    labels = jnp.asarray(rng.integers(0, 3, (STEPS, 1)))
    return model, params, Batch(features, labels, jnp.ones((STEPS, 1), bool))


def sequences(net: Net) -> jax.Array:
    """All sequences of architectures, [2^(G·T), T, E]."""
    masks = np.ones((2 ** len(net.gated), len(net.edges)))
    masks[:, list(net.gated)] = all_gates(len(net.gated))
    index = np.array(list(itertools.product(range(len(masks)), repeat=STEPS)))
    return jnp.asarray(masks[index])


def forced_outs(model, params, batch, gates):
    """What a sequence of architectures [T, E] answers; BatchNorm with its running statistics."""
    carry = init_carry(model, 1, stats=params.get("stats"))
    key = jax.random.key(0)  # nothing is drawn
    return unroll(model, params, carry, batch.features, key, gates=gates[:, None])[1]


def forced(model, params, batch, gates):
    """log P(H_t | H_<t) and losses, in nats, of the steps [T] of one sequence [T, E]."""
    outs = forced_outs(model, params, batch, gates)
    p = 1 / (1 + jnp.exp(-outs.gamma.logits[:, 0]))
    gated = jnp.array(model.net.gated)
    chosen = jnp.where(gates > 0.5, p, 1 - p)[:, gated]
    answers = outs.logits[:, 0] - jax.nn.logsumexp(outs.logits[:, 0], -1, keepdims=True)
    return jnp.log(chosen).sum(-1), -jnp.take_along_axis(answers, batch.labels, -1)[:, 0]


def by_hand(model, params, batch, cost, discount):
    """The expected gradient; for γ = 1 also by differentiating the expectation itself."""
    every = sequences(model.net)

    def outcome(params, gates):
        log_p, losses = forced(model, params, batch, gates)
        return log_p, losses + LAMBDA * jnp.maximum(cost(gates[:, None])[:, 0] - LIMIT, 0)

    def reinforce(params, gates):
        log_p, paid = outcome(params, gates)
        fixed = jax.lax.stop_gradient(paid)
        to_go = [sum(discount ** (k - t) * fixed[k] for k in range(t, STEPS)) for t in range(STEPS)]
        score = sum(log_p[t] * to_go[t] for t in range(STEPS))
        probability = jax.lax.stop_gradient(jnp.exp(log_p.sum()))
        return probability * (paid.sum() + score) / STEPS

    def expectation(params, gates):
        log_p, paid = outcome(params, gates)
        return jnp.exp(log_p.sum()) * paid.sum() / STEPS

    def gradient(term):
        return jax.jit(jax.grad(lambda p: jax.vmap(functools.partial(term, p))(every).sum()))

    got = gradient(reinforce)(params)
    if discount == 1:
        assert_same(got, gradient(expectation)(params), "returns without discount")
    return got


@functools.cache
def weighted_outcomes(family: str, samples: int, paired: bool):
    """Outcomes [N, M, T, E] of M samples, or of a pair of DisARM's, and their probabilities [N]."""
    model, params, batch = double_problem(FAMILIES[family][0])
    every = sequences(model.net)
    index = np.array(list(itertools.product(range(len(every)), repeat=samples)))
    gated = jnp.array(model.net.gated)

    def weight(outcome):
        if not paired:
            log_p = jax.vmap(lambda gates: forced(model, params, batch, gates)[0].sum())(outcome)
            return jnp.exp(log_p.sum())
        # From the joint table of the gates of u and those of 1 − u.
        main, other = outcome
        p = forced_outs(model, params, batch, main).gamma.probs[:, 0]
        both, neither = jnp.maximum(2 * p - 1, 0), jnp.maximum(1 - 2 * p, 0)
        one = jnp.minimum(p, 1 - p)
        joint = jnp.where(main == other, jnp.where(main > 0, both, neither), one)
        return jnp.prod(joint[:, gated])

    weights = jax.jit(jax.vmap(weight))(every[index])
    assert float(weights.sum()) == pytest.approx(1, abs=1e-10)
    return every[index], weights


def by_library(monkeypatch, family, objective, state):
    """E[ gradient of the library's loss ] over all outcomes of M samples, or of DisARM's pairs."""
    model, params, batch = double_problem(FAMILIES[family][0])
    paired = objective.score.estimator.paired
    samples = 2 if paired else objective.score.samples
    outcomes, weights = weighted_outcomes(family, samples, paired)
    key, budget = jax.random.key(0), Budget(jnp.float64(LAMBDA), jnp.float64(LIMIT))

    def gradient(outcome):  # [M, T, E]

        def forced_unroll(model, params, carry, features, sample_key, *, gates=None, **rest):
            if gates is None:
                keys = jax.random.key_data(jax.random.split(key, objective.score.samples))
                mine = (keys == jax.random.key_data(sample_key)[None]).all(-1)
                gates = outcome[jnp.argmax(mine)][:, None]
            return unroll(model, params, carry, features, sample_key, gates=gates)

        def scalar(params):
            with monkeypatch.context() as patch:
                patch.setattr(rollouts, "unroll", forced_unroll)
                patch.setattr(loss, "partner_gates", lambda outs, key: outcome[1][:, None])
                return loss.make_loss(model, objective)(params, state, batch, key, budget)[0]

        return jax.grad(scalar)(params)

    grads = jax.jit(jax.vmap(gradient))(outcomes)
    return jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), grads)


def assert_same(got, expected, name):
    got, expected = ({k: tree[k] for k in ("net", "controller")} for tree in (got, expected))
    for (path, b), a in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True
    ):
        scale = max(float(np.abs(b).max()), 1e-3)
        np.testing.assert_allclose(a, b, atol=1e-6 * scale, rtol=0, err_msg=f"{name} {path}")


@pytest.mark.slow
@pytest.mark.parametrize("discount", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_estimator_by_enumeration(monkeypatch, x64, family, discount):
    net, cost = FAMILIES[family]
    model, params, batch = double_problem(net)
    assert len(net.gated) == 2
    expected = by_hand(model, params, batch, cost, discount)
    largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(expected["controller"]))
    assert largest > 1e-2
    for name, (estimator, state, samples) in ESTIMATORS.items():
        objective = Objective(Price(TYPED.get(cost, cost)), Score(estimator, samples, discount))
        state = estimator.init() if state is None else jax.tree.map(jnp.float64, state)
        assert_same(by_library(monkeypatch, family, objective, state), expected, name)


@pytest.mark.parametrize("family", FAMILIES)
def test_disarm_by_enumeration_or_refused(monkeypatch, x64, family):
    for discount in (0.8, 1.0):
        with pytest.raises(ValueError, match="expected discount 0"):
            Score(disarm(), discount=discount)
    net, cost = FAMILIES[family]
    model, params, batch = double_problem(net)
    objective = Objective(Price(TYPED.get(cost, cost)), Score(disarm(), discount=0.0))
    if family in DISARM_REFUSES:
        with pytest.raises(ValueError, match=DISARM_REFUSES[family]):
            loss.make_loss(model, objective)
        return
    expected = by_hand(model, params, batch, cost, 0.0)
    assert_same(by_library(monkeypatch, family, objective, ()), expected, "disarm")
