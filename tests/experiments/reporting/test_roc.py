"""Hits against errors: means over streams, the best within a rate, the figure."""

from pathlib import Path

import numpy as np
import pytest

from experiments.reporting.reading import read_run
from experiments.reporting.streams.roc import best_within, read_rocs, roc_figure
from tests.helpers.runs import CALIBRATED, roc, write_evaluation, write_run


def test_read_rocs_are_means_over_common_thresholds(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs, roc=roc((0.2, 0.5, 0.9)))
    half = [
        {key: 0.5 * v if "pct" in key else v for key, v in step.items()} for step in roc((0.5,))
    ]
    write_evaluation(tmp_path / "run", edge_macs, stream="wood", roc=half, correct_pct=30.0)
    (found,) = read_rocs([read_run(tmp_path / "run", "run")])
    np.testing.assert_allclose(found.curve, [[100, 18.75, 37.5]])
    np.testing.assert_allclose(found.used, [60, 50, 40])


def test_read_rocs_has_one_per_price_and_leaves_out_older_results(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "all", conditioned=True)
    for price in (2.0, 0.5):
        write_evaluation(tmp_path / "all", edge_macs, cost_weight=price)
    write_evaluation(tmp_path / "old", write_run(tmp_path / "old"), roc=[])
    found = read_rocs([read_run(tmp_path / name, name) for name in ("old", "all")])
    assert [(r.run, r.number, r.price) for r in found] == [("all", 1, "λ=0.5"), ("all", 1, "λ=2")]


def test_read_rocs_are_of_the_calibrated_detector_where_there_is_one(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs)
    write_evaluation(tmp_path / "run", edge_macs, correct_pct=30.0, **CALIBRATED)
    (found,) = read_rocs([read_run(tmp_path / "run", "run")])
    assert (found.run, found.used[2]) == ("run, calibrated", 30)


def test_best_within_never_falls() -> None:
    curve = np.array([[3.0, 0, 69], [1.0, 0, 71], [0.0, 0, 66], [2.0, 0, 67], [0.0, 0, 60]])
    np.testing.assert_allclose(best_within(curve)[:2], [[0, 66], [1, 71]])
    assert best_within(curve)[-1][1] == 71


@pytest.mark.parametrize("rate", [0.0, 4.0, 3000.0])
def test_roc_figure_shows_any_rate_of_false_alarms(tmp_path: Path, rate: float) -> None:
    edge_macs = write_run(tmp_path / "run")
    steps = [step | {"false_alarms_per_hour": rate} for step in roc((0.3, 0.9))]
    write_evaluation(tmp_path / "run", edge_macs, roc=steps, false_alarms_per_hour=rate)
    figure = roc_figure(read_rocs([read_run(tmp_path / "run", "run")]))
    alarms, wrong = figure.axes
    assert alarms.get_xlim()[0] < 0 <= rate < alarms.get_xlim()[1]
    np.testing.assert_allclose(wrong.lines[0].get_xydata(), [[35, 70], [5, 10]])
    np.testing.assert_allclose(wrong.lines[1].get_xydata(), [[50, 50]])  # the threshold used
