"""Terms of a step's loss by hand, and what a loss refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Identity
from sanas_jax.costs.incremental import incremental_macs
from sanas_jax.estimators import disarm
from sanas_jax.graph import Edge, Net
from sanas_jax.rollout import Sanas
from sanas_jax.training import Batch, Budget, Objective, Price, Score
from sanas_jax.training.loss import check_mask, distances, make_loss, price_of, repeat
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


def test_price_by_hand():
    """λ max(cost − limit, 0), a fine where nothing is on; a price for each stream or for all."""
    gates = jnp.array([[[1, 1], [0, 0], [1, 1], [1, 0]]])  # two samples of two streams
    price = Price(lambda g: 2.0 * g.sum(-1), invalid=lambda g: 1.0 * (g.sum(-1) == 0))
    fined = Price(price.cost, invalid=price.invalid, invalid_penalty=5.0)
    each, limit = jnp.array([1.0, 10.0]), jnp.float32(1)
    got = [price_of(p, gates, Budget(each, limit)).tolist() for p in (price, fined)]
    assert got == [[[3, 0, 30, 10]], [[3, 5, 30, 10]]]
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


def test_a_mask_of_the_other_kind_is_refused():
    streams = Batch(None, None, jnp.ones((3, 2), bool))
    inputs = Batch(None, None, jnp.ones(2, bool))
    check_mask(streams, True)
    check_mask(inputs, False)
    with pytest.raises(ValueError, match=r"expected shape \[T, B\] of streams, got \(2,\)"):
        check_mask(inputs, True)
    with pytest.raises(ValueError, match=r"expected shape \[B\] of inputs .* got \(3, 2\)"):
        check_mask(streams, False)
