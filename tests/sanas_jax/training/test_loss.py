"""Terms of a step's loss by hand, and what a loss refuses."""

import jax
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Identity
from sanas_jax.costs.incremental import incremental_macs
from sanas_jax.estimators import disarm
from sanas_jax.graph import Edge, Net
from sanas_jax.rollout import Sanas
from sanas_jax.training import Objective, Price, Score
from sanas_jax.training.loss import distances, make_loss
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
