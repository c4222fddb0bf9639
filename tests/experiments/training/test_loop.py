import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, Hooks, TrainConfig, override
from experiments.config.build import build_training, target_of
from experiments.training import steps
from experiments.training.groups import summarize
from experiments.training.loop import size
from experiments.training.run_log import thin_front
from experiments.training.steps import make_train_steps
from sanas_jax import spaces
from sanas_jax.training import Batch


def point(step, macs, accuracy):
    return {"step": step, "macs_per_frame": macs, "frame_accuracy": accuracy}


def test_the_size_of_a_network_is_that_of_its_edges():
    net = spaces.tc_resnet(num_classes=12)
    assert size(net) == "6 edges with 65,168 parameters, 1.563M MACs if all are on"


def test_thin_front_drops_dominated_points():
    kept = thin_front([point(1, 10, 0.5), point(2, 8, 0.6), point(3, 9, 0.55)], 5)
    assert kept == [point(2, 8, 0.6)]


def test_thin_front_keeps_the_later_of_two_equals():
    assert thin_front([point(1, 10, 0.5), point(2, 10, 0.5)], 5) == [point(2, 10, 0.5)]


def test_thin_front_beyond_size_drops_the_smallest_gain_but_not_the_best():
    points = [point(1, 1, 0.1), point(2, 2, 0.5), point(3, 3, 0.51), point(4, 4, 0.9)]
    assert [p["step"] for p in thin_front(points, 3)] == [1, 2, 4]
    assert [p["step"] for p in thin_front(points, 1)] == [4]


def test_summarize_weighs_frames_not_batches():
    def batch(loss, silent, spoken):
        """`silent` frames run edge a (10 MACs), `spoken` frames run a and b (5 MACs)."""
        return {
            "loss": np.float32(loss),
            "live_by_label": np.array([[silent, 0], [spoken, spoken]], np.float32),
            "cost": np.float32(0.5),
            "steps_by_label": np.array([silent, spoken], np.float32),
        }

    out = summarize([batch(1, 3, 1), batch(2, 0, 4)], ("hush", "word"), {"a": 10, "b": 5}, 7)
    assert out["loss"] == 1.5
    assert out["macs_per_frame"] == pytest.approx((3 * 10 + 5 * 15) / 8)
    assert out["macs_per_frame_with_controller"] == pytest.approx((3 * 10 + 5 * 15) / 8 + 7)
    assert out["macs_per_frame_by_label"] == {"hush": 10, "word": 15}
    assert out["gate_usage"] == {"a": 1, "b": pytest.approx(5 / 8)}


def test_ramp_approaches_a_budget_geometrically(monkeypatch):
    """The cost asked for goes from the whole network's to the budget; λ sees it at every step."""
    asked = []

    def member_update(member, batch, key, target):
        return member, {"cost": target.cost, "cost_weight": target.cost_weight}

    monkeypatch.setattr(
        "experiments.training.steps.make_member_update", lambda update: member_update
    )
    config = override(
        Config(), ["train.budget=0.64", "train.budget_ramp_steps=4", "model.maps=2,2"]
    )
    built = build_training(config, 4, Hooks())
    targets = jax.tree.map(lambda leaf: leaf[None], target_of(config, built))
    train_steps = make_train_steps(config, built, None)
    for number in (0, 2, 4, 9):
        keys = jax.random.split(jax.random.key(0), 1)
        steps, members = np.array([number], np.int32), jnp.zeros(1)
        _, metrics = train_steps(members, jnp.zeros((1, 1)), keys, targets, steps)
        assert members.is_deleted()  # donated: a sweep's members are too large to be there twice
        asked.append(float(metrics["cost"][0, 0]))
    np.testing.assert_allclose(asked, [1.0, 0.8, 0.64, 0.64], rtol=1e-6)


def test_prices_change_once_along_some_streams():
    train = TrainConfig(batch_size=2000, cost_weight_range=(0.05, 2.0))
    key, lengths = jax.random.key(3), np.arange(2000) % 6 + 1
    mask = jnp.asarray(np.arange(6)[:, None] < lengths)

    def prices(share):
        return steps._prices(dataclasses.replace(train, cost_weight_changes=share), key, mask)

    for found in (prices(0.0), prices(0.3)):
        assert (found >= 0.05 * 0.999).all()
        assert (found <= 2 * 1.001).all()
        # Log-uniform: half of the streams begin below the geometric mean.
        assert 0.45 < (found.reshape(-1, 2000)[0] < 0.1**0.5).mean() < 0.55
    assert prices(0.0).shape == (2000,)
    some, longer = prices(0.3), lengths > 1
    changed = np.diff(some, axis=0) != 0
    assert set(changed.sum(0)) == {0, 1}
    assert 0.26 < changed.any(0)[longer].mean() < 0.34
    changing = changed.any(0) & longer
    assert (changed.argmax(0)[changing] + 1 < lengths[changing]).all(), "at steps that count"
    assert (changed[:, lengths == 6].sum(1) > 8).all(), "at every step but the first"
    first, then = (np.log(some[t][changing]) for t in (0, -1))
    assert abs(np.corrcoef(first, then)[0, 1]) < 0.15
    assert (np.diff(prices(1.0), axis=0) != 0).any(0)[longer].all()


def test_training_is_told_the_prices_of_steps(monkeypatch):
    seen = []

    def member_update(member, batch, key, target):
        seen.append(target.cost_weight.shape)
        return member, {"cost_weight": target.cost_weight.mean()}

    monkeypatch.setattr(
        "experiments.training.steps.make_member_update", lambda update: member_update
    )
    fields = ["model.conditioned=true", "train.cost_weight_changes=0.5", "train.batch_size=4"]
    config = override(Config(), [*fields, "model.maps=2,2"])
    built = build_training(config, 4, Hooks())
    targets = jax.tree.map(lambda leaf: leaf[None], target_of(config, built))
    mask = jnp.ones((1, 3, 4), bool)
    batches = Batch(jnp.zeros((1, 4, 7)), mask.astype(int), mask)
    keys = jax.random.split(jax.random.key(0), 1)
    numbers = np.array([0], np.int32)
    make_train_steps(config, built, None)(jnp.zeros(1), batches, keys, targets, numbers)
    assert seen == [(3, 4)]


def test_prices_cannot_change_where_none_is_told_or_nothing_streams():
    changes = ["train.cost_weight_changes=0.5"]
    with pytest.raises(ValueError, match=r"cost_weight_changes': expected 0, or model.conditioned"):
        build_training(override(Config(), changes), 4, Hooks())
    told = override(Config(), [*changes, "model.conditioned=true", "model.family=fabric"])
    with pytest.raises(ValueError, match=r"cost_weight_changes': expected 0 for images"):
        build_training(told, 4, Hooks(), (8, 8, 1))
