"""Terms of a step's loss by hand, and what a loss refuses."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Identity
from sanas_jax.costs.incremental import incremental_macs
from sanas_jax.estimators import disarm, no_baseline
from sanas_jax.gates import Gamma
from sanas_jax.graph import Edge, Net
from sanas_jax.rollout import Sanas, Step
from sanas_jax.training import Batch, Budget, Objective, Price, Score, Teach
from sanas_jax.training.loss import check_mask, distances, make_loss, price_of, repeat
from sanas_jax.training.rollouts import Rollouts
from tests.helpers.nets import stream_net

NET = stream_net()
PAIRED = Score(disarm(), discount=0.0)


@pytest.mark.parametrize("streams", [2, 3])
def test_distances_of_segmentations_are_means_over_labelled_positions(streams):
    """As many streams as columns, or fewer: axes of positions are not taken for others."""
    keys = jax.random.split(jax.random.key(0), 3)
    whole = jax.random.normal(keys[0], (1, streams, 4, 3, 5))
    logits = jax.random.normal(keys[1], (1, 2 * streams, 4, 3, 5))
    labels = jax.random.randint(keys[2], (1, streams, 4, 3), -1, 5)
    labels = labels.at[0, 0].set(-1).at[0, 0, 2, 1].set(0)  # one position alone
    got = distances(whole, logits, labels, 1)
    assert got.shape == (1, 2, streams)
    p = np.asarray(jax.nn.softmax(whole), np.float64)
    q = np.asarray(jax.nn.softmax(logits), np.float64)
    samples = 2
    for m in range(samples):
        for b in range(streams):
            apart = (p[0, b] * np.log(p[0, b] / q[0, b * samples + m])).sum(-1)
            expected = apart[np.asarray(labels[0, b]) >= 0].mean()
            assert float(got[0, m, b]) == pytest.approx(expected, rel=1e-4)


def test_disarm_is_refused_where_a_value_is_reused():
    keep = Edge("keep", "f", "f", Identity())
    net = Net(NET.input_shape, NET.layers, (*NET.edges, keep), NET.output, NET.features)
    with pytest.raises(ValueError, match=r"disarm .* a net without reuse, got \['keep'\]"):
        make_loss(Sanas(net, hop=2), Objective(Price(costs.macs(net)), PAIRED))


def test_disarm_is_refused_where_a_cost_remembers():
    price = Price(incremental_macs(NET, 2))
    with pytest.raises(ValueError, match=r"disarm .* a cost without memory"):
        make_loss(Sanas(NET, hop=2), Objective(price, PAIRED))
    make_loss(Sanas(NET, hop=2), Objective(Price(costs.macs(NET)), PAIRED))


def test_a_cost_of_steps_is_refused_where_there_are_none():
    of_steps, single = incremental_macs(NET, 2), costs.macs(NET)
    for price in (Price(of_steps), Price(single, reported=(("new rows", of_steps),))):
        with pytest.raises(ValueError, match="price: expected costs of single architectures"):
            make_loss(Sanas(NET, hop=2), Objective(price), streams=False)
    make_loss(Sanas(NET, hop=2), Objective(Price(single)), streams=False)


def rolled_out(monkeypatch, whole, logits, gates, taught=None):
    """The loss of two samples of each row, whose Γ has the logits `params`."""

    def run_samples(model, objective, params, key):
        shape = gates.shape[:-1]
        gamma = Gamma(jnp.broadcast_to(params, gates.shape))
        z = jnp.zeros((*shape, 1))
        outs = Step(logits, z, gamma, gates, gates, jnp.zeros(shape), z)
        return Rollouts(outs, whole if objective.teach.by_whole else None, None)

    module = importlib.import_module("sanas_jax.training.loss")
    monkeypatch.setattr(module, "begin", lambda model, objective, params, batch, budget: params)
    monkeypatch.setattr(module, "run_samples", run_samples)

    def loss(params, mask, **teach):
        score = Score(no_baseline(), samples=2, discount=0.5)
        objective = Objective(Price(lambda g: g.sum(-1)), score, Teach(**teach))
        run = make_loss(Sanas(NET, hop=2), objective, streams=mask.ndim == 2)
        batch = Batch(None, jnp.zeros(mask.shape, int), mask, taught=taught)
        return run(params, (), batch, jax.random.key(0), Budget(jnp.float32(1), jnp.float32(0)))[0]

    return loss


@pytest.mark.parametrize("streams", [True, False])
def test_the_score_term_by_hand(monkeypatch, streams):
    """∂φ of Σ log P(H) R / n is Σ (h − p) R / n; R is what follows along a stream, else the step's
    own."""
    rng = np.random.default_rng(0)
    gates = rng.integers(0, 2, (3, 4, 2)).astype(np.float32)
    mask = np.array([[True, True], [True, True], [True, False]])
    if not streams:
        gates, mask = gates[0], mask[2]
    wide = np.repeat(mask, 2, -1)
    paid = (np.log(3) + gates.sum(-1)) * wide  # a guess among three classes
    returns = paid.copy()
    for t in range(len(mask) - 2, -1, -1) if streams else ():
        returns[t] += 0.5 * returns[t + 1]
    expected = ((gates - 0.5) * (returns * wide)[..., None]).reshape(-1, 2).sum(0) / wide.sum()
    loss = rolled_out(monkeypatch, None, jnp.zeros((*wide.shape, 3)), jnp.asarray(gates))
    got = jax.grad(loss)(jnp.zeros(2), jnp.asarray(mask))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_what_is_taught_is_part_of_what_a_step_pays(monkeypatch):
    """Of every sample's loss, and so of the returns that its gates are credited with."""
    rng = np.random.default_rng(0)
    gates = rng.integers(0, 2, (1, 4, 2)).astype(np.float32)
    logits, mask = rng.standard_normal((1, 4, 3)), np.ones((1, 2), bool)
    taught = rng.dirichlet(np.ones(3), (1, 2))
    log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    told = -(np.repeat(taught, 2, 1) * log_prob).sum(-1)
    ce = -0.75 * log_prob[..., 0] + 0.25 * told
    arrays = (jnp.asarray(x, jnp.float32) for x in (logits, gates, taught))
    loss = rolled_out(monkeypatch, None, *arrays)
    credited = ((gates - 0.5) * (ce + gates.sum(-1))[..., None]).reshape(-1, 2).sum(0) / 4
    got = jax.grad(partial(loss, teacher_weight=0.25))(jnp.zeros(2), jnp.asarray(mask))
    np.testing.assert_allclose(got, credited, rtol=1e-5)


@pytest.mark.parametrize("streams", [True, False])
def test_what_the_whole_network_adds_by_hand(monkeypatch, streams):
    """Its own loss, and the mean over samples of what they differ from it."""
    rng = np.random.default_rng(0)
    whole, logits = rng.standard_normal((3, 2, 3)), rng.standard_normal((3, 4, 3))
    mask = np.array([[True, True], [True, True], [True, False]])
    gates = np.ones((3, 4, 2))
    if not streams:
        whole, logits, gates, mask = whole[0], logits[0], gates[0], mask[2]
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (whole, logits))
    each = (np.repeat(p, 2, -2) * np.log(np.repeat(p, 2, -2) / q)).sum(-1)
    distance = each.reshape(*mask.shape, 2).mean(-1)[mask].mean()
    own = -np.log(p[..., 0])[mask].mean()
    arrays = (jnp.asarray(x, jnp.float32) for x in (whole, logits, gates))
    loss = rolled_out(monkeypatch, *arrays)
    args = (jnp.zeros(2), jnp.asarray(mask))
    added = loss(*args, full_weight=0.25, distill_weight=0.75) - loss(*args)
    assert float(added) == pytest.approx(0.25 * own + 0.75 * distance, rel=1e-4)


def test_price_by_hand():
    """λ max(cost − limit, 0), a fine where nothing is on; a price for each stream or for all."""
    gates = jnp.array([[[1, 1], [0, 0], [1, 1], [1, 0]]])  # two samples of two streams
    price = Price(lambda g: 2.0 * g.sum(-1), invalid=lambda g: 1.0 * (g.sum(-1) == 0))
    fined = Price(price.cost, invalid=price.invalid, invalid_penalty=5.0)
    each, limit = jnp.array([1.0, 10.0]), jnp.float32(1)
    got = [price_of(p, gates, Budget(each, limit)).tolist() for p in (price, fined)]
    assert got == [[[3, 0, 30, 10]], [[3, 5, 30, 10]]]
    along = Budget(jnp.array([[1.0, 10.0], [2.0, 20.0]]), limit)
    assert price_of(price, jnp.repeat(gates, 2, 0), along).tolist() == [
        [3, 0, 30, 10],
        [6, 0, 60, 20],
    ]
    alike = Budget(jnp.float32(0.5), limit)
    assert price_of(Price(price.cost), gates, alike).tolist() == [[1.5, 0, 1.5, 0.5]]
    assert price_of(Price(price.cost, invalid_penalty=5.0), gates, alike)[0, 1] == 0


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_of_a_row_are_neighbours(weighted):
    labels, mask = jnp.array([[1, 2]]), jnp.array([[True, False]])
    batch = Batch(jnp.zeros((2, 6)), labels, mask, jnp.array([[0.5, 3]]) if weighted else None)
    wide = repeat(batch, 2)
    assert wide.labels.tolist() == [[1, 1, 2, 2]]
    assert wide.mask.tolist() == [[True, True, False, False]]
    assert wide.weight is None if not weighted else wide.weight.tolist() == [[0.5, 0.5, 3, 3]]
    assert wide.features is batch.features
    row = Batch(batch.features, labels[0], mask[0])
    assert repeat(row, 2).labels.tolist() == [1, 1, 2, 2]
    taught = jnp.array([[[0.25, 0.75], [1, 0]]])
    told = repeat(batch._replace(taught=taught), 2).taught
    assert told.tolist() == [[[0.25, 0.75], [0.25, 0.75], [1, 0], [1, 0]]]


def test_a_mask_of_the_other_kind_is_refused():
    streams = Batch(None, None, jnp.ones((3, 2), bool))
    inputs = Batch(None, None, jnp.ones(2, bool))
    check_mask(streams, True)
    check_mask(inputs, False)
    with pytest.raises(ValueError, match=r"expected shape \[T, B\] of streams, got \(2,\)"):
        check_mask(inputs, True)
    with pytest.raises(ValueError, match=r"expected shape \[B\] of inputs .* got \(3, 2\)"):
        check_mask(streams, False)
