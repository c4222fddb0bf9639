"""Steps in processes of their own: done once, gone on with, and errors on one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.replication.plan import Step
from experiments.replication.running import log_of, run_steps, unfinished
from tests.helpers.places import ROOT

# Says that it runs, and leaves its file unless it is told to fail.
COMMAND = """
import pathlib, sys
out, how = sys.argv[1:]
print("a result")
print("halfway", file=sys.stderr)
with open("ran.txt", "a") as file:
    file.write(pathlib.Path(out).name + " ")
if how == "fail" and not pathlib.Path("mended").exists():
    print("error: expected better, got worse", file=sys.stderr)
    sys.exit(1)
if how != "nothing":
    pathlib.Path(out).write_text("done")
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a command `say`, where steps are run."""
    (tmp_path / "say.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def step(name, how="well", after=()):
    return Step(name, ("say", f"{name}.txt", how), (Path(f"{name}.txt"),), after)


def ran(work):
    file = work / "ran.txt"
    return file.read_text().replace(".txt", "").split() if file.is_file() else []


def go(steps, work, **more):
    run_steps(steps, work, os.environ | {"PYTHONPATH": str(work)}, **more)


def test_steps_run_in_order_and_once(work, capfd):
    steps = [step("one"), step("two", after=("one",))]
    go(steps, work, say=lambda s: f", {s.name}!")
    go(steps, work)
    assert ran(work) == ["one", "two"]
    printed = capfd.readouterr()
    assert printed.out.splitlines() == ["[1 of 2] one, one!", "[2 of 2] two, two!"]
    assert printed.err.splitlines() == ["  halfway"] * 2
    assert sorted(log_of(steps[0], work).read_text().split("\n")) == ["", "a result", "halfway"]


def test_a_step_whose_file_is_gone_runs_again(work):
    go([step("one"), step("two")], work)
    (work / "one.txt").unlink()
    assert [s.name for s in unfinished([step("one"), step("two")], work)] == ["one"]
    go([step("one"), step("two")], work)
    assert ran(work) == ["one", "two", "one"]


def test_a_file_without_its_stamp_is_not_done(work):
    """A process was killed after it had written, or a file was left by another."""
    (work / "one.txt").write_text("of another")
    go([step("one")], work)
    assert ran(work) == ["one"]


def test_a_failed_step_is_one_line_and_the_same_command_goes_on(work, capfd):
    steps = [step("one"), step("two", "fail"), step("three")]
    with pytest.raises(ValueError, match=r"^two: expected better, got worse \(all .*two.log\)$"):
        go(steps, work)
    assert "error" not in capfd.readouterr().err  # the line is said once, by who runs steps
    assert ran(work) == ["one", "two"]
    (work / "mended").touch()
    go(steps, work)
    assert ran(work) == ["one", "two", "two", "three"]


def test_a_step_that_leaves_nothing_is_an_error(work):
    with pytest.raises(ValueError, match=r"one: expected one\.txt, got none"):
        go([step("one", "nothing")], work)
    assert unfinished([step("one", "nothing")], work)


def test_a_step_that_dies_says_its_status(work):
    (work / "say.py").write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ValueError, match="one: ended with status -9"):
        go([step("one")], work)


def test_what_another_command_did_is_not_taken(work):
    go([step("one"), step("two", after=("one",))], work)
    changed = [step("one", "otherwise"), step("two", after=("one",))]
    with pytest.raises(ValueError, match=r"same options as before.*“one” was done with others"):
        go(changed, work)
    (work / "steps" / "one.json").unlink()
    with pytest.raises(ValueError, match="“two” was done with others"):
        go(changed, work)
    assert ran(work) == ["one", "two"]


def test_a_damaged_stamp_is_named(work):
    go([step("one")], work)
    (work / "steps" / "one.json").write_text(json.dumps({"command": []}))
    with pytest.raises(ValueError, match=r"one\.json: expected what a step leaves"):
        unfinished([step("one")], work)


def test_a_command_ends_with_who_runs_it(work):
    (work / "say.py").write_text(
        "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(99)"
    )
    driver = (
        "import os; from pathlib import Path; from data_prep.command.cli import run\n"
        "from experiments.replication.running import run_steps\n"
        "from tests.experiments.replication.test_running import step\n"
        "work = Path.cwd()\n"
        "body = lambda values: run_steps([step('one')], work, os.environ)\n"
        "raise SystemExit(run(lambda values: None, body, '', ['driver'], 'go on'))"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{work}"}
    process = subprocess.Popen(
        [sys.executable, "-c", driver], env=environment, stderr=subprocess.PIPE, text=True
    )
    pid = work / "pid"
    while not (pid.is_file() and pid.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == "interrupted: go on\n"
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
