"""From the times of steps to those of a plan: by hand."""

from pathlib import Path

import pytest

from experiments.replication.estimate import (
    Rate,
    estimate_lines,
    read_estimate,
    seconds_of,
    spoken,
    total,
    write_estimate,
)
from experiments.replication.plan import NETWORKS, Setup, plan

SETUP = Setup("small", 1, Path("here"), Path("here/cache"))
RATE = Rate(start=10, step=0.25, validation=2, hour=9, steps=1500, validations=15)
RATES = dict.fromkeys(NETWORKS, RATE)


def step(name):
    return next(s for s in plan(SETUP) if s.name == name)


def test_a_training_takes_its_start_its_steps_and_its_validations():
    assert RATE.seconds == 10 + 375 + 30
    assert seconds_of(step("static, seed 0"), SETUP, RATES) == 6 + 415


def test_an_evaluation_takes_what_its_networks_take_for_its_hours():
    hours = 3 * 20 / 60
    rows = 15  # three without a price, six prices, six told
    assert seconds_of(step("protocol, seed 0"), SETUP, RATES) == 6 + hours * rows * 9
    hours = 2 * 20 / 60
    assert seconds_of(step("detectors, seed 0"), SETUP, RATES) == pytest.approx(
        6 + hours * (rows * 9 + rows * 10)
    )


def test_slower_steps_take_longer_in_all():
    slow = RATES | {"sanas": Rate(10, 1.25, 2, 9, 1500, 15)}
    steps = plan(SETUP)
    assert total(steps, SETUP, slow) - total(steps, SETUP, RATES) == pytest.approx(1500)


def test_lines_say_the_sum_and_its_parts():
    lines = estimate_lines([step("static, seed 0"), step("report")], SETUP, "1 x cpu", RATES)
    assert lines[0].startswith("about 8 min on 1 x cpu")  # 421 + 36 s
    assert lines[1:] == [
        "  training static: 7 min, 0.25 s a step",
        "  streams, detectors, clips, report: 36 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4 s"), (89, "89 s"), (3599, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_times_are_spoken(seconds, text):
    assert spoken(seconds) == text


def test_what_was_measured_is_read_back(tmp_path):
    write_estimate(tmp_path / "e.json", "1 x cpu", RATES)
    assert read_estimate(tmp_path / "e.json") == ("1 x cpu", RATES)
    (tmp_path / "e.json").write_text('{"device": "cpu", "rates": {"chain": {"step": 1}}}')
    with pytest.raises(ValueError, match=r"e\.json: expected what --estimate measured"):
        read_estimate(tmp_path / "e.json")
