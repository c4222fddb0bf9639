"""The train loop as a user meets it: killed, resumed, misused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import launch
from experiments.config import from_json
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics
from sanas_jax import costs, spaces
from tests.helpers.places import CONFIGS
from tests.helpers.runs_state import final_state
from tests.helpers.toy import write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SETTINGS = [
    "model.maps=2,2",
    "model.state_size=4",
    "train.steps=12",
    "train.batch_size=4",
    "train.log_every=2",
    "train.eval_every=4",
    "train.front_size=2",
    "train.cost_weight=0.5",
    "data.max_seconds=1.6",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("data") / "cache")


def arguments(cache, folder, *extra):
    settings = [f"--set={setting}" for setting in SETTINGS]
    paths = [f"--config={CONFIG}", f"--data={cache}", f"--workdir={folder}"]
    return ["launch", *paths, *settings, *extra]


def run_launch(cache, folder, *extra):
    return run(launch.define_flags, launch.main, "", arguments(cache, folder, *extra))


def assert_equal_runs(one, other):
    leaves, metrics, front = final_state(one)
    other_leaves, other_metrics, other_front = final_state(other)
    assert metrics == other_metrics
    assert front == other_front
    for a, b in zip(leaves, other_leaves, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run_launch(cache, folder) == 0
    return folder


def test_train_writes_metrics_checkpoints_and_front(uninterrupted):
    lines = list(read_metrics(uninterrupted))
    assert [line["step"] for line in lines if line["split"] == "training"] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if line["split"] == "validation"] == [4, 8, 12]
    full = sum(costs.edge_macs(spaces.kws_cnn(maps=(2, 2), num_classes=5)).values())
    assert all(0 < line["macs_per_frame"] <= full for line in lines)
    assert sorted(p.name for p in (uninterrupted / "checkpoints").iterdir()) == ["12", "8"]
    front = json.loads((uninterrupted / "front.json").read_text())
    assert {str(p["step"]) for p in front} == {p.name for p in (uninterrupted / "front").iterdir()}


@pytest.mark.slow
def test_double_precision_draws_and_trains_the_same(cache, uninterrupted, tmp_path):
    """With `jax_enable_x64` from the start of a process, which the tests' own has not."""
    folder = tmp_path / "x64"
    subprocess.run(
        [sys.executable, "-m", "experiments.launch", *arguments(cache, folder)[1:]],
        check=True,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
    )
    got, expected = (list(read_metrics(run)) for run in (folder, uninterrupted))
    assert [line["step"] for line in got] == [line["step"] for line in expected]
    assert got[0]["gate_usage"] == expected[0]["gate_usage"]
    for name in ("loss", "objective", "grad_norm", "macs_per_frame"):
        assert got[0][name] == pytest.approx(expected[0][name], rel=1e-4)


@pytest.mark.slow
def test_train_killed_between_checkpoints_equals_uninterrupted(cache, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.launch", *arguments(cache, folder)[1:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    # The line of step 6 is written between the checkpoints of steps 4 and 8.
    deadline = time.time() + 120
    while not any(line["step"] >= 6 for line in read_metrics(folder)):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.time() < deadline, "the run did not reach step 6"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run_launch(cache, folder) == 0
    assert_equal_runs(folder, uninterrupted)


@pytest.mark.slow
def test_train_killed_while_saving_equals_uninterrupted(cache, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    driver = """
import os, signal, sys
from experiments import launch
from experiments.runs.checkpoints import Checkpoints
save = Checkpoints.save
def die_while_saving(self, step, tree):
    if step != 8 or self._checkpointer.directory.name != "checkpoints":
        return save(self, step, tree)
    self._checkpointer.save_async(step, tree)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = die_while_saving
launch.cli()
"""
    command = [sys.executable, "-c", driver, *arguments(cache, folder)[1:]]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [line["step"] for line in read_metrics(folder)][-1] == 8
    assert run_launch(cache, folder) == 0
    assert_equal_runs(folder, uninterrupted)


def test_train_again_after_the_end_changes_nothing(cache, uninterrupted):
    before = final_state(uninterrupted)
    assert run_launch(cache, uninterrupted) == 0
    after = final_state(uninterrupted)
    assert before[1:] == after[1:]


@pytest.mark.slow
def test_train_from_another_run_starts_with_its_parameters(cache, uninterrupted, tmp_path):
    folder = tmp_path / "next"
    assert run_launch(cache, folder, f"--init_from={uninterrupted}", "--set=train.steps=4") == 0
    assert from_json(
        json.loads((folder / "config.json").read_text())["config"]
    ).train.init_from == str(uninterrupted)
    ours, theirs = run_folder.read(folder).frontend, run_folder.read(uninterrupted).frontend
    np.testing.assert_array_equal(ours.mean, theirs.mean)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set=train.step=3"], "did you mean 'steps'"),
        (["--set=train.steps=-3"], "'train.steps': expected a number in [1, 2147483647], got -3"),
        (["--set=train.penalty=min"], "'train.penalty': expected one of ['abs', 'max']"),
        (["--set=model.family=vgg"], "model.family': expected one of"),
        (["--data=/nowhere"], "expected a cache folder"),
        (["--config=/nowhere.py"], "expected a Python file"),
        (["--init_from=/nowhere"], "expected a folder with a run"),
        (["--set=train.eval_every=5"], "multiple of train.log_every"),
    ],
)
def test_bad_input_is_one_line(cache, tmp_path, capsys, extra, message):
    folder = tmp_path / "run"
    assert run_launch(cache, folder, *extra) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_word_without_training_clips_is_refused_by_name(cache, tmp_path, capsys):
    labels, splits = (np.load(cache / f"{name}.npy") for name in ("labels", "splits"))
    other = shutil.copytree(cache, tmp_path / "cache")
    np.save(other / "splits.npy", np.where((labels == 4) & (splits == 0), np.int8(2), splits))
    assert run_launch(other, tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "--data: expected training clips of every word, got none of high: " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_config_is_refused_and_left_alone(cache, uninterrupted, capsys):
    before = final_state(uninterrupted)
    assert run_launch(cache, uninterrupted, "--set=train.seed=1") == 1
    error = capsys.readouterr().err
    assert "train.seed: 0 → 1" in error
    assert error.count("\n") == 1
    assert final_state(uninterrupted)[1:] == before[1:]


def test_workdir_with_other_data_is_refused(uninterrupted, tmp_path, capsys):
    other = write_toy_cache(tmp_path / "other", seed=1)
    assert run_launch(other, uninterrupted) == 1
    assert "expected the clips that the run" in capsys.readouterr().err


def test_workdir_with_other_splits_or_words_of_its_data_is_refused(
    cache, uninterrupted, tmp_path, capsys
):
    swapped = shutil.copytree(cache, tmp_path / "swapped")
    splits = np.load(swapped / "splits.npy")
    np.save(swapped / "splits.npy", np.array([1, 0, 2], np.int8)[splits])
    renamed = shutil.copytree(cache, tmp_path / "renamed")
    meta = (renamed / "dataset.json").read_text().replace('"mid"', '"mud"')
    (renamed / "dataset.json").write_text(meta)
    for other, said in (
        (swapped, "expected the splits (and --heard and --talk_words)"),
        (renamed, "the words"),
    ):
        assert run_launch(other, uninterrupted) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_run_that_does_not_know_its_splits_goes_on(cache, uninterrupted, tmp_path):
    old = shutil.copytree(uninterrupted, tmp_path / "old")
    described = json.loads((old / "config.json").read_text())
    described["data_sha256"] = described["data_sha256"].partition("-")[0]
    (old / "config.json").write_text(json.dumps(described))
    assert run_launch(cache, old) == 0


def test_damaged_checkpoint_is_one_line(cache, uninterrupted, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(uninterrupted, folder)
    for path in (folder / "checkpoints" / "12").rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            path.write_bytes(b"not what was saved")
    assert run_launch(cache, folder) == 1
    error = capsys.readouterr().err
    assert "checkpoints/12: expected a checkpoint of this network and version" in error
    assert error.count("\n") == 1


def test_workdir_that_holds_something_else_is_refused(cache, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert run_launch(cache, tmp_path) == 1
    assert "expected a new or empty folder or a run" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_workdir_of_a_launch_that_goes_on_is_refused(cache, uninterrupted, tmp_path, capsys):
    before = final_state(uninterrupted)
    for folder in (uninterrupted, tmp_path / "new"):
        with run_folder.hold(folder):
            assert run_launch(cache, folder) == 1
        error = capsys.readouterr().err
        assert f"{folder}, held by process {os.getpid()} on " in error
        assert error.count("\n") == 1
    assert final_state(uninterrupted)[1:] == before[1:]
    assert os.listdir(tmp_path / "new") == ["lock"]


def test_run_that_another_launch_begins_meanwhile_is_left_alone(
    cache, uninterrupted, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"

    def wait(what):
        if what == "looked for runs":
            shutil.copytree(uninterrupted, folder)

    monkeypatch.setattr("experiments.training.begin.wait_for_all", wait)
    assert run_launch(cache, folder, "--set=train.seed=1") == 1
    assert "another process has begun a run meanwhile" in capsys.readouterr().err
    assert final_state(folder)[1:] == final_state(uninterrupted)[1:]


@pytest.mark.slow
def test_train_without_noise_tracks_works(tmp_path):
    cache = write_toy_cache(tmp_path / "quiet", noise=False)
    assert run_launch(cache, tmp_path / "run", "--set=train.steps=2") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [("model.family=dense-resnet", "model.maps=3"), ("model.family=fabric", "model.maps=2")],
)
def test_networks_with_batch_statistics_train_on_streams(cache, tmp_path, settings):
    own = [f"--set={s}" for s in (*settings, "model.depth=1", "train.steps=4")]
    assert run_launch(cache, tmp_path / "run", *own) == 0
    lines = [x for x in read_metrics(tmp_path / "run") if x["split"] == "validation"]
    assert np.isfinite(lines[-1]["loss"])


@pytest.mark.slow
def test_a_log_has_lines_in_place_of_a_bar(cache, tmp_path):
    driver = """
from data_prep.command import progress
from experiments import launch
progress.LINE_SECONDS = 0
launch.cli()
"""
    command = [sys.executable, "-c", driver, *arguments(cache, tmp_path / "run")[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("step ")]
    assert len(lines) == 12
    assert lines[-1].startswith("step 12 of 12, ")
    assert "frame accuracy" in lines[-1]
    assert done.stdout.count("validation loss") == 3
