"""The command: what is on the page, what is written, what is refused."""

import json
import re
from pathlib import Path

import pytest

from data_prep.command.cli import run
from experiments import report
from experiments.figures import style
from tests.helpers.runs import CALIBRATED, write_evaluation, write_run, write_sweep


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
    assert report_of(root) == 0
    return root


def report_of(root: Path) -> int:
    workdirs = ["--workdir", str(root / "a<b> & $x$"), "--workdir", str(root / "_fixed")]
    return make_report(*workdirs, "--out", str(root / "out"))


@pytest.fixture(scope="module")
def page(two_runs: Path) -> str:
    return (two_runs / "out" / "report.html").read_text()


def test_report_has_the_numbers_of_every_run(page: str) -> None:
    assert "60.0 ±&nbsp;14.1" in page  # correct: 50 and 70
    assert ">87.6<" in page  # frame accuracy on a stream
    assert "validation, step 150" in page
    assert ">80.0<" in page  # frame accuracy of the static run's last validation
    assert "SANAS λ=0.25" in page
    assert "step 150 of 200, not finished" in page
    assert "--set train.cost_weight=0.25" in page
    assert "--checkpoint 150 --threshold 0.7 --tolerance_ms 750" in page
    assert "ab" * 32 in page


def test_report_escapes_names(page: str, two_runs: Path) -> None:
    assert "a<b>" not in page
    assert "a&lt;b&gt; &amp; $x$" in page
    assert "<made>" not in page
    assert (two_runs / "out" / "figures" / "stream_a%3Cb%3E%20%26%20%24x%24.png").is_file()


def test_report_has_all_sections_in_order(page: str) -> None:
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Scores",
        "Accuracy for cost",
        "Asked against reached",
        "ROC",
        "Training",
        "Cost per word",
        "On the stream",
        "What runs when",
        "How it was made",
    ]
    assert "No run was asked for a budget" in page
    assert "cnn-trad-fpool3 + shortcuts" in page  # the paper's rows of table 1


@pytest.mark.slow
def test_report_of_a_sweep_shows_every_member(tmp_path: Path) -> None:
    names = write_sweep(tmp_path / "S")
    assert make_report("--workdir", str(tmp_path / "S")) == 0
    page = (tmp_path / "S" / "report.html").read_text()
    assert all(f">{name}<br><small>SANAS " in page for name in names)
    assert "diverged at step 160: got &lt;nan&gt;" in page
    assert "missed by" in page
    curve = json.loads((tmp_path / "S" / "curve.json").read_text())
    assert [(row["run"], row["budget"]) for row in curve] == [(names[0], 2e5), (names[1], 5e5)]
    assert curve[0]["macs_per_frame"] == {"mean": pytest.approx(2.2e5), "sd": None}


@pytest.mark.slow
def test_report_folds_many_runs_away(tmp_path: Path) -> None:
    names = [f"lambda_{i}" for i in range(6)]
    for i, name in enumerate(names):
        write_run(tmp_path / name, static=i == 5, cost_weight=i)
    workdirs = [part for name in names for part in ("--workdir", str(tmp_path / name))]
    assert make_report(*workdirs, "--out", str(tmp_path / "out")) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    usage = page[page.index("<h2>What runs when") : page.index("<h2>How it was made")]
    assert re.findall("<h3>(.*?)</h3>", usage) == ["lambda_0", "lambda_5"]
    assert re.findall("<summary>(.*?)</summary>", usage) == names[1:5]


@pytest.mark.slow
def test_report_of_results_without_prices_budgets_and_thresholds(tmp_path: Path) -> None:
    """As evaluate wrote them before there were any."""
    result = write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    old = {k: v for k, v in result.items() if k not in ("cost_weight", "budget", "roc")}
    (tmp_path / "run" / "evaluations" / "town.json").write_text(json.dumps(old))
    assert make_report("--workdir", str(tmp_path / "run")) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No evaluation has it yet" in page
    assert not (tmp_path / "run" / "figures" / "roc.png").exists()


@pytest.mark.slow
def test_report_of_a_conditioned_run(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run", conditioned=True)
    for price, budget in ((0.5, 1e5), (2.0, 5e4)):
        told = {"cost_weight": price, "budget": budget, "macs_per_frame": 0.7 * budget}
        write_evaluation(tmp_path / "run", edge_macs, **told)
    assert make_report("--workdir", str(tmp_path / "run")) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "SANAS told λ=0.5" in page
    assert "town at λ=2" in page
    assert page.count("missed by 30 %, below") == 2
    assert page.count("--stream town.wav") == 1
    assert "--budgets 100000,50000" in page


@pytest.mark.slow
def test_report_has_the_prices_that_were_told(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path / "run", conditioned=True)
    for price in (0.5, 2.0):
        write_evaluation(tmp_path / "run", edge_macs, cost_weight=price)
    assert make_report("--workdir", str(tmp_path / "run")) == 0
    assert "--cost_weights 0.5,2" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_report_of_both_detectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge_macs = write_run(tmp_path / "run")
    for stream, correct in (("town", 50.0), ("wood", 71.0)):
        write_evaluation(tmp_path / "run", edge_macs, stream=stream, correct_pct=correct)
        better = {"stream": stream, "correct_pct": correct + 20, "threshold": 0.4}
        write_evaluation(tmp_path / "run", edge_macs, **better, **CALIBRATED)
    assert make_report("--workdir", str(tmp_path / "run")) == 0
    means = [line for line in capsys.readouterr().out.splitlines() if "mean of 2" in line]
    assert ["60.5" in line for line in means] == [True, False]
    assert ["80.5" in line and "calibrated" in line for line in means] == [False, True]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "SANAS λ=0.25, calibrated<" in page
    assert "tables have all, figures one, a calibrated one" in page
    assert "(SANAS λ=0.25) on town, calibrated, " in page
    made = page[page.index("<h2>How it was made") :]
    assert made.count("--checkpoint 150 --threshold 0.7") == 2
    assert made.count("--checkpoint 150 --detector calibrated") == 2
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())
    assert [(r["detector"], r["correct_pct"]["mean"]) for r in curve] == [
        ("default", 60.5),
        ("calibrated", 80.5),
    ]


def test_report_needs_nothing_else(page: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    assert all((a or b).startswith("#") for a, b in addresses)
    assert "<script" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(ids)


def test_report_has_one_color_per_role_in_both_themes(page: str) -> None:
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert "var(--ink)" in svgs
    assert not re.findall(r"#[0-9a-f]{6}\b", svgs)
    for role, (light, dark) in style.COLORS.items():
        assert f"--{role}: {light};" in page
        assert f"--{role}: {dark};" in page
    assert len(set(style.LIGHT.values())) == len(style.COLORS)


def test_report_writes_figures_as_png(two_runs: Path) -> None:
    pngs = sorted((two_runs / "out" / "figures").iterdir())
    kinds = {path.name.partition("_")[0].removesuffix(".png") for path in pngs}
    assert kinds == {"curve", "roc", "training", "cost", "stream", "gates", "network"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)


def test_report_is_the_same_again_and_prints_the_table(
    two_runs: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_of(two_runs) == 0
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
