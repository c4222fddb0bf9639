"""A run's folder is one process's at a time."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest

from data_prep.command.atomic import new_files
from experiments.config import Config, ModelConfig
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics
from tests.helpers.packed import write_described

HOLDER = """
import sys
from pathlib import Path
from experiments.runs import folder
with folder.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_names_have_as_much_of_a_path_as_tells_folders_apart(tmp_path):
    folders = [tmp_path / each for each in ("new/run", "old/run", "other", "old/a/b", "new/a/b")]
    assert run_folder.names_of(folders) == ["new/run", "old/run", "other", "old/a/b", "new/a/b"]
    assert run_folder.names_of(folders[:1]) == ["run"]
    assert run_folder.names_of([tmp_path, tmp_path / tmp_path.name])[1] == "/".join(
        [*tmp_path.parts[-1:], tmp_path.name]
    )


def test_a_folder_by_two_paths_is_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    paths = [tmp_path / "run", tmp_path / "latest"]
    assert run_folder.expand_sweeps(paths) == paths[:1]


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder `run`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def hold(workdir):
    with run_folder.hold(workdir):
        pass


def test_a_held_folder_is_refused_and_a_killed_holder_frees_it(tmp_path, holder):
    workdir = tmp_path / "run"
    message = rf"^--workdir: expected .* held by process {holder.pid} on {socket.gethostname()}$"
    for ask in (run_folder.check_free, hold):
        with pytest.raises(ValueError, match=message):
            ask(workdir)
    holder.kill()
    holder.wait()
    run_folder.check_free(workdir)
    with run_folder.hold(workdir):
        assert (workdir / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_is_free_when_its_holder_is_done(tmp_path):
    for _ in range(2):
        hold(tmp_path / "run")
    run_folder.check_free(tmp_path / "run")
    run_folder.check_new(tmp_path / "run")


def test_whoever_trains_here_next_sweeps_what_a_killed_one_left(tmp_path):
    write_described(tmp_path / "run", Config(model=ModelConfig(maps=(2, 2))))
    before = sorted(os.listdir(tmp_path / "run"))
    left = tmp_path / "run" / ".frontend.npz.abcd1234.partial"  # all was written, and renamed
    left.mkdir()
    (left / "0old").write_text("what was there")
    with new_files(tmp_path / "run" / "detector.json") as (writing,):
        left.mkdir(exist_ok=True)
        hold(tmp_path / "run")
        assert writing.parent.is_dir()
        writing.write_text("{}")
    assert sorted(os.listdir(tmp_path / "run")) == sorted([*before, "detector.json", "lock"])


def test_one_that_only_looks_is_waited_for(tmp_path, monkeypatch):
    hold(tmp_path)
    with open(tmp_path / "lock") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(run_folder.time, "sleep", lambda seconds: looking.close())
        hold(tmp_path)


def test_check_free_writes_nothing(tmp_path):
    run_folder.check_free(tmp_path / "none")
    run_folder.check_free(tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_folder.hold(tmp_path):
        hold(tmp_path)


def test_a_folder_of_a_later_version_is_refused_by_name(tmp_path):
    write_described(tmp_path / "run", Config(model=ModelConfig(maps=(2, 2))))
    file = tmp_path / "run" / "config.json"
    description = json.loads(file.read_text())
    assert description["format"] == 1
    file.write_text(json.dumps(description | {"format": 2}))
    with pytest.raises(ValueError, match=r"config\.json: expected format 1, got 2"):
        run_folder.read(tmp_path / "run")


def test_classes_of_two_lines_are_refused(tmp_path):
    write_described(tmp_path / "run", Config(model=ModelConfig(maps=(2, 2), state_size=4)))
    path = tmp_path / "run" / "config.json"
    description = json.loads(path.read_text())
    description["classes"][-1] = "two\nlines"
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"config\.json: expected .* that are no words"):
        run_folder.read(tmp_path / "run")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_metrics_that_are_no_file_are_refused(tmp_path, make):
    assert list(read_metrics(tmp_path)) == []
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl: expected a file of metrics, got a folder"
    ):
        list(read_metrics(tmp_path))
