"""Packing a run: the model answers as before, the folder is small, clean and complete or absent."""

import configparser
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import experiments
from data_prep.command.cli import run
from experiments import evaluate, pack
from experiments.runs import folder as run_folder
from experiments.runs import packed as packed_models
from experiments.runs import trained as trained_models
from experiments.runs.stored_negatives import save_negative_result
from tests.experiments.reporting.test_negatives import negative_result
from tests.experiments.test_evaluate import write_stream
from tests.helpers.packed import write_conditioned_run
from tests.helpers.places import ROOT

SAID = ("--command=python -m experiments.launch …", "--data_licence=tones, public domain.")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run of a network that is told its price."""
    write_conditioned_run(tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


def write_detector(workdir: Path, step: int) -> str:
    """A detector as `calibrate` leaves it for a checkpoint."""
    entry = {"cost_weight": None, "settings": {"threshold": 0.5}}
    text = json.dumps({"step": step, "detectors": [entry]})
    (workdir / "detector.json").write_text(text)
    return text


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packed_models, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(pack, "MAX_BYTES", 10_000_000)  # this one's dense layers are not small
    return tmp_path / "shipped"


def run_pack(workdir: Path, out: Path, *arguments: Any) -> int:
    command = ["pack", f"--workdir={workdir}", f"--out={out}", "--name=toy", *map(str, arguments)]
    return run(pack.define_flags, pack.main, "", command)


def run_evaluate(*arguments: Any) -> int:
    return run(evaluate.define_flags, evaluate.main, "", ["evaluate", *map(str, arguments)])


def test_a_packed_model_answers_as_the_run(trained: Path, shipped: Path, tmp_path: Path) -> None:
    detector = write_detector(trained, 4)
    assert run_pack(trained, shipped, *SAID) == 0
    folder = shipped / "toy"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "config.json", "detector.json", "frontend.npz"),
        *("metrics.jsonl", "params.npz"),
    ]
    assert (folder / "detector.json").read_text() == detector
    text = (folder / "config.json").read_text()
    assert str(trained.parent) not in text
    assert json.loads(text)["config"]["data"]["cache"] == "cache"
    assert run_folder.read(folder).classes == run_folder.read(trained).classes

    before = {path: path.read_bytes() for path in folder.iterdir()}
    stream, results = write_stream(tmp_path), []
    assert trained_models.calibration(folder) == trained_models.calibration(trained)
    for model in ("--pretrained=toy", f"--workdir={trained}", "--workdir=pretrained:toy"):
        out = tmp_path / "out.json"
        assert run_evaluate(model, *stream, "--json", out) == 0
        results.append(json.loads(out.read_text()))
    for packed, own, other in zip(*results, strict=True):
        assert packed["workdir"] == other["workdir"] == "toy"
        for name in set(own) - {"workdir", "ms_per_frame"}:
            assert packed[name] == own[name] == other[name], name
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_readme_quotes_the_figures_of_its_step(
    trained: Path, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, notes = tmp_path / "run", tmp_path / "notes.md"
    shutil.copytree(trained, source)
    assert run_evaluate(f"--workdir={source}", *write_stream(tmp_path)) == 0
    (source / "evaluations" / "clips").mkdir()
    clips = {"data": "cache", "split": "testing", "cost_weight": None, "num_clips": 321}
    clips |= {"accuracy_pct": 87.654, "benchmark_accuracy_pct": 88, "cost_weight": 0.5}
    clips |= {"macs_per_clip_with_controller": 1_234_000}
    for name, step in (("cache_testing", 4), ("older_testing", 3)):
        file = source / "evaluations" / "clips" / f"{name}.json"
        file.write_text(json.dumps(clips | {"step": step, "data": name.split("_")[0]}))
    save_negative_result(source, negative_result(step=4, cost_weight=0.1))
    save_negative_result(source, negative_result(step=3, negatives="music"))
    stream = next((source / "evaluations").glob("s@*.json"))
    stream.write_text(json.dumps(json.loads(stream.read_text()) | {"step": 3}))
    notes.write_text("Run it twice.")
    assert run_pack(source, shipped, f"--notes={notes}", SAID[1]) == 0
    text = (shipped / "toy" / "README.md").read_text()
    assert "knows silence, unknown, low, mid, high" in text
    assert text.count("| s at λ=") == 8
    assert "Results of other steps, which are left out: 3." in text
    assert "3 results of other steps than 4" in capsys.readouterr().out
    assert "music" not in text
    assert "older" not in text
    assert "| speech at λ=0.1 | 120.0 | 4 |" in text
    assert "of the protocol's detector" in text
    assert "| cache, testing at λ=0.5 | 321 | 87.65 | 88.00 | 1.234M |" in text
    assert "Run it twice." in text
    assert "Trained on tones, public domain." in text


def test_bad_input_leaves_nothing(
    trained: Path,
    shipped: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases: list[tuple[Path, tuple[str, ...], str]] = [
        (trained, SAID[1:], "--command, --notes: expected the commands"),
        (trained, SAID[:1], "--data_licence"),
        (trained, (*SAID, "--name=a/b"), "--name: expected letters, digits, - and _, got 'a/b'"),
        (trained, (*SAID, "--checkpoint=77"), "checkpoint: expected 'latest' or one of [4]"),
        (trained, ("--notes=/nowhere", SAID[1]), "No such file or directory: /nowhere"),
        (tmp_path, SAID, "expected a folder with a run"),
    ]
    for workdir, arguments, message in cases:
        assert run_pack(workdir, shipped, *arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    write_detector(trained, 3)
    assert run_pack(trained, shipped, *SAID) == 1
    assert "expected detectors for step 4, got those for step 3" in capsys.readouterr().err
    (trained / "detector.json").write_text('{"made": "by a test"}')
    assert run_pack(trained, shipped, *SAID) == 1
    error = capsys.readouterr().err
    assert "detector.json: expected what calibrate writes" in error
    assert error.count("\n") == 1
    (trained / "detector.json").unlink()
    monkeypatch.setattr(pack, "MAX_BYTES", 10_000)
    assert run_pack(trained, shipped, *SAID) == 1
    assert "expected a model of at most 10,000 bytes, got " in capsys.readouterr().err
    assert not shipped.exists() or not list(shipped.iterdir())


def test_a_model_is_replaced_only_when_asked(
    trained: Path, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pack(trained, shipped, *SAID) == 0
    assert run_pack(trained, shipped, *SAID) == 1
    assert "give --overwrite" in capsys.readouterr().err
    assert run_pack(trained, shipped, *SAID, "--overwrite") == 0
    (shipped / "toy" / "params.npz").unlink()
    assert run_pack(trained, shipped, *SAID, "--overwrite") == 1
    assert "which is no packed model" in capsys.readouterr().err


def test_a_packed_model_can_be_packed_again(trained: Path, shipped: Path, tmp_path: Path) -> None:
    assert run_pack(trained, shipped, *SAID) == 0
    assert run_pack(shipped / "toy", tmp_path / "again", *SAID) == 0
    with (
        np.load(shipped / "toy" / "params.npz") as one,
        np.load(tmp_path / "again" / "toy" / "params.npz") as other,
    ):
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_package_ships_the_models() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["experiments"].split()
    package = Path(experiments.__file__).parent
    trained_models = f"{packed_models.SHIPPED.relative_to(package)}/*/*"
    assert trained_models in patterns
    assert {path.parent.name for path in package.glob(trained_models)} >= set(packed_models.names())
