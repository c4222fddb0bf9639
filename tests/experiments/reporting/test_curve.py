"""Points of the cost/accuracy curve: one per run, or per price; what was asked and reached."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.config.wording import verdict
from experiments.figures.style import NARROW, WIDE
from experiments.reporting import reproduce
from experiments.reporting.points import points_to_json
from experiments.reporting.reading import read_run, read_runs
from experiments.reporting.run_record import final_price
from experiments.reporting.streams.curve_figure import cost_curve, joined
from experiments.reporting.streams.points import one_detector_per_run, stream_points
from tests.helpers.runs import CALIBRATED, write_evaluation, write_run, write_sweep


def test_points_are_means_over_streams(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run", cost_weight=0.5, seed=3)
    for stream, correct in (("town", 50.0), ("wood", 70.0)):
        write_evaluation(tmp_path / "run", edge_macs, stream=stream, correct_pct=correct)
    (point,) = stream_points([read_run(tmp_path / "run", "mine")])
    assert (point.run, point.kind, point.label) == ("mine", "adaptive", "SANAS λ=0.5")
    assert (point.budget, point.cost_weight, point.seed) == (None, 0.5, 3)
    assert point.streams == ("town", "wood")
    assert point.full_macs_per_frame == sum(edge_macs.values())
    assert point.correct_pct.mean == pytest.approx(60)
    assert point.correct_pct.sd == pytest.approx(200**0.5)


def test_points_of_every_kind(tmp_path: Path) -> None:
    """A conditioned run has a point per price; a run without streams has none."""
    for name, settings in {
        "static": {"static": True},
        "constant": {"cell": "constant", "budget": 5e5},
        "new": {},
    }.items():
        edge_macs = write_run(tmp_path / name, **settings)
        if name != "new":
            write_evaluation(tmp_path / name, edge_macs)
    edge_macs = write_run(tmp_path / "all", conditioned=True)
    for price, budget in ((2.0, 3e5), (0.5, 8e5)):
        for stream in ("town", "wood"):
            told = {"cost_weight": price, "budget": budget}
            write_evaluation(tmp_path / "all", edge_macs, stream=stream, **told)
    runs = read_runs([tmp_path / name for name in ("static", "constant", "new", "all")])
    assert [run.label for run in runs] == [
        *("static", "constant Γ 500k", "SANAS λ=0.25", "SANAS any λ")
    ]
    found = stream_points(runs)
    assert [(p.kind, p.budget, p.cost_weight) for p in found] == [
        ("static", None, None),
        # λ of the last line of training, moved from where it began
        ("constant", 5e5, pytest.approx(0.25 * (1 - 150 / 400))),
        ("conditioned", 8e5, 0.5),
        ("conditioned", 3e5, 2.0),
    ]
    assert found[-1].streams == ("town", "wood")
    assert final_price(runs[-1]) is None


def test_points_never_mix_detectors(tmp_path: Path) -> None:
    """The static run was evaluated with both, one stream of them with the protocol's alone."""
    edge_macs = write_run(tmp_path / "fixed", static=True)
    for stream, correct in (("town", 50.0), ("wood", 70.0)):
        write_evaluation(tmp_path / "fixed", edge_macs, stream=stream, correct_pct=correct)
    write_evaluation(tmp_path / "fixed", edge_macs, correct_pct=90.0, **CALIBRATED)
    write_evaluation(tmp_path / "plain", write_run(tmp_path / "plain", static=True))
    found = stream_points(read_runs([tmp_path / "fixed", tmp_path / "plain"]))
    rows = [(p.run, p.label, p.detector, p.correct_pct.mean) for p in found]
    assert rows == [
        ("fixed", "static", "default", 60),
        ("fixed", "static, calibrated", "calibrated", 90),
        ("plain", "static", "default", 50),
    ]
    assert one_detector_per_run(found) == found[1:]
    assert [row["detector"] for row in points_to_json(found)] == [
        "default",
        "calibrated",
        "default",
    ]
    legend = cost_curve(one_detector_per_run(found)).figure.legends[0].get_texts()
    assert [text.get_text() for text in legend[:2]] == ["static", "static, calibrated"]


def test_points_never_mix_rates_thresholds_or_steps(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")

    def detector(**settings: object) -> dict[str, object]:
        return {"detector": {"kind": "calibrated", **settings}}

    for correct, changes in (
        (10.0, detector(calibrated_for=20)),
        (20.0, detector(calibrated_for=5.0)),
        (30.0, detector(calibrated_for=5.0) | {"stream": "wood"}),
        (40.0, detector(calibrated_for=5.0, threshold=0.6) | {"stream": "sea"}),
        (50.0, detector(calibrated_for=5.0) | {"stream": "hill", "step": 100}),
    ):
        write_evaluation(tmp_path / "run", edge_macs, correct_pct=correct, **changes)
    run = read_run(tmp_path / "run", "run")
    found = stream_points([run])
    assert {(p.label, p.correct_pct.mean) for p in found} == {
        ("SANAS λ=0.25, calibrated for 20/h, step 150", 10),
        ("SANAS λ=0.25, calibrated for 5/h, step 150", 25),
        ("SANAS λ=0.25, calibrated for 5/h, step 150", 40),
        ("SANAS λ=0.25, calibrated for 5/h, step 100", 50),
    }
    assert {row["calibrated_for"] for row in points_to_json(found)} == {5, 20}
    # One is shown where there is room for one: of the last step, for the lowest rate.
    (shown,) = one_detector_per_run(found)
    assert (shown.calibrated_for, shown.setting.step) == (5, 150)
    assert [e.result.setting for e in run.typical] == [shown.setting] * len(shown.streams)
    legend = cost_curve(found).figure.legends[0].get_texts()
    assert [text.get_text() for text in legend[:2]] == [
        "SANAS, calibrated for 5/h",
        "SANAS, calibrated for 20/h",
    ]
    assert [command[-4:-2] for command in reproduce.evaluations(run)] == [
        ["--false_alarms_per_hour", rate] for rate in ("20", "5", "5", "5", "5")
    ]


def test_points_to_json_has_nulls_for_what_is_not_known(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs, match_pct=float("nan"))
    (row,) = json.loads(
        json.dumps(points_to_json(stream_points([read_run(tmp_path / "run", "run")])))
    )
    assert row["correct_pct"] == {"mean": 50.0, "sd": None}
    assert row["match_pct"] == {"mean": None, "sd": None}
    assert list(row) == [
        *("run", "kind", "detector", "calibrated_for", "budget", "cost_weight", "seed"),
        *(
            "full_macs_per_frame",
            "streams",
            "macs_per_frame",
            "macs_per_frame_with_controller",
            "correct_pct",
        ),
        *("wrong_pct", "match_pct", "false_alarm_pct", "false_alarms_per_hour", "frame_accuracy"),
        "negatives",
    ]
    assert row["streams"] == ["town"]


@pytest.mark.parametrize(
    ("reached", "word"),
    [
        (5.0, "reached"),
        (5.49, "reached"),
        (4.51, "reached"),
        (6.15, "missed by 23 %, above"),
        (2.5, "missed by 50 %, below"),
    ],
)
def test_verdict_allows_a_tenth(reached: float, word: str) -> None:
    assert verdict(reached, 5.0) == word


def test_a_budget_that_nothing_asks_for_is_kept() -> None:
    assert verdict(2.5, 5.0, price=0.0) == "kept, 50 % of it unused"
    assert verdict(2.5, 5.0, price=0.1) == "missed by 50 %, below"
    assert verdict(6.0, 5.0, price=0.0) == "missed by 20 %, above"


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_cost_curve_draws_points_bars_and_the_paper(tmp_path: Path, width: float) -> None:
    names = write_sweep(tmp_path / "S")
    edge_macs = write_run(tmp_path / "fixed", static=True)
    for stream in ("town", "wood"):
        write_evaluation(tmp_path / "fixed", edge_macs, stream=stream)
    found = stream_points(read_runs([tmp_path / "S", tmp_path / "fixed"]))
    figure = cost_curve(found, width)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["200k", "500k"]
    drawn = [line.get_xydata() for line in axes.lines]
    places = [[p.macs_per_frame.mean, p.correct_pct.mean] for p in found]
    for place in places:
        assert any(len(line) == 1 and np.allclose(line[0], place) for line in drawn)
    assert any(np.shape(line) == (2, 2) and np.allclose(line, places[:2]) for line in drawn)
    # The paper's whole network stands at all of ours.
    paper = next(line for line in drawn if 77.9 in line[:, 1])
    assert paper[-1][0] == pytest.approx(sum(edge_macs.values()))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["static", "SANAS", "SANAS paper (other data)"]
    assert len(names) == 3


def test_joined_takes_the_mean_of_seeds(tmp_path: Path) -> None:
    for name, budget, seed, correct in (("b", 5e5, 0, 60), ("c", 5e5, 1, 70), ("a", 2e5, 0, 40)):
        edge_macs = write_run(tmp_path / name, budget=budget, seed=seed)
        scores = {"correct_pct": correct, "macs_per_frame": budget + 1000 * seed}
        write_evaluation(tmp_path / name, edge_macs, **scores)
    found = stream_points(read_runs([tmp_path / name for name in "bca"]))
    np.testing.assert_allclose(joined(found), [[2e5, 40], [5e5 + 500, 65]])
