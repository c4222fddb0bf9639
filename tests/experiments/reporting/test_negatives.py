"""False alarms on audio without words: in the table, the curve and the ROC."""

from pathlib import Path

import numpy as np
import pytest

from experiments.reporting.points import points_to_json
from experiments.reporting.reading import read_run
from experiments.reporting.streams.points import stream_points
from experiments.reporting.streams.roc import alarms_figure, read_rocs, roc_figure, rocs_of
from experiments.reporting.streams.tables import COLUMNS, run_rows, summary_table
from experiments.runs.stored_negatives import NegativeResult, save_negative_result
from experiments.runs.stored_results import StreamResult
from tests.helpers.runs import write_evaluation, write_run

PER_HOUR = 3 + [column.unit for column in COLUMNS].index("per hour")


def negative_result(**changes) -> NegativeResult:
    found = {
        "workdir": "run",
        "step": 150,
        "static": False,
        "cost_weight": None,
        "budget": None,
        "detector": {"kind": "default"},
        "negatives": "speech",
        "recordings": 3,
        "seconds": 7200.0,
        "alarms": 4,
        "alarms_per_hour": 2.0,
        "alarms_per_hour_low": 0.5,
        "alarms_per_hour_high": 5.1,
        "by_word": {},
        "macs_per_frame": 2000.0,
        "macs_per_frame_with_controller": 3000.0,
        "full_macs_per_frame": 4000.0,
        "roc": [
            {"threshold": threshold, "alarms_per_hour": rate}
            for threshold, rate in ((0.3, 60.0), (0.7, 2.0), (0.8, 1.0), (0.9, 0.5))
        ],
        "detections": [],
    }
    return NegativeResult(**found | changes)


@pytest.fixture
def run(tmp_path: Path):
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs)
    save_negative_result(tmp_path / "run", negative_result())
    save_negative_result(
        tmp_path / "run",
        negative_result(negatives="music", alarms=0, alarms_per_hour=0.0, alarms_per_hour_high=1.5),
    )
    return read_run(tmp_path / "run", "run")


def test_rows_stand_below_those_of_the_streams(run, tmp_path):
    stream, music, speech = run_rows(run)
    assert [row[2] for row in (stream, music, speech)] == ["town", "music, 2.0 h", "speech, 2.0 h"]
    assert speech[PER_HOUR] == "2.0 (0.5 to 5.1)"
    assert music[PER_HOUR] == "≤ 1.5"
    known = {PER_HOUR + 1: "0.002", PER_HOUR + 2: "0.003", PER_HOUR + 5: "50.0"}
    for column, text in enumerate(speech[3:], 3):
        assert column == PER_HOUR or text == known.get(column, "–")

    result = StreamResult.from_json(write_evaluation(tmp_path / "run", {"a": 4000}))
    other = negative_result(cost_weight=0.5, seconds=90.0 * 20)
    lines = summary_table([result], [negative_result(), other]).splitlines()
    assert len(lines) == 5
    assert [
        "town" in lines[2],
        "speech, 2.0 h" in lines[3],
        "λ=0.5  speech, 30 min" in lines[4],
    ] == [True] * 3


def test_points_have_the_rates_of_their_setting(run, tmp_path):
    (point,) = points_to_json(stream_points([run]))
    assert point["negatives"]["speech"] == {"per_hour": 2.0, "low": 0.5, "high": 5.1, "hours": 2.0}
    assert set(point["negatives"]) == {"speech", "music"}
    save_negative_result(tmp_path / "run", negative_result(detector={"kind": "calibrated"}))
    (point,) = stream_points([read_run(tmp_path / "run", "run")])
    assert set(point.negatives) == {"speech", "music"}


def test_points_have_no_rates_of_another_detector(tmp_path):
    told = {"kind": "calibrated", "calibrated_for": 5, "threshold": 0.8, "thresholds": []}
    write_evaluation(tmp_path / "run", write_run(tmp_path / "run"), detector=told)
    for name, detector in (
        ("same", told),
        ("another rate", told | {"calibrated_for": 20}),
        ("another threshold", told | {"threshold": 0.9}),
        ("no rate", {"kind": "calibrated", "threshold": 0.8}),
    ):
        save_negative_result(tmp_path / "run", negative_result(negatives=name, detector=detector))
    save_negative_result(
        tmp_path / "run", negative_result(negatives="another step", detector=told, step=100)
    )
    save_negative_result(
        tmp_path / "run", negative_result(negatives="same", split="validation", detector=told)
    )
    run = read_run(tmp_path / "run", "run")
    (point,) = stream_points([run])
    assert set(point.negatives) == {"same", "same, validation"}
    shown = {row[2] for row in run_rows(run)}
    assert "another rate, calibrated for 20/h, step 150, 2.0 h" in shown
    assert "another step, calibrated for 5/h, step 100, 2.0 h" in shown
    assert "same, validation, calibrated for 5/h, step 150, 2.0 h" in shown


def test_roc_joins_words_and_negatives_by_threshold(run):
    (found,) = read_rocs([run])
    assert found.negatives == "speech"
    # Of the stream there are 0.3, 0.7 and 0.9, where 70, 30 and 10 % are correct.
    np.testing.assert_allclose(found.alarms, [[60, 70], [2, 30], [0.5, 10]])
    figure = roc_figure([found])
    assert figure.axes[2].get_title(loc="left") == "Within a rate on speech"
    np.testing.assert_allclose(
        figure.axes[2].lines[0].get_xydata()[:3], [[0.5, 10], [2, 30], [60, 70]]
    )


def test_roc_has_two_panels_without_negatives(tmp_path):
    write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    found = read_rocs([read_run(tmp_path / "run", "run")])
    assert found[0].negatives == ""
    assert len(roc_figure(found).axes) == 2


def test_words_found_by_alarms_of_several_models(tmp_path):
    like = write_evaluation(tmp_path / "run", {"a": 4000})

    def result(workdir: str, cost_weight: float | None, correct: float) -> StreamResult:
        step = {"false_alarms_per_hour": 1.0, "wrong_pct": 2.0}
        roc = [{"threshold": t, "correct_pct": correct - 10 * t} | step for t in (0.3, 0.9)]
        own = {"workdir": workdir, "cost_weight": cost_weight, "roc": roc}
        return StreamResult.from_json(like | own)

    results = [result("new", 0.1, 90.0), result("new", 0.5, 80.0), result("old", None, 70.0)]
    alarms = [negative_result(workdir=r.workdir, cost_weight=r.cost_weight) for r in results]
    found = rocs_of(results, alarms)
    assert [(r.run, r.number, r.price) for r in found] == [
        ("new", 0, "λ=0.1"),
        ("new", 0, "λ=0.5"),
        ("old", 1, ""),
    ]
    np.testing.assert_allclose(found[1].alarms, [[60, 77], [0.5, 71]])
    (axes,) = alarms_figure(found).axes
    assert [text.get_text() for text in axes.texts] == ["λ=0.1", "λ=0.5"]
    np.testing.assert_allclose(axes.lines[2].get_xydata()[:2], [[0.5, 61], [60, 67]])
    with pytest.raises(ValueError, match="audio without words of each model"):
        alarms_figure(rocs_of(results, alarms[:2]))
