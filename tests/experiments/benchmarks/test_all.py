"""Every benchmark by one command, in processes that are made up here."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from experiments.benchmarks import all as every
from experiments.benchmarks.harness import records
from tests.experiments.benchmarks.test_measure import make_result


@pytest.fixture
def commands(monkeypatch):
    """Commands that were run; sweep fails, the others leave a result."""
    found = []

    def run(command, check):
        found.append(command)
        name = command[2].rpartition(".")[2]
        if name == "sweep":
            return subprocess.CompletedProcess(command, 1)
        out = next(word for word in command if word.startswith("--json=")).removeprefix("--json=")
        with open(out, "w") as file:
            json.dump({"benchmarks": {name: make_result()}}, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(every.subprocess, "run", run)
    return found


def test_all_collects_results_and_names_what_failed(commands, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert every.main(["prog", "--quick", "--threads=1", f"--json={out}"]) == 1
    assert [command[2].rpartition(".")[2] for command in commands] == list(every.NAMES)
    assert all(command[0] == sys.executable for command in commands)
    assert all({"--quick", "--threads=1"} <= set(command) for command in commands)
    assert not any("--repeats" in word for word in commands[0])
    assert list(records.read(out)) == [name for name in every.NAMES if name != "sweep"]
    assert capsys.readouterr().err.splitlines()[-1].endswith("got an error from sweep")


def test_all_runs_some_and_compares(commands, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert every.main(["prog", "--only=features,evaluation", f"--json={out}"]) == 0
    assert every.main(["prog", "--only=features", f"--compare={out}"]) == 0
    assert len(commands) == 3
    text = capsys.readouterr().out
    assert "new / old" in text
    assert "evaluation: in the old file only" not in text


@pytest.mark.parametrize("name", every.NAMES)
def test_every_benchmark_is_a_command(name, capsys):
    module = importlib.import_module(f"experiments.benchmarks.{name}")
    assert name == module.NAME
    assert callable(module.benchmark)
    assert callable(module.table)
    assert module.main(["prog", "--help"]) == 0
    assert f"python -m experiments.benchmarks.{name}" in capsys.readouterr().out


def test_streams_are_decided_on_a_cpu_wherever_the_others_compute(commands):
    assert every.main(["prog", "--only=streaming,features", "--device=default"]) == 0
    streaming, features = commands
    assert not any("--device" in word for word in streaming)
    assert "--device=default" in features


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--only=features,magic", "--only: expected some of .*, got magic"),
        ("--threads=100000", "--threads: expected at most"),
        ("--compare=/no/such/file.json", "--compare: expected a file"),
    ],
)
def test_bad_input_is_one_line(commands, capsys, argument, message):
    assert every.main(["prog", argument]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not commands
