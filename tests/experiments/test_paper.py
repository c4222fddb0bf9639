"""The command: what it refuses, what --table shows, and a whole run on a toy."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from data_prep.command.cli import run
from experiments import paper
from experiments.replication import measuring, plan, running
from experiments.replication.measuring import measure
from experiments.replication.plan import Cell, Setup
from tests.helpers.paper_runs import write_heard, write_trained
from tests.helpers.places import ROOT
from tests.helpers.toy import write_toy_cache


def make_paper(*arguments):
    return run(paper.define_flags, paper.main, paper.__doc__, ["paper", *map(str, arguments)])


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the command changes for itself is put back."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data: expected a folder of Speech Commands, or a cache from data_prep.prepare"),
        (["--data", "nowhere"], "--data: expected a folder, got nowhere"),
        (
            ["--data", "cache", "--pattern", "{word}_{n}.wav"],
            "--pattern: expected it with a folder",
        ),
        (["--data", "cache", "--out", "file"], "--out: expected a folder, got a file: file"),
        (["--table", "--out", "nothing"], "--out: expected the folder of a run of this command"),
        (["--scale", "huge"], "huge"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "dataset.json").touch()
    (tmp_path / "file").touch()
    assert make_paper(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "runs").exists()


def test_table_shows_and_writes_what_there_is(tmp_path, capsys):
    out = tmp_path / "out"
    setup = Setup("small", 2, out, tmp_path / "clips")
    write_trained(setup, 1, Cell("static", None), 700, 1500)
    write_heard(setup, 1, Cell("static", None), "test_0", 700, "default")
    (out / "setup.json").write_text(json.dumps({"cache": str(tmp_path / "clips")}))
    assert make_paper("--table", "--out", out) == 0  # the second seed is found
    printed = capsys.readouterr().out
    assert "| + shortcuts | 700 of 1500 | 80.0 | 70.0 |" in printed
    assert (out / "table1.md").read_text() == printed.rstrip("\n") + "\n"
    assert json.loads((out / "table1.json").read_text())["seeds"] == [1]
    assert (out / "figure5.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_itself_leaves_the_accelerator_alone(tmp_path):
    """It runs where the platform that its commands would run on cannot be."""
    (tmp_path / "setup.json").write_text(json.dumps({"cache": "nowhere"}))
    code = "import experiments.paper as p, sys; sys.argv[0] = 'paper'; at = 'jax' in sys.modules\n"
    code += "try: p.cli()\nfinally: import jax; print(at, jax.devices()[0].platform)"
    words = [sys.executable, "-c", code, "--table", "--out", str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "nonsense"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False cpu\n")


def in_this_process(step, log, environment):
    """A step without a process of its own, which would import jax again."""
    module = importlib.import_module(step.words[0])
    if hasattr(module, "run") and step.words[0].startswith("data_prep"):
        assert module.main(step.words) == 0, step.name
    else:
        assert run(module.define_flags, module.main, "", step.words) == 0, step.name


@pytest.mark.slow
def test_a_toy_is_made_stopped_and_gone_on_with(tmp_path, monkeypatch, capsys):
    cache, out = write_toy_cache(tmp_path / "clips"), tmp_path / "out"
    monkeypatch.setattr(plan, "PRICES", (1.0,))
    monkeypatch.delitem(plan.NETWORKS, "longer")
    measured = []

    def measure_the_first(training, cache):
        if not measured:
            measured.append(measure(training, cache))
        return measured[0]

    monkeypatch.setattr(measuring, "measure", measure_the_first)
    ran = []

    def stopping(step, log, environment):
        if step.name == "told, seed 0" and "told, seed 0" not in ran:
            ran.append(step.name)
            raise KeyboardInterrupt
        ran.append(step.name)
        in_this_process(step, log, environment)

    monkeypatch.setattr(running, "_run", stopping)
    toy = ("--scale", "toy", "--data", cache, "--out", out)
    assert make_paper(*toy) == 130
    before = list(ran)
    assert make_paper("--table", "--scale", "toy", "--out", out) == 0
    assert "| cnn-trad-fpool3 | 8 | – |" in capsys.readouterr().out
    assert make_paper(*toy) == 0
    assert ran[len(before) :][0] == "told, seed 0"
    assert ran[-1] == "report"
    assert len(ran) == len(set(ran)) + 1
    printed = capsys.readouterr().out
    assert "] protocol, seed 0: about" in printed
    for name in ("table1.md", "table1.json", "figure5.png", "figure6.png", "report.html"):
        assert (out / name).stat().st_size > 500, name
    rows = json.loads((out / "table1.json").read_text())["rows"]
    full = {row["on_streams"]["full_macs_per_frame"]["mean"] for row in rows}
    assert len(full) == 2  # without shortcuts, and with them
    assert all(len(row["streams"]["0"]) == 3 and row["on_clips"]["accuracy_pct"] for row in rows)
    assert make_paper(*toy) == 0
    assert ran[-1] == "report"
    assert len(ran) == len(set(ran)) + 1
    assert "all is done" in capsys.readouterr().out
    assert os.environ["JAX_PLATFORMS"] == "cpu"
