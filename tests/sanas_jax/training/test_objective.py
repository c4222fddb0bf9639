"""What an objective is by itself, and what it refuses."""

import dataclasses
from functools import partial

import jax.numpy as jnp
import pytest

from sanas_jax.estimators import disarm
from sanas_jax.training import Objective, Price, Score, Teach

PRICE = Price(lambda gates: gates.sum(-1))


def test_nothing_is_added_unasked():
    assert (PRICE.invalid, PRICE.invalid_penalty, PRICE.reported) == (None, 0, ())
    score, teach, whole = Score(), Teach(), Objective(PRICE)
    assert (score.samples, score.discount, score.entropy_weight) == (1, 1, 0)
    assert not score.estimator.paired
    assert (teach.full_weight, teach.distill_weight, teach.label_smoothing) == (0, 0, 0)
    assert (whole.average_decay, whole.precision, whole.dtype) == (0, "default", None)
    assert (whole.static, whole.remat, whole.measure_mode) == (False, False, False)


@pytest.mark.parametrize("part", [PRICE, Score(disarm(), discount=0), Teach(), Objective(PRICE)])
def test_what_is_static_is_hashed_and_never_changed(part):
    assert hash(part) == hash(dataclasses.replace(part))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize("weight", ["full_weight", "distill_weight"])
def test_the_whole_network_runs_where_it_learns_or_teaches(weight):
    assert not Teach().by_whole
    assert Teach(**{weight: 0.1}).by_whole


def test_ends_of_ranges():
    for discount in (0, 1):
        assert Score(discount=discount).discount == discount
    for discount in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"discount: expected 0 to 1, got {discount}"):
            Score(discount=discount)
    for weight in (0, 1):
        assert Teach(teacher_weight=weight).teacher_weight == weight
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"teacher_weight: expected 0 to 1, got {weight}"):
            Teach(teacher_weight=weight)
    assert Teach(label_smoothing=0.9, full_weight=1e6).label_smoothing == 0.9
    objective = partial(Objective, PRICE)
    for kind, name in ((Teach, "label_smoothing"), (objective, "average_decay")):
        with pytest.raises(ValueError, match=f"{name}: expected 0 to less than 1, got 1"):
            kind(**{name: 1})
    with pytest.raises(ValueError, match="full_weight: expected 0 or more, got inf"):
        Teach(full_weight=float("inf"))


def test_disarm_credits_a_step_with_itself_alone():
    assert Score(disarm(), discount=0).estimator.paired
    with pytest.raises(ValueError, match=r"disarm .* expected discount 0, got 0.5"):
        Score(disarm(), discount=0.5)


def test_precision_by_name():
    assert Objective(PRICE, precision="bfloat16").dtype == jnp.bfloat16
    assert Objective(PRICE, precision="float32").dtype is None
    with pytest.raises(ValueError, match=r"precision: expected one of \[.*'tf32'\], got 'half'"):
        Objective(PRICE, precision="half")
