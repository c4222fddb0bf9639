"""One optimiser step: compiled once, vmapped over budgets, masked, donated, reproducible."""

import dataclasses
import functools
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs
from sanas_jax.controller import Controller
from sanas_jax.estimators import leave_one_out
from sanas_jax.forward import forward
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    TrainState,
    init_state,
    make_evaluate,
    make_update,
)
from sanas_jax.training.loss import Aux
from sanas_jax.training.optimizer import make_optimizer
from sanas_jax.training.terms import abs_penalty, cross_entropy
from tests.helpers.nets import dag, relative_error, stream_net

pytestmark = pytest.mark.usefixtures("strict")

NET = stream_net()
CELL = nn.GRUCell(3)
MODEL = Sanas(NET, Controller(CELL), hop=2)


def single_batch(steps=4, streams=6, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((streams, 6 + 2 * (steps - 1), 1, 1)).astype(np.float32)
    labels = rng.integers(0, 3, (steps, streams))
    return Batch(jnp.asarray(features), jnp.asarray(labels), jnp.ones((steps, streams), bool))


def budget(weight=0.1, limit=0.0):
    return Budget(jnp.float32(weight), jnp.float32(limit))


OPTIMIZER = make_optimizer(1e-2)
OBJECTIVE = Objective(Price(costs.relative(NET, costs.macs(NET))))


@pytest.fixture(scope="module")
def update():
    return jax.jit(make_update(MODEL, OPTIMIZER, OBJECTIVE))


@functools.cache
def initial(seed, objective, optimizer):
    return init_state(MODEL, optimizer, objective, jax.random.key(seed))


def fresh_state(seed=0, objective=OBJECTIVE, optimizer=OPTIMIZER):
    """A state of its own for each test: some are changed or donated."""
    return jax.tree.map(jnp.copy, initial(seed, objective, optimizer))


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_update_is_compiled_once():
    compilations = []

    def counted(*arguments):
        compilations.append(1)
        return make_update(MODEL, OPTIMIZER, OBJECTIVE)(*arguments)

    jitted = jax.jit(counted)
    state = fresh_state()
    for number, weight in enumerate((0.0, 0.1, 7.0)):
        state, metrics = jitted(
            state, single_batch(seed=number), jax.random.key(number), budget(weight, 0.2 * weight)
        )
    assert len(compilations) == 1
    assert jitted._cache_size() == 1
    assert int(state.step) == 3
    assert all(np.isfinite(np.asarray(m)).all() for m in metrics.values())


@pytest.mark.slow
def test_update_vmaps_over_budgets(update):
    weights = jnp.array([0.0, 0.3, 3.0])
    budgets = Budget(weights, jnp.array([0.0, 0.5, 0.1]))
    state, batch, key = fresh_state(), single_batch(), jax.random.key(1)
    together, metrics = jax.jit(
        jax.vmap(make_update(MODEL, OPTIMIZER, OBJECTIVE), in_axes=(None, None, None, 0))
    )(state, batch, key, budgets)
    for row in range(3):
        one, one_metrics = update(state, batch, key, jax.tree.map(lambda a, r=row: a[r], budgets))
        got = jax.tree.map(lambda leaf, r=row: leaf[r], (together.params, metrics["objective"]))
        for a, b in zip(
            jax.tree.leaves(got),
            jax.tree.leaves((one.params, one_metrics["objective"])),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    assert len(np.unique(np.asarray(metrics["objective"]))) == 3


@pytest.mark.slow
def test_update_donates_its_state(update):
    donating = jax.jit(make_update(MODEL, OPTIMIZER, OBJECTIVE), donate_argnums=0)
    batch, key = single_batch(), jax.random.key(1)
    expected, _ = update(fresh_state(), batch, key, budget())
    state = fresh_state()
    got, _ = donating(state, batch, key, budget())
    assert_trees_equal(got, expected)
    again, _ = donating(got, batch, key, budget())
    assert int(again.step) == 2


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (989, 0.9)])
def test_a_step_by_hand(monkeypatch, step, decay):
    """w ← w − rate · ∂loss; statistics as the loss gives them; an average with a longer memory."""

    def loss(params, estimator_state, batch, key, budget):
        assert set(params) == {"net", "stats"}
        assert jax.config.jax_default_matmul_precision == "float32"
        aux = Aux(estimator_state + 2, params["stats"] + 4, {"loss": budget})
        return 3 * params["net"] + 7 * params["stats"], aux

    module = importlib.import_module("sanas_jax.training.update")
    monkeypatch.setattr(module, "make_loss", lambda *arguments: loss)
    objective = dataclasses.replace(OBJECTIVE, average_decay=0.9, precision="float32")
    optimizer = optax.sgd(0.5)
    params, average = (
        {"net": jnp.float32(x), "stats": jnp.float32(y)} for x, y in ((2, 5), (1, 1))
    )
    state = TrainState(jnp.int32(step), params, optimizer.init(2.0), 6, average)
    new, metrics = make_update(MODEL, optimizer, objective)(state, None, None, 11)
    assert (int(new.step), new.estimator_state) == (step + 1, 8)
    assert (float(new.params["net"]), float(new.params["stats"])) == (0.5, 9.0)
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 11, "grad_norm": 3}
    for name, value in (("net", 0.5), ("stats", 9.0)):
        expected = decay + (1 - decay) * value
        assert float(new.average[name]) == pytest.approx(expected, rel=1e-5)
    assert new.deployed is new.average


def test_update_is_reproducible_and_seeds_matter(update):
    batch = single_batch()
    runs = [
        update(fresh_state(s), batch, jax.random.key(k), budget())[0]
        for s, k in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert_trees_equal(runs[0], runs[1])
    for other in runs[2:]:
        kernel = other.params["controller"]["head"]["kernel"]
        assert (kernel != runs[0].params["controller"]["head"]["kernel"]).any()


def test_padding_has_no_influence(update):
    """What stands in padded steps, features and labels, changes neither weights nor metrics."""
    batch, key = single_batch(steps=4, streams=3), jax.random.key(3)
    mask = np.ones((4, 3), bool)
    mask[2:, 1] = False  # stream 1 ends after two steps: its windows end at frame 6 + 2
    padded = batch._replace(mask=jnp.asarray(mask))
    other = padded._replace(
        features=batch.features.at[1, 8:].set(50.0), labels=batch.labels.at[2:, 1].set(-7)
    )
    first, metrics = update(fresh_state(), padded, key, budget(0.5))
    second, other_metrics = update(fresh_state(), other, key, budget(0.5))
    assert_trees_equal(first.params, second.params)
    for name, value in metrics.items():
        np.testing.assert_allclose(value, other_metrics[name], rtol=1e-6, err_msg=name)
    # And valid steps do have an influence.
    third, _ = update(fresh_state(), batch, key, budget(0.5))
    assert relative_error(third.params, first.params) > 1e-4


def test_padded_streams_alone_change_nothing(update):
    batch = single_batch(streams=3)
    nothing = batch._replace(mask=jnp.zeros_like(batch.mask))
    state, metrics = update(fresh_state(), nothing, jax.random.key(0), budget())
    assert float(metrics["grad_norm"]) == 0
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state.params))


def test_weight_decay_only_on_net_weights():
    """With no gradient L2 alone moves a weight, by Adam's first step of −rate · sign(weight)."""
    optimizer = make_optimizer(1e-2, weight_decay=1e-3)
    params = {"net": jnp.array([2.0, -3.0]), "controller": jnp.array([2.0, -3.0])}
    state = optimizer.init(params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    np.testing.assert_allclose(updates["net"], [-1e-2, 1e-2], rtol=1e-4)
    np.testing.assert_array_equal(updates["controller"], [0.0, 0.0])


def test_optimizer_groups_by_hand():
    optimizer = make_optimizer(
        0.1, controller_learning_rate=0.2, weight_decay=0.0, max_grad_norm=1.0
    )
    params = {"net": jnp.array([0.0, 0.0]), "controller": jnp.array([0.0])}
    grads = {"net": jnp.array([3.0, -4.0]), "controller": jnp.array([0.5])}
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    # Adam's first step is −rate · sign, whatever the size.
    np.testing.assert_allclose(updates["net"], [-0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(updates["controller"], [-0.2], rtol=1e-4)
    # Clipped per group: the second moments are 0.001 · g² of g = (0.6, −0.8) and g = 0.5.
    moments = [np.asarray(s.nu["net"]) for s in adam_states(state) if "net" in s.nu]
    found = [m for m in moments if getattr(m, "shape", None) == (2,)]
    np.testing.assert_allclose(found[0], [0.36e-3, 0.64e-3], rtol=1e-4)


def adam_states(state):
    """All Adam states inside an optimiser's state."""
    is_adam = lambda s: isinstance(s, optax.ScaleByAdamState)  # noqa: E731
    return [s for s in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(s)]


@pytest.mark.slow
def test_static_training_is_cross_entropy_with_all_gates_on():
    objective = Objective(Price(costs.macs(NET)), static=True)
    optimizer = make_optimizer(1e-2, weight_decay=0.0)
    batch = single_batch()
    batch = batch._replace(mask=batch.mask.at[3, 0].set(False))
    state = fresh_state(objective=objective, optimizer=optimizer)

    def loss(net_params):
        total = 0.0
        for t in range(4):
            out = forward(NET, net_params, jnp.ones(4), batch.features[:, 2 * t : 2 * t + 6])
            ce = cross_entropy(out.logits, batch.labels[t])
            total += jnp.sum(ce * batch.mask[t])
        return total / 23

    value, grads = jax.value_and_grad(loss)(state.params["net"])
    new, metrics = jax.jit(make_update(MODEL, optimizer, objective))(
        state, batch, jax.random.key(0), budget(100.0)
    )
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)
    assert float(metrics["cost"]) == 58.0  # all edges: 24 + 12 + 16 + 6
    assert_trees_equal(new.params["controller"], state.params["controller"])


def rollout_of(state, batch, key, sample=0, samples=1):
    """The rollout that an update with this key makes for one of its samples."""
    sample_key = jax.random.split(key, samples)[sample]
    carry = init_carry(MODEL, batch.features.shape[0])
    return unroll(MODEL, state.params, carry, batch.features, sample_key)[1]


def test_samples_are_independent_rollouts_of_the_same_streams():
    state, batch, key = fresh_state(), single_batch(), jax.random.key(2)
    batch = batch._replace(mask=batch.mask.at[3, 2].set(False))
    objective = Objective(OBJECTIVE.price, Score(leave_one_out(), samples=3))
    _, metrics = jax.jit(make_update(MODEL, OPTIMIZER, objective))(state, batch, key, budget())
    mask = np.asarray(batch.mask)
    rollouts = [rollout_of(state, batch, key, m, 3) for m in range(3)]
    losses = [np.asarray(cross_entropy(r.logits, batch.labels))[mask] for r in rollouts]
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    spent = [np.asarray(objective.price.cost(r.gates))[mask] for r in rollouts]
    np.testing.assert_allclose(metrics["cost"], np.mean(spent), rtol=1e-5)
    assert float(metrics["confusion"].sum()) == 3 * mask.sum()
    assert (rollouts[0].gates != rollouts[1].gates).any()


def test_leave_one_out_needs_two_samples():
    run = jax.jit(make_update(MODEL, OPTIMIZER, Objective(OBJECTIVE.price, Score(leave_one_out()))))
    with pytest.raises(
        ValueError, match=r"expected returns \[..., M, B\] of at least 2.*\(4, 1, 6\)"
    ):
        run(fresh_state(), single_batch(), jax.random.key(0), budget())


def test_metrics_against_a_second_rollout(update):
    """Each metric recomputed in NumPy from the rollout of the same key."""
    batch, key = single_batch(), jax.random.key(4)
    batch = batch._replace(mask=batch.mask.at[2:, 1].set(False))
    state = fresh_state()
    _, metrics = update(state, batch, key, budget(0.5, 0.3))
    outs = rollout_of(state, batch, key)
    mask, labels = np.asarray(batch.mask), np.asarray(batch.labels)
    logits = np.asarray(outs.logits, np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ce = -np.take_along_axis(logp, labels[..., None], -1)[..., 0]
    cost = np.asarray(outs.live) @ np.array([24, 12, 16, 6]) / 58
    predictions = logits.argmax(-1)
    p = np.asarray(outs.gamma.probs, np.float64)
    entropy = -(p * np.log(p) + (1 - p) * np.log(np.where(p < 1, 1 - p, 1))).sum(-1)
    expected = {
        "loss": ce[mask].mean(),
        "cost": cost[mask].mean(),
        "objective": (ce + 0.5 * np.maximum(cost - 0.3, 0))[mask].mean(),
        "frame_accuracy": (predictions == labels)[mask].mean(),
        "entropy": entropy[mask].mean(),
        "gate_probability": p.mean(-1)[mask].mean(),
        "confusion": np.array(
            [[((labels == a) & (predictions == b))[mask].sum() for b in range(3)] for a in range(3)]
        ),
        "steps_by_label": np.array([(mask & (labels == a)).sum() for a in range(3)]),
        "live_by_label": np.array(
            [np.asarray(outs.live)[mask & (labels == a)].sum(0) for a in range(3)]
        ),
    }
    assert set(metrics) == set(expected) | {"grad_norm"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_architectures_that_reach_nothing_pay_a_penalty():
    batch = single_batch()
    invalid = costs.inconsistent(NET)
    objectives = [
        Objective(Price(OBJECTIVE.price.cost, invalid=invalid, invalid_penalty=p))
        for p in (0.0, 2.0)
    ]

    def objective(objective, bias):
        state = fresh_state(objective=objective)
        head = state.params["controller"]["head"]
        head["bias"] = jnp.full_like(head["bias"], bias)
        update = jax.jit(make_update(MODEL, OPTIMIZER, objective))
        return float(update(state, batch, jax.random.key(0), budget(0.5))[1]["objective"])

    dead = [objective(o, -60.0) for o in objectives]
    assert dead[1] - dead[0] == pytest.approx(2.0, rel=1e-5)
    alive = [objective(o, 60.0) for o in objectives]
    assert alive[1] == pytest.approx(alive[0])


def test_evaluate_runs_the_most_probable_architecture():
    state, batch = fresh_state(), single_batch()
    bias = jnp.array([3.0, -3.0, 3.0])
    state.params["controller"]["head"]["bias"] = bias
    state.params["controller"]["head"]["kernel"] *= 0
    metrics = jax.jit(make_evaluate(MODEL, OBJECTIVE))(state.params, batch)
    assert float(metrics["cost"]) == pytest.approx((24 + 16 + 6) / 58)
    static = make_evaluate(MODEL, Objective(OBJECTIVE.price, static=True))
    assert float(static(state.params, batch)["cost"]) == 1.0


@pytest.mark.slow
def test_penalty_class_weights_and_entropy_enter_the_objective():
    batch, key, state = single_batch(), jax.random.key(0), fresh_state()
    weights = jnp.array([0.5, 2.0, 1.0])
    price = Price(OBJECTIVE.price.cost, abs_penalty)
    objective = Objective(price, Score(entropy_weight=0.3))
    _, metrics = jax.jit(make_update(MODEL, OPTIMIZER, objective, weights))(
        state, batch, key, budget(2.0, 0.9)
    )
    outs = rollout_of(state, batch, key)
    ce = cross_entropy(outs.logits, batch.labels, weights)
    paid = 2.0 * jnp.abs(OBJECTIVE.price.cost(outs.gates) - 0.9)
    assert float(metrics["objective"]) == pytest.approx(float((ce + paid).mean()), rel=1e-5)
    # The bonus has a gradient.
    plain = jax.jit(make_update(MODEL, OPTIMIZER, Objective(price), weights))
    _, without = plain(state, batch, key, budget(2.0, 0.9))
    assert float(metrics["grad_norm"]) != float(without["grad_norm"])


@pytest.mark.slow
def test_training_finds_the_cheap_answer():
    """The label can be read from the shortcut: with a price, the convolution is switched off."""
    rng = np.random.default_rng(0)
    optimizer = make_optimizer(3e-2, weight_decay=0.0)
    run = jax.jit(make_update(MODEL, optimizer, OBJECTIVE), donate_argnums=0)
    state = fresh_state(optimizer=optimizer)
    costs_seen, losses = [], []
    for number in range(150):
        features = rng.standard_normal((32, 8, 1, 1)).astype(np.float32)
        steps = np.stack([features[:, 0:6, 0, 0], features[:, 2:8, 0, 0]])
        labels = (steps[..., 0] > 0).astype(np.int32)
        batch = Batch(jnp.asarray(features), jnp.asarray(labels), jnp.ones((2, 32), bool))
        state, metrics = run(
            state, batch, jax.random.fold_in(jax.random.key(0), number), budget(1.0)
        )
        costs_seen.append(float(metrics["cost"]))
        losses.append(float(metrics["loss"]))
    assert np.mean(costs_seen[:5]) > 0.8
    # shortcut and classifier alone: 18 of 58.
    assert np.mean(costs_seen[-10:]) < 0.5
    assert np.mean(losses[-10:]) < 0.6 * np.log(3)


@pytest.mark.slow
def test_net_of_dense_layers_trains_too():
    """A net without time in its blocks: inputs of one frame."""
    net = dag([(0, 1), (1, 2), (0, 2)], 3, features=1, width=3)
    # One frame of 3 numbers needs a time axis.
    assert net.input_shape == (3,)
    model = Sanas(net, Controller(nn.GRUCell(3)), hop=1)
    objective = Objective(Price(costs.params(net)))
    state = init_state(model, OPTIMIZER, objective, jax.random.key(0))
    batch = Batch(jnp.ones((2, 5)), jnp.zeros((3, 2), int), jnp.ones((3, 2), bool))
    run = jax.jit(make_update(model, OPTIMIZER, objective))
    _, metrics = run(state, batch, jax.random.key(0), budget())
    assert float(metrics["grad_norm"]) > 0
