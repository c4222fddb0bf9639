"""The gradient of a training step along a stream is unbiased.

The enumeration forces every sequence of architectures once through the library's own loss and
weights the gradients with the sequences' exact probabilities (double precision). The oracle is a
plain loop; `test_enumeration` goes through estimators, families and γ with a shorter one.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.controller import Controller
from sanas_jax.estimators import batch_mean, leave_one_out, no_baseline
from sanas_jax.forward import forward
from sanas_jax.graph import prune
from sanas_jax.rollout import Sanas, init_model, unroll
from sanas_jax.training import Batch, Budget, Objective, Price, Score, loss, rollouts
from sanas_jax.training.terms import cross_entropy
from tests.helpers.nets import all_gates, random_like, relative_error, stream_net

pytestmark = pytest.mark.usefixtures("strict")

NET = stream_net()


def black_box(live: np.ndarray) -> float:
    """Not differentiable, not linear: live edges squared, odd numbers dearer."""
    count = int(live.sum())
    return 0.1 * count**2 + (0.7 if count % 2 else 0.0)


COST = costs.custom(NET, black_box, black_box=True)
LAMBDA, LIMIT = 0.8, 0.5


def double_problem(net, batch, steps):
    """Model, weights and a batch in double precision; the last stream ends a step earlier."""
    model = Sanas(net, Controller(nn.GRUCell(3, param_dtype=jnp.float64)), hop=2)
    params = init_model(model, jax.random.key(0))
    params = random_like(jax.tree.map(lambda p: p.astype(jnp.float64), params), 3, scale=0.8)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((batch, 6 + 2 * (steps - 1), 1, 1))
    mask = np.ones((steps, batch), bool)
    if batch > 1:
        mask[-1, -1] = False
    labels = np.where(mask, rng.integers(0, 3, (steps, batch)), -1)
    return model, params, Batch(jnp.asarray(features), jnp.asarray(labels), jnp.asarray(mask))


def sequences(net, steps):
    """All sequences of architectures, [2^(G·T), T, E]."""
    gated = list(net.gated)
    masks = np.ones((2 ** len(gated), len(net.edges)))
    masks[:, gated] = all_gates(len(gated))
    index = np.array(list(itertools.product(range(len(masks)), repeat=steps)))
    return jnp.asarray(masks[index])


def sequence_value(model, params, batch, b, gates):
    """(probability of a sequence [T, E] on stream b, its sum of losses): a plain loop."""
    p, z = params["controller"], jnp.zeros((1, 3))
    probability, total = jnp.float64(1), jnp.float64(0)
    gated = jnp.array(model.net.gated)
    for t in range(gates.shape[0]):
        gamma = 1 / (1 + jnp.exp(-(z @ p["head"]["kernel"] + p["head"]["bias"][None])))[0]
        h = gates[t][gated]
        probability *= jnp.prod(h * gamma + (1 - h) * (1 - gamma))
        x = batch.features[b : b + 1, 2 * t : 2 * t + 6]
        live = prune(model.net, gates[t])
        out = forward(model.net, params["net"], live, x)
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        cost = jax.pure_callback(
            lambda live: np.float32(black_box(live)), shape, live, vmap_method="sequential"
        )
        loss = cross_entropy(out.logits, batch.labels[t, b : b + 1])[0]
        loss += LAMBDA * jnp.maximum(cost - LIMIT, 0)
        total += jnp.where(batch.mask[t, b], loss, 0)
        z, _ = model.controller.cell.apply({"params": p["cell"]}, z, out.features)
    return probability, total


def exact_gradient(model, params, batch):
    """Gradient of the mean over valid steps of E_A[ Δ + λ max(0, C − limit) ]."""
    steps, streams = batch.mask.shape
    every = sequences(model.net, steps)

    def expected(params):
        total = jnp.float64(0)
        for b in range(streams):
            p, value = jax.vmap(lambda g, b=b: sequence_value(model, params, batch, b, g))(every)
            total += jnp.sum(p * value)
        return total / batch.mask.sum()

    return jax.jit(jax.grad(expected))(params)


def expected_update_gradient(monkeypatch, model, params, batch, objective):
    """E[ gradient of the library's loss ] over all sequences of all samples of all streams."""
    steps, streams = batch.mask.shape
    every, samples = sequences(model.net, steps), objective.score.samples
    index = np.array(list(itertools.product(range(len(every)), repeat=samples * streams)))
    state = objective.score.estimator.init()
    budget = Budget(jnp.float64(LAMBDA), jnp.float64(LIMIT))
    key = jax.random.key(0)

    def gradient(choice):
        forced = jnp.moveaxis(every[choice.reshape(samples, streams)], 1, 2)  # [M, T, B, E]

        def forced_unroll(
            model,
            params,
            carry,
            features,
            sample_key,
            *,
            policy=None,
            **rest,
        ):
            # Which of the M rollouts this is, told by its key.
            keys = jax.random.key_data(jax.random.split(key, samples))
            mine = (keys == jax.random.key_data(sample_key)[None]).all(-1)
            gates = forced[jnp.argmax(mine)]
            return unroll(model, params, carry, features, sample_key, policy=policy, gates=gates)

        def scalar(params):
            with monkeypatch.context() as patch:
                patch.setattr(rollouts, "unroll", forced_unroll)
                return loss.make_loss(model, objective)(params, state, batch, key, budget)[0]

        return jax.grad(scalar)(params)

    def weight(choice):
        p = [
            sequence_value(model, params, batch, i % streams, every[choice[i]])[0]
            for i in range(samples * streams)
        ]
        return functools.reduce(jnp.multiply, p)

    weights = jax.jit(jax.vmap(weight))(index)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-10)
    grads = jax.jit(jax.vmap(gradient))(index)
    return jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), grads)


def assert_same(got, expected, tolerance):
    for (path, b), a in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True
    ):
        scale = max(float(np.abs(b).max()), 1e-3)
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0, err_msg=str(path))


# The price passes through single precision, so agreement is to some 1e-8.
TIGHT = 1e-6


def test_stream_gradient_unbiased_by_enumeration(monkeypatch, x64):
    """3 gates × 3 steps: all 512 sequences; controller, gate head and weights."""
    model, params, batch = double_problem(stream_net(), batch=1, steps=3)
    exact = exact_gradient(model, params, batch)
    assert len(sequences(model.net, 3)) == 512
    objective = Objective(Price(COST), Score(no_baseline()))
    got = expected_update_gradient(monkeypatch, model, params, batch, objective)
    assert_same(got, exact, TIGHT)
    for part in ("cell", "head"):
        largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(exact["controller"][part]))
        assert largest > 1e-2


@pytest.mark.slow
def test_batch_mean_unbiased_by_enumeration_of_pairs(monkeypatch, x64):
    """2 gates × 2 steps × 2 streams, the second with a padded step: all 256 pairs."""
    net = stream_net(shortcut_gates=False)
    model, params, batch = double_problem(net, batch=2, steps=2)
    assert net.gated == (0, 2)
    exact = exact_gradient(model, params, batch)
    for baseline in (batch_mean(), no_baseline()):
        cost = costs.custom(net, black_box, black_box=True)
        objective = Objective(Price(cost), Score(baseline))
        got = expected_update_gradient(monkeypatch, model, params, batch, objective)
        assert_same(got, exact, TIGHT)


def test_leave_one_out_unbiased_by_enumeration_of_pairs(monkeypatch, x64):
    """2 gates × 2 steps × 2 samples of one stream: all 256 pairs."""
    net = stream_net(shortcut_gates=False)
    model, params, batch = double_problem(net, batch=1, steps=2)
    exact = exact_gradient(model, params, batch)
    cost = costs.custom(net, black_box, black_box=True)
    for baseline in (leave_one_out(), batch_mean()):
        objective = Objective(Price(cost), Score(baseline, samples=2))
        got = expected_update_gradient(monkeypatch, model, params, batch, objective)
        assert_same(got, exact, TIGHT)


@pytest.mark.slow
def test_discount_zero_is_biased(monkeypatch, x64):
    """γ = 0, the authors' default, leaves out what a gate does to later steps."""
    model, params, batch = double_problem(stream_net(), batch=1, steps=3)
    exact = exact_gradient(model, params, batch)
    objective = Objective(Price(COST), Score(no_baseline(), discount=0.0))
    got = expected_update_gradient(monkeypatch, model, params, batch, objective)
    assert relative_error(got["controller"], exact["controller"]) > 0.01
    # One step has no later one: γ does not matter.
    model, params, batch = double_problem(stream_net(), batch=1, steps=1)
    exact = exact_gradient(model, params, batch)
    got = expected_update_gradient(monkeypatch, model, params, batch, objective)
    assert_same(got, exact, TIGHT)
