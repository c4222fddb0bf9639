"""Reading runs: times, verdicts, usage of the gates, damage."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.reporting.reading import read_run, read_runs, verdicts
from experiments.reporting.run_record import gate_table
from sanas_jax.streaming.detector import Detection
from sanas_jax.streaming.scores import score_stream
from tests.helpers.runs import CALIBRATED, write_evaluation, write_run, write_sweep


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 1}'])
def test_read_run_refuses_a_damaged_evaluation(tmp_path: Path, text: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "town.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape("town.json: expected a result of evaluate")):
        read_run(tmp_path / "run", "run")


def test_read_run_puts_posteriors_in_the_middle_of_their_window(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs)
    view = read_run(tmp_path / "run", "run").evaluations["town"].view
    middle = view.times_s[0]
    assert middle == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.diff(view.times_s), 0.2)
    assert [d.outcome for d in view.detections] == ["right", "wrong", "alarm"]
    assert view.detections[0].time_s == pytest.approx(20.2 + middle)
    full, first = sum(edge_macs.values()), next(iter(edge_macs.values()))
    assert set(view.macs) == {full, full - first}


def test_read_run_judges_with_the_tolerance_of_the_evaluation(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "run", write_run(tmp_path / "run"), tolerance_ms=100)
    view = read_run(tmp_path / "run", "run").evaluations["town"].view
    assert [d.outcome for d in view.detections] == ["alarm"] * 3


def test_gate_table_is_the_mean_of_live_by_class(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    result = write_evaluation(tmp_path / "run", edge_macs)
    usage, rows, source = gate_table(read_run(tmp_path / "run", "run"))
    assert rows == ["all frames", "silence", "yes", "no"]
    assert source == "measured on town"
    np.testing.assert_allclose(usage[0], list(result["gate_usage"].values()))
    np.testing.assert_allclose(usage[1], [0] + [1] * (len(edge_macs) - 1))
    np.testing.assert_allclose(usage[2:], 1)


def test_gate_table_without_a_stream_is_the_last_validation(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    usage, rows, source = gate_table(read_run(tmp_path / "run", "run"))
    assert source == "validation at step 150, no stream yet"
    assert rows == ["all frames"]
    np.testing.assert_allclose(usage, 1 - 150 / 400)


def test_verdicts_count_as_score_stream() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = np.sort(rng.uniform(0, 20_000, 12))
        words = rng.integers(1, 4, 12)
        times, labels = np.sort(rng.uniform(0, 20_000, 15)), rng.integers(1, 4, 15)
        truth = [(str(w), float(t)) for w, t in zip(words, starts, strict=True)]
        found = [{"word": str(k), "ms": float(t)} for k, t in zip(labels, times, strict=True)]
        got = verdicts(found, truth, 750)
        score = score_stream(
            [Detection(int(k), float(t), 1.0) for k, t in zip(labels, times, strict=True)],
            [int(word) for word in words],
            [float(time) for time in starts],
            tolerance_ms=750,
        )
        assert got.count("right") == score.correct
        assert got.count("wrong") == score.wrong
        assert got.count("alarm") == score.false_alarms


def test_gate_table_of_a_conditioned_run_is_at_its_middle_price(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run", conditioned=True)
    for price in (3.0, 1.0, 2.0):
        write_evaluation(tmp_path / "run", edge_macs, cost_weight=price)
    run = read_run(tmp_path / "run", "run")
    assert list(run.by_price()) == [1, 2, 3]
    assert gate_table(run)[2] == "measured on town at λ=2"


def test_read_run_groups_by_price_and_detector(tmp_path: Path) -> None:
    """Where one detector is shown it is the calibrated one, at the prices that it was used at."""
    edge_macs = write_run(tmp_path / "run", conditioned=True)
    for price in (3.0, 1.0, 2.0):
        write_evaluation(tmp_path / "run", edge_macs, cost_weight=price)
    write_evaluation(tmp_path / "run", edge_macs, cost_weight=2.0, **CALIBRATED)
    write_evaluation(tmp_path / "run", edge_macs, cost_weight=2.0, stream="wood", **CALIBRATED)
    run = read_run(tmp_path / "run", "run")
    found = {(s.price, s.detector): len(group) for s, group in run.by_setting().items()}
    assert found == {
        (1, "default"): 1,
        (2, "default"): 1,
        (2, "calibrated"): 2,
        (3, "default"): 1,
    }
    assert {price: len(group) for price, group in run.by_price().items()} == {2: 2}
    told = "town at λ=2, calibrated, wood at λ=2, calibrated"
    assert gate_table(run)[2] == f"measured on {told}"


def test_read_runs_takes_a_sweep_for_its_members(tmp_path: Path) -> None:
    names = write_sweep(tmp_path / "S")
    write_run(tmp_path / "fixed", static=True)
    runs = read_runs([tmp_path / "fixed", tmp_path / "S", tmp_path / "S" / names[0]])
    assert [run.name for run in runs] == ["fixed", *names]
    assert [run.diverged for run in runs] == [None, None, None, "diverged at step 160: got <nan>"]
    assert runs[-1].last("training", "validation") is not None
    usage, _, source = gate_table(runs[-1])
    assert source == "validation at step 150, no stream yet"
    assert np.isfinite(usage).all()


def test_read_runs_gives_every_run_a_name_of_its_own(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    for path in paths:
        write_run(path)
    assert [run.name for run in read_runs(paths)] == list(map(str, paths))
    assert [run.name for run in read_runs(paths[1:])] == ["run", "other"]
