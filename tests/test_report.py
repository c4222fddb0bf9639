import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.cli import run
from experiments import figures, report
from experiments import workdir as workdir_lib
from experiments.build import build, macs_per_step
from experiments.config import Config, Hooks, ModelConfig, TrainConfig
from experiments.figures import Detected, StreamView
from experiments.workdir import RunInfo
from sanas_jax.decoding import Detection
from sanas_jax.features import Frontend
from sanas_jax.metrics import score_stream

CLASSES = ("_silence_", "_unknown_", "yes", "no")
STEPS = (50, 100, 150)
SECONDS = 60
CONFIG_FILE = """
from experiments.config import Config, ModelConfig, TrainConfig


def get_config():
    return Config(model=ModelConfig(maps=(4, 4)), train=TrainConfig(steps=200))
"""


def write_run(folder: Path, *, static: bool = False, cost_weight: float = 0.25) -> dict[str, int]:
    """A run that trained to step 150 of 200 with λ overridden; returns its edges' MACs."""
    config = Config(
        description="<made> by a test",
        model=ModelConfig(maps=(4, 4), static=static),
        train=TrainConfig(steps=200, cost_weight=cost_weight),
    )
    frontend = Frontend.create(
        np.ones((40, 241), np.float32), mean=np.zeros(40), std=np.ones(40), sample_rate=16_000
    )
    info = RunInfo(config, Hooks(), CLASSES, "ab" * 32, frontend, jnp.ones(len(CLASSES)))
    config_file = folder.parent / "made_config.py"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(CONFIG_FILE)
    workdir_lib.create(folder, info, str(config_file))
    edge_macs, _ = macs_per_step(build(config, len(CLASSES), Hooks()).model, static)
    lines = [
        {"split": split, **metrics(step, edge_macs, shift)}
        for step in STEPS
        for split, shift in (("training", 0.0), ("validation", 0.1))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return edge_macs


def metrics(step: int, edge_macs: dict[str, int], shift: float) -> dict[str, Any]:
    """A line as the train loop writes it: cost and loss fall with the step."""
    full = sum(edge_macs.values())
    share = 1 - step / 400
    by_label = dict(zip(CLASSES, np.array([0.5, 0.8, 0.7, 0.9]) * share * full, strict=True))
    return {
        "step": step,
        "loss": 2.0 * share + shift,
        "frame_accuracy": 0.5 + step / 500,
        "macs_per_frame": share * full,
        "macs_per_frame_with_controller": share * full + 1000,
        "macs_per_frame_by_label": by_label,
        "gate_usage": dict.fromkeys(edge_macs, share),
    }


def write_evaluation(folder: Path, edge_macs: dict[str, int], **changes: Any) -> dict[str, Any]:
    """A stream of a minute with a yes at 20 s and a no at 30 s: one found, one taken for a yes."""
    times = np.arange(0, 1000 * SECONDS - 1000, 200)
    truth = [("yes", 20_000), ("no", 30_000)]
    labels = np.zeros(len(times), np.int32)
    posteriors = np.tile(np.array([0.97, 0.01, 0.01, 0.01], np.float32), (len(times), 1))
    for label, (_, start) in zip((2, 3), truth, strict=True):
        near = np.abs(times - start) < 500
        labels[near] = label
        posteriors[near] = [0.05, 0.0, 0.9, 0.05]
    live = np.ones((len(times), len(edge_macs)), np.float32)
    live[labels == 0, 0] = 0  # silence leaves out the first edge
    macs = live @ np.array(list(edge_macs.values()), float)
    result = {
        "workdir": folder.name,
        "step": 150,
        "static": False,
        "stream": "town",
        "threshold": 0.7,
        "num_words": 2,
        "seconds": SECONDS,
        "match_pct": 100.0,
        "correct_pct": 50.0,
        "wrong_pct": 50.0,
        "false_alarm_pct": 50.0,
        "false_alarms_per_hour": 60.0,
        "macs_per_frame": float(macs.mean()),
        "macs_per_frame_with_controller": float(macs.mean()) + 1000,
        "full_macs_per_frame": sum(edge_macs.values()),
        "frame_accuracy": 0.8761,
        "gate_usage": dict(zip(edge_macs, map(float, live.mean(0)), strict=True)),
        "detections": [
            {"word": "yes", "ms": 20_200, "score": 0.9},
            {"word": "yes", "ms": 30_200, "score": 0.8},
            {"word": "no", "ms": 45_000, "score": 0.75},
        ],
    } | changes
    evaluations = folder / "evaluations"
    evaluations.mkdir(exist_ok=True)
    np.savez(
        evaluations / f"{result['stream']}.npz",
        times_ms=times,
        posteriors=posteriors,
        live=live,
        labels=labels,
        envelope=np.linspace(0, 1, SECONDS * 100).astype(np.float16),
        truth_words=np.array([word for word, _ in truth]),
        truth_ms=np.array([start for _, start in truth]),
    )
    (evaluations / f"{result['stream']}.json").write_text(json.dumps(result))
    return result


def make_report(*arguments: str) -> int:
    return run(report.define_flags, report.main, report.__doc__ or "", ["report", *arguments])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a SANAS run on two streams and a static run that still trains."""
    root = tmp_path_factory.mktemp("runs")
    edge_macs = write_run(root / "a<b> & $x$")
    write_evaluation(root / "a<b> & $x$", edge_macs)
    write_evaluation(root / "a<b> & $x$", edge_macs, stream="wood", correct_pct=70.0)
    write_run(root / "_fixed", static=True)
    workdirs = ["--workdir", str(root / "a<b> & $x$"), "--workdir", str(root / "_fixed")]
    assert make_report(*workdirs, "--out", str(root / "out")) == 0
    return root


@pytest.fixture(scope="module")
def page(two_runs: Path) -> str:
    return (two_runs / "out" / "report.html").read_text()


def test_report_has_the_numbers_of_every_run(page: str) -> None:
    assert "60.0 ± 14.1" in page  # correct: 50 and 70
    assert ">87.6<" in page  # frame accuracy on a stream
    assert "validation, step 150" in page
    assert ">80.0<" in page  # frame accuracy of the static run's last validation
    assert "SANAS λ=0.25" in page
    assert "step 150 of 200, not finished" in page
    assert "--set train.cost_weight=0.25" in page
    assert "ab" * 32 in page


def test_report_escapes_names(page: str, two_runs: Path) -> None:
    assert "a<b>" not in page
    assert "a&lt;b&gt; &amp; $x$" in page
    assert "<made>" not in page
    assert (two_runs / "out" / "figures" / "stream_a%3Cb%3E%20%26%20%24x%24.png").is_file()


def test_report_needs_nothing_else(page: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    assert all((a or b).startswith("#") for a, b in addresses)
    assert "<script" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    used = set(re.findall(r'(?:href="|url\()#([^")]*)', page))
    assert used <= set(ids)


def test_report_has_one_color_per_role_in_both_themes(page: str) -> None:
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert "var(--ink)" in svgs
    assert not re.findall(r"#[0-9a-f]{6}\b", svgs)
    for role, (light, dark) in figures.COLORS.items():
        assert f"--{role}: {light};" in page
        assert f"--{role}: {dark};" in page
    assert len({light for light, _ in figures.COLORS.values()}) == len(figures.COLORS)


def test_report_writes_figures_as_png(two_runs: Path) -> None:
    pngs = sorted((two_runs / "out" / "figures").iterdir())
    kinds = {path.name.partition("_")[0].removesuffix(".png") for path in pngs}
    assert kinds == {"training", "cost", "stream", "gates"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)


def test_report_is_the_same_again_and_prints_the_table(
    two_runs: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(two_runs / "a<b> & $x$")
    workdirs = ["--workdir", name, "--workdir", str(two_runs / "_fixed")]
    assert make_report(*workdirs, "--out", str(two_runs / "out")) == 0
    assert (two_runs / "out" / "report.html").read_text() == page
    out = capsys.readouterr().out
    assert "mean of 2" in out
    assert "town" in out
    assert "_fixed" in out
    assert not list((two_runs / "out").glob("*.partial"))


def test_report_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    write_run(tmp_path / "new")
    (tmp_path / "new" / "metrics.jsonl").unlink()
    assert make_report("--workdir", str(tmp_path / "new")) == 0
    text = (tmp_path / "new" / "report.html").read_text()
    assert "no metrics yet, of 200 steps" in text
    assert "nothing yet" in text
    assert "was not run through a stream yet" in text


def test_report_leaves_out_a_line_cut_off(tmp_path: Path) -> None:
    write_run(tmp_path / "cut")
    with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"step": 160, "split": "trai')
    assert make_report("--workdir", str(tmp_path / "cut")) == 0
    assert "step 150 of 200" in (tmp_path / "cut" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a folder with a run"),
        (["--excerpt_seconds", "0"], "--excerpt_seconds: expected more than 0"),
    ],
)
def test_report_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert make_report("--workdir", str(tmp_path), *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_report_refuses_an_excerpt_beyond_the_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    assert make_report("--workdir", str(tmp_path / "run"), "--excerpt_start_s", "60") == 1
    assert "--excerpt_start_s: expected 0 or more and less than the 60 s" in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected a result of evaluate"), ('{"step": 1}', "lacks ['workdir'")],
)
def test_read_run_refuses_a_damaged_evaluation(tmp_path: Path, text: str, message: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "evaluations").mkdir()
    (tmp_path / "run" / "evaluations" / "town.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        report.read_run(tmp_path / "run", "run")


def test_read_run_of_an_evaluation_without_arrays(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    (tmp_path / "run" / "evaluations" / "town.npz").unlink()
    read = report.read_run(tmp_path / "run", "run")
    assert read.evaluations["town"].view is None
    assert report.gate_table(read)[2] == "validation at step 150, no stream yet"


def test_read_run_puts_posteriors_in_the_middle_of_their_window(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    write_evaluation(tmp_path / "run", edge_macs)
    view = report.read_run(tmp_path / "run", "run").evaluations["town"].view
    assert view is not None
    middle = view.times_s[0]
    assert middle == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.diff(view.times_s), 0.2)
    assert [d.outcome for d in view.detections] == ["right", "wrong", "alarm"]
    assert view.detections[0].time_s == pytest.approx(20.2 + middle)
    full, first = sum(edge_macs.values()), next(iter(edge_macs.values()))
    assert set(view.macs) == {full, full - first}


def test_gate_table_is_the_mean_of_live_by_class(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    result = write_evaluation(tmp_path / "run", edge_macs)
    usage, rows, _ = report.gate_table(report.read_run(tmp_path / "run", "run"))
    assert rows == ["all frames", "silence", "yes", "no"]
    np.testing.assert_allclose(usage[0], list(result["gate_usage"].values()))
    np.testing.assert_allclose(usage[1], [0] + [1] * (len(edge_macs) - 1))
    np.testing.assert_allclose(usage[2:], 1)


def test_outcomes_counts_as_score_stream() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = np.sort(rng.uniform(0, 20_000, 12))
        words = rng.integers(1, 4, 12)
        times, labels = np.sort(rng.uniform(0, 20_000, 15)), rng.integers(1, 4, 15)
        truth = [(str(w), float(t)) for w, t in zip(words, starts, strict=True)]
        found = [{"word": str(k), "ms": float(t)} for k, t in zip(labels, times, strict=True)]
        got = report.outcomes(found, truth, 750)
        score = score_stream(
            [Detection(int(k), float(t), 1.0) for k, t in zip(labels, times, strict=True)],
            [int(word) for word in words],
            [float(time) for time in starts],
            tolerance_ms=750,
        )
        assert got.count("right") == score.correct
        assert got.count("wrong") == score.wrong
        assert got.count("alarm") == score.false_alarms


def test_summary_table_has_a_line_per_stream_and_their_mean(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run")
    one = write_evaluation(tmp_path / "run", edge_macs)
    two = one | {"stream": "wood", "wrong_pct": 52.0, "match_pct": float("nan")}
    lines = report.summary_table([one, two]).splitlines()
    assert len(lines) == 5
    assert "51.0 ± 1.4" in lines[2]
    assert lines[3].split()[:3] == ["run", "SANAS", "town"]
    assert "–" in lines[4]
    assert len({len(line) for line in lines[2:]}) == 1
    assert "static" in report.summary_table([one | {"static": True}])
    assert report.summary_table([]).count("\n") == 1


def test_run_names_are_as_short_as_they_differ() -> None:
    paths = [Path("/x/a/run"), Path("/x/b/run"), Path("/x/b/other")]
    assert report.run_names(paths) == ["a/run", "b/run", "b/other"]
    assert report.run_names(paths[1:]) == ["run", "other"]
    with pytest.raises(ValueError, match="expected different folders"):
        report.run_names([paths[0], paths[0]])


def make_view(**changes: Any) -> StreamView:
    """40 steps of 0.2 s; two words, three detections; cost rises by one million at 4 s."""
    times = 0.5 + 0.2 * np.arange(40)
    posteriors = np.zeros((40, 3))
    posteriors[:, 0] = 1.0
    posteriors[10:15] = [0.25, 0.75, 0.0]
    return StreamView(
        classes=["silence", "yes", "no"],
        times_s=times,
        posteriors=posteriors,
        macs=np.where(times < 4, 1e6, 2e6),
        full_macs=3e6,
        envelope=np.full(900, 0.5),
        envelope_s=0.01,
        truth=[("yes", 2.4), ("no", 6.0)],
        word_s=1.0,
        detections=[
            Detected("yes", 2.9, "right"),
            Detected("yes", 6.5, "wrong"),
            Detected("no", 0.7, "alarm"),
        ],
    )._replace(**changes)


def test_stream_draws_cost_detections_and_truth_of_the_excerpt() -> None:
    figure = figures.stream(make_view(), 2.0, 6.0)
    signal, posteriors, cost = figure.axes
    assert cost.get_xlim() == (2.0, 8.0)
    (line,) = [line for line in cost.lines if line.get_label() == "cost"]
    x, y = line.get_data()
    np.testing.assert_allclose(y, np.where(np.asarray(x) < 4, 1.0, 2.0))
    assert min(x) >= 2.0
    assert max(x) <= 8.0
    drawn = {line.get_gid(): line.get_xydata().tolist() for line in posteriors.lines}
    assert drawn["right"] == [[2.9, 1.0]]
    assert drawn["wrong"] == [[6.5, 1.0]]
    assert drawn["alarm"] == []  # at 0.7 s, before the excerpt
    assert {line.get_marker() for line in posteriors.lines if line.get_gid()} == {"o", "X", "^"}
    boxes = [(p.get_x(), round(p.get_y() + 0.45, 6)) for p in posteriors.patches]
    assert boxes == [(2.4, 1), (6.0, 2)]
    assert [text.get_text() for text in signal.texts] == ["yes", "no"]


def test_stream_draws_posteriors_as_dense_as_they_are() -> None:
    _, posteriors, _ = figures.stream(make_view(), 2.0, 1.4).axes
    (cells,) = posteriors.collections
    opacity = {round(float(color[3]), 2) for color in cells.get_facecolor()}
    assert opacity == {0.25, 0.75, 1.0}


def test_stream_with_many_classes_draws_those_that_matter() -> None:
    names = ["silence", "yes", "no", *(f"word {i}" for i in range(30))]
    posteriors = np.zeros((40, 33))
    posteriors[:, 0], posteriors[20, 7] = 0.9, 0.5
    _, axes, _ = figures.stream(make_view(classes=names, posteriors=posteriors), 0, 8).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "silence",
        "yes",
        "no",
        "word 4",
    ]


def test_busiest_excerpt_is_where_mistakes_are() -> None:
    times = np.arange(0, 199, 0.2)
    view = make_view(
        times_s=times,
        macs=np.full(len(times), 1e6),
        envelope=np.zeros(20_000),
        truth=[],
        detections=[Detected("yes", 127.0, "wrong"), Detected("yes", 131.0, "alarm")],
    )
    start = report.busiest([view], 30)
    assert start <= 127
    assert start + 30 >= 131
    assert report.busiest([view], 500) == 0


def test_training_curves_draw_every_run_in_its_color() -> None:
    edges = {"conv": 3_000_000, "out": 1_000_000}
    lines = [
        {"split": split, **metrics(step, edges, 0)}
        for step in STEPS
        for split in ("training", "validation")
    ]
    figure = figures.training_curves({"one": lines, "_two": lines[:2]})
    loss, accuracy, cost = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "nats per frame",
        "% of the frames",
        "M MACs/frame",
    ]
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[50, 1.75], [100, 1.5], [150, 1.25]])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [60, 70, 80])
    np.testing.assert_allclose(cost.lines[0].get_ydata(), [3.5, 3.0, 2.5])
    for axes in figure.axes:
        colors = [line.get_color() for line in axes.lines]
        assert colors[0] == colors[1] != colors[2] == colors[3]
    names = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert names == ["one", "_two", "training", "validation"]


def test_cost_per_word_draws_classes_and_the_mean_of_the_words() -> None:
    edges = {"conv": 3_000_000, "out": 1_000_000}
    lines = [{"split": "training", **metrics(step, edges, 0)} for step in STEPS]
    del lines[0]["macs_per_frame_by_label"]["_unknown_"]  # a class absent from a batch
    figure = figures.cost_per_word({"run": lines}, {"run": 4e6})
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["silence"], [[50, 1.75], [100, 1.5], [150, 1.25]])
    np.testing.assert_allclose(drawn["unknown"], [[100, 2.4], [150, 2.0]])
    np.testing.assert_allclose(drawn["mean of the words"], [[50, 2.8], [100, 2.4], [150, 2.0]])
    assert {text.get_text() for text in axes.texts} == {
        "whole network",
        "silence",
        "unknown",
        "mean of the words",
        "yes",
        "no",
    }


def test_cost_per_word_prefers_validation_once_there_is_enough() -> None:
    edges = {"conv": 3_000_000}
    lines = [{"split": "training", **metrics(1, edges, 0)}]
    lines += [{"split": "validation", **metrics(step, edges, 0)} for step in range(5)]
    (axes,) = figures.cost_per_word({"run": lines}, {"run": 3e6}).axes
    assert axes.get_title("left") == "run (validation)"
    assert len(axes.lines[0].get_xdata()) == 5


def test_gate_usage_prints_percentages() -> None:
    usage = np.array([[0.5, 1.0], [0.126, np.nan]])
    (axes,) = figures.gate_usage(usage, ["all frames", "yes"], ["a", "b"], [2e6, 1e4]).axes
    assert [text.get_text() for text in axes.texts] == ["50", "100", "13", "–"]
    assert [patch.get_alpha() for patch in axes.patches] == [0.5, 1.0, 0.126, 0.0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a\n2M", "b\n10k"]


def test_thin_takes_means_of_blocks() -> None:
    steps, values = figures.thin(np.arange(1000.0), np.arange(1000.0) ** 0)
    assert len(steps) <= 400
    np.testing.assert_allclose(values, 1)
    np.testing.assert_allclose(steps[:2], [1, 4])
    short = np.arange(5.0)
    assert figures.thin(short, short)[0] is short


def test_spread_keeps_gaps_order_and_limits() -> None:
    assert figures.spread([1.0, 2.0], 0.5, 0, 10) == [1.0, 2.0]
    assert figures.spread([2.0, 1.0, 1.1], 0.5, 0, 10) == [2.0, 1.0, 1.5]
    assert figures.spread([10.0, 9.9], 0.5, 0, 10) == [10.0, 9.5]
    assert figures.spread([], 0.5, 0, 10) == []
