"""The report of runs on images: reading them, points, tables, the page, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import report
from experiments.figures.style import NARROW, WIDE
from experiments.reporting.images.curve_figure import image_curve
from experiments.reporting.images.page import found_in
from experiments.reporting.images.points import image_points
from experiments.reporting.images.tables import score_table
from experiments.reporting.points import points_to_json
from experiments.reporting.reading import read_run, read_runs
from sanas_jax.costs import edge_macs
from tests.helpers.image_runs import write_image_run, write_tested
from tests.helpers.runs import write_lines, write_run


def make_report(*workdirs: Path, out: Path) -> int:
    words = [part for folder in workdirs for part in ("--workdir", str(folder))]
    flags = ["report", *words, "--out", str(out)]
    return run(report.define_flags, report.main, report.__doc__ or "", flags)


def write_all(root: Path) -> list[Path]:
    """A whole network, a quarter and a half of it, and a run that was not evaluated."""
    net = write_image_run(root / "whole", static=True)
    full = sum(edge_macs(net).values())
    everything = {"macs": full, "params": 1200.0, "parallel": 9.0}
    on = {"probability": dict.fromkeys(net.index, 1.0), "live": list(net.index)}
    cost = {"charged": full, "costs": everything, "full_costs": everything}
    write_tested(root / "whole", static=True, accuracy_pct=98.5, **cost, **on)
    for share, accuracy, reached in ((0.25, 90.0, 0.3), (0.5, 97.0, 0.51)):
        folder = root / f"budget_{share}"
        write_image_run(folder, budget=share)
        costs = {"macs": reached * full, "params": 700.0, "parallel": 6.0}
        asked = {"budget": share * full, "charged": reached * full, "costs": costs}
        write_tested(folder, accuracy_pct=accuracy, mean_iou_pct=55.5, **asked)
    write_image_run(root / "new", budget=1000)
    return [root / name for name in ("whole", "budget_0.25", "budget_0.5", "new")]


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = write_all(tmp_path_factory.mktemp("images"))
    assert make_report(*folders, out=folders[0].parent / "out") == 0
    return folders


@pytest.fixture(scope="module")
def page(workdirs: list[Path]) -> str:
    return (workdirs[0].parent / "out" / "report.html").read_text()


def test_read_run_of_images_has_results_and_its_budget_in_units(workdirs: list[Path]) -> None:
    whole, quarter, _, new = read_runs(workdirs)
    assert quarter.of_images
    assert not quarter.evaluations
    assert [result.split for result in quarter.tested] == ["testing"]
    assert quarter.budget == quarter.full_macs / 4 == quarter.charged.full / 4
    assert (whole.budget, whole.label, new.budget, new.label) == (None, "static", 1000, "BSN 1k")
    assert not new.tested


def test_read_run_sorts_splits_and_prices(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run", conditioned=True)
    for split, price in (("validation", 1.0), ("testing", 2.0), ("testing", 0.5)):
        write_tested(tmp_path / "run", split=split, cost_weight=price)
    found = read_run(tmp_path / "run", "run")
    shown = [(result.split, result.cost_weight) for result in found.tested]
    assert shown == [("testing", 0.5), ("testing", 2.0), ("validation", 1.0)]
    assert [p.label for p in image_points([found])] == ["BSN told λ=0.5", "BSN told λ=2"]


def test_read_run_names_the_unit_of_a_budget(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run", budget=0.5, cost="params")
    found = read_run(tmp_path / "run", "run")
    assert found.label.endswith(" parameters")
    assert found.budget == found.charged.full / 2 != found.full_macs / 2


@pytest.mark.parametrize("text", ["{", "[]", '{"split": "testing"}', '{"split": "all"}'])
def test_read_run_refuses_a_damaged_result(tmp_path: Path, text: str) -> None:
    write_image_run(tmp_path / "run")
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "testing.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape("testing.json: expected a result of evaluate")):
        read_run(tmp_path / "run", "run")


def test_points_are_of_one_split(workdirs: list[Path], tmp_path: Path) -> None:
    write_image_run(tmp_path / "other")
    write_tested(tmp_path / "other", split="validation")
    other = read_run(tmp_path / "other", "other")
    found = image_points([*read_runs(workdirs), other])
    assert [p.run for p in found] == ["whole", "budget_0.25", "budget_0.5"]
    assert [p.split for p in image_points([other])] == ["validation"]


def test_points_have_what_was_charged_among_their_costs(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run", cost="memory", budget=0.5)
    write_tested(tmp_path / "run", charged=96.0, unit="bytes", full_charged=200.0)
    (point,) = image_points([read_run(tmp_path / "run", "run")])
    assert list(point.costs) == list(point.full_costs) == ["memory", "macs", "params", "parallel_1"]
    assert (point.costs["memory"], point.full_costs["memory"]) == (96, 200)


def test_points_of_an_extracted_network_are_not_of_the_whole_one(tmp_path: Path) -> None:
    kept = ("0_0-0_1", "0_1-0_2", "0_2-1_2", "stem", "out")
    write_image_run(tmp_path / "small", static=True, edges=kept)
    write_tested(tmp_path / "small", static=True)
    (point,) = image_points([read_run(tmp_path / "small", "small")])
    assert (point.kind, point.label) == ("extracted", "extracted")


def test_curve_json_has_a_row_per_point(workdirs: list[Path]) -> None:
    rows = json.loads((workdirs[0].parent / "out" / "curve.json").read_text())
    assert rows == points_to_json(image_points(read_runs(workdirs)))
    assert [(row["run"], row["kind"], row["accuracy_pct"]) for row in rows] == [
        ("whole", "static", 98.5),
        ("budget_0.25", "constant", 90.0),
        ("budget_0.5", "constant", 97.0),
    ]
    full = rows[0]["costs"]["macs"]
    assert (rows[1]["budget"], rows[1]["unit"], rows[1]["seed"]) == (full / 4, "MACs", 0)
    assert rows[1]["full_costs"]["macs"] == full
    assert rows[0]["budget"] is rows[0]["mean_iou_pct"] is None
    assert list(rows[0]) == [
        *("run", "kind", "family", "split", "budget", "unit", "cost_weight", "seed"),
        *("accuracy_pct", "mean_iou_pct", "costs", "full_costs"),
    ]


def test_score_table_has_every_cost_and_what_was_asked(workdirs: list[Path]) -> None:
    table = score_table(read_runs(workdirs))
    names = [name for name, _ in table.head]
    assert names == [
        *("run", "kind", "images", "accuracy", "mean IoU", "macs", "params", "parallel_1"),
        *("asked", "outcome"),
    ]
    rows = {row[0]: dict(zip(names, row, strict=True)) for row in table.rows}
    assert rows["whole"]["macs"].endswith("(100.0 %)")
    assert rows["whole"]["outcome"] == rows["whole"]["mean IoU"] == "–"
    assert rows["budget_0.25"]["macs"].endswith("(30.0 %)")
    assert rows["budget_0.25"]["outcome"] == "missed by 20 %, above"
    assert rows["budget_0.5"]["outcome"] == "reached"
    assert rows["budget_0.5"]["mean IoU"] == "55.50"
    assert rows["new"]["images"] == "validation, step 150"
    assert rows["new"]["accuracy"] == "80.00"
    assert rows["new"]["params"] == "625"


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_image_curve_has_a_panel_per_cost(workdirs: list[Path], width: float) -> None:
    found = image_points(read_runs(workdirs))
    figure = image_curve(found, {"macs": "MACs", "params": "parameters"}, width)
    assert [axes.get_xlabel() for axes in figure.axes] == ["MACs", "parameters"]
    for axes, name in zip(figure.axes, ("macs", "params"), strict=True):
        drawn = np.concatenate([line.get_xydata() for line in axes.lines if len(line.get_xdata())])
        for point in found:
            assert np.isclose(drawn, [point.costs[name], point.accuracy_pct]).all(-1).any()
        labels = [text.get_text() for text in axes.texts]
        assert labels == ["581", "1.16k"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["whole network", "BSN"]
    whole = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [98.5, 98.5]]
    assert len(whole) == 1


def test_found_in_is_in_the_order_of_the_edges(workdirs: list[Path]) -> None:
    found = read_run(workdirs[1], "run")
    architecture = found_in(found, found.tested[0])
    by_name = dict(zip(found.net.index, architecture.probability.tolist(), strict=True))
    assert by_name == found.tested[0].probability
    assert architecture.live.sum() == len(found.tested[0].live)


def test_report_of_images_has_its_sections(page: str) -> None:
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Scores",
        "Accuracy for cost",
        "Asked against reached",
        "Training",
        "Architectures",
        "How it was made",
    ]
    assert "missed by 20 %, above" in page
    assert "new was not evaluated yet" in page
    assert "--split testing --checkpoint 150" in page
    assert "MACs per image" in page
    assert "--set train.report_costs=params,parallel" in page
    assert "&lt;made&gt;" in page
    assert "<made>" not in page


def test_report_of_images_draws_what_was_found(workdirs: list[Path], page: str) -> None:
    pngs = {path.stem for path in (workdirs[0].parent / "out" / "figures").iterdir()}
    found = {f"architecture_budget_{share}" for share in ("0.25", "0.5")}
    assert pngs == {"curve", "training"} | found
    part = page[page.index("<h2>Architectures") : page.index("<h2>How")]
    assert part.count('class="0_0-1_0"') == 4  # wide and narrow, of two runs
    assert "Static: every edge is on" in part
    assert "Not evaluated yet" in part


def test_report_of_images_needs_nothing_else(page: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    assert all((a or b).startswith("#") for a, b in addresses)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert not re.findall(r"#[0-9a-f]{6}\b", svgs)


@pytest.mark.slow
def test_report_folds_many_runs_of_images_away(tmp_path: Path) -> None:
    names = [f"seed_{i}" for i in range(6)]
    for name in names:
        write_image_run(tmp_path / name)
        write_tested(tmp_path / name)
    assert make_report(*(tmp_path / name for name in names), out=tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    part = page[page.index("<h2>Architectures") : page.index("<h2>How")]
    assert re.findall("<h3>(.*?)</h3>", part) == names[:1]
    assert re.findall("<summary>(.*?)</summary>", part) == names[1:]


def test_report_of_a_run_of_images_that_has_just_begun_or_diverged(tmp_path: Path) -> None:
    write_image_run(tmp_path / "new", budget=0.5)
    (tmp_path / "new" / "metrics.jsonl").unlink()
    write_image_run(tmp_path / "lost", budget=0.5)
    lost = {"step": 160, "split": "diverged", "reason": "got <nan>"}
    write_lines(tmp_path / "lost", [lost])
    assert make_report(tmp_path / "new", tmp_path / "lost", out=tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "nothing yet" in page
    assert "not validated yet" in page
    assert page.count("diverged at step 160: got &lt;nan&gt;") >= 2
    assert "No run was evaluated yet" in page
    assert json.loads((tmp_path / "out" / "curve.json").read_text()) == []


def test_report_refuses_images_and_audio_together(
    workdirs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "words")
    assert make_report(workdirs[0], tmp_path / "words", out=tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "expected runs of images or of audio, got both: whole; words" in error
    assert not (tmp_path / "out").exists()
