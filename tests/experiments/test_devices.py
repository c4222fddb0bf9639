"""Runs on several devices and in several processes end where one device ends."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.runs.metrics import read_metrics
from tests.experiments.test_launch import arguments, run_launch
from tests.helpers.runs_state import final_state
from tests.helpers.toy import write_toy_cache

pytestmark = pytest.mark.slow

# Adam's first steps divide by the gradient's own size: what is added up in another order differs.
RTOL = 1e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("data") / "cache")


@pytest.fixture(scope="module")
def alone(cache, tmp_path_factory):
    """On one device, whole."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    assert run_launch(cache, folder, "--set=train.batch_size=8") == 0
    return folder


def start(cache, folder, devices, *extra, command="launch", **environment):
    """A process that trains on so many devices."""
    all_arguments = arguments(cache, folder, "--set=train.batch_size=8", *extra)
    flags = os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{command}", *all_arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags} | environment,
    )


def finish(*processes):
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output


def start_two(cache, folder, *extra, **options):
    """Two processes of one job over the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ways = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
    return [
        start(cache, folder, 1, *ways, f"--process_id={i}", *extra, **options) for i in range(2)
    ]


def start_two_by_slurm(cache, folder, *extra):
    """The same, found out from what Slurm tells its tasks."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1"}
    job |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    return [
        start(cache, folder, 1, "--distributed", *extra, **job, SLURM_PROCID=i, SLURM_LOCALID=i)
        for i in "01"
    ]


def kill_after(step, folder, victim, processes, how=signal.SIGKILL):
    """Wait for a checkpoint's step, and for a line after it; kill one of the processes."""
    deadline = time.time() + 240
    while not any(line["step"] > step for line in read_metrics(folder)):
        assert all(process.poll() is None for process in processes)
        assert time.time() < deadline, f"the run did not pass step {step}"
        time.sleep(0.002)
    victim.send_signal(how)


def assert_close(folder, other):
    """Parameters and all that was written, to float tolerance."""
    ours, theirs = final_state(folder)[0], final_state(other)[0]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * max(np.abs(b).max(), 1e-6))
    lines, other_lines = (list(read_metrics(where)) for where in (folder, other))
    assert [(line["step"], line["split"]) for line in lines] == [
        (line["step"], line["split"]) for line in other_lines
    ]
    for line, other_line in zip(lines, other_lines, strict=True):
        assert line["loss"] == pytest.approx(other_line["loss"], rel=RTOL)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_share_the_rows(cache, alone, tmp_path, devices):
    finish(start(cache, tmp_path / "run", devices))
    assert_close(tmp_path / "run", alone)


def test_killed_on_eight_devices_goes_on_on_two_and_on_one(cache, alone, tmp_path):
    folder = tmp_path / "run"
    process = start(cache, folder, 8)
    kill_after(4, folder, process, [process])
    process.communicate()
    two = start(cache, folder, 2)
    kill_after(8, folder, two, [two])
    assert "resuming at step 4" in two.communicate()[0]
    assert run_launch(cache, folder, "--set=train.batch_size=8") == 0
    assert_close(folder, alone)


@pytest.mark.parametrize("victim", [0, 1])
def test_two_processes_of_which_one_is_killed(cache, alone, tmp_path, victim):
    folder = tmp_path / "run"
    pair = start_two(cache, folder)
    kill_after(4, folder, pair[victim], pair)
    survivor = pair[1 - victim]
    output, _ = survivor.communicate(timeout=120)
    # Out of a computation, a line; jax itself aborts a process that was not in one.
    assert survivor.returncode in (1, -signal.SIGABRT)
    assert survivor.returncode != 1 or "another process was lost" in output
    assert "Traceback" not in output
    pair[victim].communicate()
    again = start_two_by_slurm(cache, folder, "--data_megabytes=0")
    finish(*again)
    assert_close(folder, alone)


def test_several_steps_a_program_from_clips_on_the_host(cache, alone, tmp_path):
    extra = ("--set=train.batch_size=8", "--steps_per_dispatch=2", "--data_megabytes=0")
    assert run_launch(cache, tmp_path / "run", *extra, "--profile=2") == 0
    assert_close(tmp_path / "run", alone)
    assert list((tmp_path / "run" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_clips_on_the_host_change_nothing(cache, alone, tmp_path):
    extra = ("--set=train.batch_size=8", "--data_megabytes=0")
    assert run_launch(cache, tmp_path / "run", *extra) == 0
    assert_close(tmp_path / "run", alone)


def test_devices_that_cannot_share_the_rows_are_left_out(cache, alone, tmp_path):
    process = start(cache, tmp_path / "run", 3)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "using 2 of 3 devices: they share 8 streams" in output
    assert_close(tmp_path / "run", alone)


def test_processes_that_cannot_share_the_rows_are_refused(cache, tmp_path):
    for process in start_two(cache, tmp_path / "run", "--set=train.batch_size=5"):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1, output
        assert "error: batch size: expected a multiple of 2, for 2 devices" in output
        assert "Traceback" not in output
    assert not (tmp_path / "run").exists()


def test_a_mesh_of_budgets_and_rows(cache, alone, tmp_path):
    """Two prices, from another run's parameters, on two by two devices and in two processes."""
    asked = ("--cost_weights=0.5,1", f"--init_from={alone}", "--set=train.steps=4")
    one = start(cache, tmp_path / "one", 1, *asked, command="sweep")
    four = start(cache, tmp_path / "four", 4, *asked, command="sweep")
    finish(one, four)
    finish(*start_two(cache, tmp_path / "two", *asked, command="sweep"))
    for name in ("lambda_0.5", "lambda_1"):
        assert_close(tmp_path / "four" / name, tmp_path / "one" / name)
        assert_close(tmp_path / "two" / name, tmp_path / "one" / name)


def test_two_processes_draw_what_one_has_mined(alone, tmp_path):
    cache = write_toy_cache(tmp_path / "cache")
    talk = np.random.default_rng(0).integers(-3_000, 3_000, 96_000, np.int16)
    rows = [NegativeRow(talk, f"{split}.wav", "speech", split, False) for split in (0, 1)]
    write_negatives(cache, rows)
    mined = ("--set=data.negative_speech=0.5", "--set=data.negative_mined=1")
    asked = (*mined, f"--init_from={alone}", "--set=train.steps=4")
    finish(start(cache, tmp_path / "one", 1, *asked))
    finish(*start_two(cache, tmp_path / "two", *asked))
    files = [np.load(tmp_path / name / "mined.npz")["stretches"] for name in ("one", "two")]
    np.testing.assert_array_equal(*files)
    assert_close(tmp_path / "two", tmp_path / "one")


def test_processes_that_are_told_to_end_do(cache, alone, tmp_path):
    folder = tmp_path / "run"
    pair = start_two(cache, folder)
    kill_after(4, folder, pair[0], pair, how=signal.SIGTERM)
    pair[1].send_signal(signal.SIGTERM)
    output, _ = pair[0].communicate(timeout=60)
    pair[1].communicate(timeout=60)
    assert pair[0].returncode == 130, output
    assert "interrupted: the same command in all processes goes on" in output
    assert run_launch(cache, folder, "--set=train.batch_size=8") == 0
    assert_close(folder, alone)


def test_steps_per_dispatch_must_divide(cache, tmp_path, capsys):
    assert run_launch(cache, tmp_path / "run", "--steps_per_dispatch=3") == 1
    assert "expected a divisor of train.log_every=2, got 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
