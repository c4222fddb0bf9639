"""What version 0.1 wrote is read as before: a run, its packed model, its cache, its results."""

import json
import tarfile
from dataclasses import asdict

import pytest

from data_prep.command.cli import run
from experiments import evaluate, launch, listen, report
from experiments.runs.trained import read_model
from sanas_jax.streaming.detector import Detector
from tests.helpers.places import GOLDEN

pytestmark = pytest.mark.slow

# Version 0.1 charged an edge that begins anew less than it computed; see CHANGELOG.
CHARGED_AS_COMPUTED = "macs_per_frame_incremental"


@pytest.fixture
def old(tmp_path, monkeypatch):
    with tarfile.open(GOLDEN / "run_0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(door, *arguments):
    return run(door.define_flags, door.main, "", [door.__name__, *arguments])


def untimed(result):
    return {name: value for name, value in result.items() if name != "ms_per_frame"}


@pytest.mark.parametrize("folder", ["run", "packed/toy"])
def test_a_model_answers_as_it_did(old, folder):
    said = json.loads((old / "evaluated.json").read_text())
    stream = ("--stream=s.wav", "--labels=s_labels.txt", "--json=now.json")
    asked = (f"--workdir={folder}", "--cost_weights=0.05", *stream)
    assert command(evaluate, *asked) == 1  # its network is code
    assert command(evaluate, *asked, "--trust") == 0
    now = json.loads((old / "now.json").read_text())
    assert now["gate_usage"] == said["gate_usage"]
    assert now.keys() == said.keys() | {"frontend_macs"}  # which version 0.1 did not count
    later = asdict(Detector()) | {"thresholds": []}  # settings that it did not know are as default
    assert now.pop("detector") == later | said.pop("detector")
    for name, value in untimed(said).items():
        if name not in ("detections", "roc", "workdir", CHARGED_AS_COMPUTED):
            assert now[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert said[CHARGED_AS_COMPUTED] < now[CHARGED_AS_COMPUTED] < now["macs_per_frame"]
    assert [d["word"] for d in now["detections"]] == [d["word"] for d in said["detections"]]


def test_a_run_hears_what_it_heard(old, capsys):
    asked = ("--workdir=run", "--wav=s.wav", "--every_step", "--cost_weight=0.05")
    assert command(listen, *asked, "--trust") == 0
    now = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [json.loads(line) for line in (old / "heard.jsonl").read_text().splitlines()]
    assert len(now) == len(said) > 20
    for one, other in zip(now, said, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=2e-4)
        assert {**one, "ms": 0} == {**other, "ms": 0}


def test_a_run_is_reported_and_taken_up_again(old, capsys):
    assert command(report, "--workdir=run", "--out=report", "--trust") == 0
    assert "λ=0.05" in capsys.readouterr().out
    assert (old / "report" / "report.html").is_file()
    paths = ("--config=run/config.py", "--data=cache", "--workdir=run")
    assert command(launch, *paths, "--set=train.steps=60") == 0
    assert read_model("run", trust=True).step == 60
