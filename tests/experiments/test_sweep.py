"""The sweep as a user meets it: equal to single runs, killed, resumed, diverged, misused."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import sweep
from experiments.config import Config
from experiments.config.wording import format_macs, parse_budget, parse_macs
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics
from experiments.runs.trained import training_of
from experiments.training.members import expand, reached_table
from tests.experiments.test_launch import arguments, run_launch
from tests.helpers.runs_state import final_state
from tests.helpers.toy import write_toy_cache

BUDGETS = "--budgets=600k,1.2M"
NAMES = ["budget_600k", "budget_1.2M"]


def run_sweep(cache, folder, *extra):
    return run(sweep.define_flags, sweep.main, "", arguments(cache, folder, *extra))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("data") / "cache")


@pytest.fixture(scope="module")
def swept(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    assert run_sweep(cache, folder, BUDGETS) == 0
    return folder


def built_of(folder):
    return training_of(run_folder.read(folder / run_folder.read_sweep(folder)[0]))


def assert_equal_runs(one, other, rtol=0.0):
    for a, b in zip(final_state(one)[0], final_state(other)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_sweep_leaves_a_run_for_each_budget(swept, capsys):
    assert json.loads((swept / "sweep.json").read_text()) == {"members": NAMES}
    asked = [run_folder.read(swept / name).config.train.budget for name in NAMES]
    assert asked == [600_000, 1_200_000]
    for name in NAMES:
        lines = list(read_metrics(swept / name))
        assert [line["step"] for line in lines if line["split"] == "validation"] == [4, 8, 12]
        assert (swept / name / "front.json").is_file()
    table = reached_table([swept / name for name in NAMES], built_of(swept))
    assert table.splitlines()[1].split()[:2] == ["budget_600k", "600k"]


@pytest.mark.slow
def test_single_run_equals_its_part_of_the_sweep(cache, swept, tmp_path):
    assert run_launch(cache, tmp_path / "alone", "--set=train.budget=1200000") == 0
    assert_equal_runs(tmp_path / "alone", swept / "budget_1.2M", rtol=1e-4)


@pytest.mark.slow
def test_vmapped_sweep_equals_the_looped_one(cache, swept, tmp_path):
    assert run_sweep(cache, tmp_path / "wide", BUDGETS, "--budgets_per_step=2") == 0
    for name in NAMES:
        assert_equal_runs(tmp_path / "wide" / name, swept / name, rtol=1e-4)


@pytest.mark.slow
def test_sweep_killed_and_resumed_equals_uninterrupted(cache, swept, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.sweep", *arguments(cache, folder, BUDGETS)[1:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.time() + 180
    while not any(line["step"] >= 6 for line in read_metrics(folder / NAMES[1])):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.time() < deadline, "the sweep did not reach step 6"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run_sweep(cache, folder, BUDGETS) == 0
    for name in NAMES:
        assert_equal_runs(folder / name, swept / name)
        assert final_state(folder / name)[1:] == final_state(swept / name)[1:]


@pytest.mark.slow
def test_sweep_killed_between_two_saves_goes_back_to_the_common_step(cache, swept, tmp_path):
    folder = tmp_path / "torn"
    driver = """
import os, signal
from experiments import sweep
from experiments.training.groups import RunRecorder
save = RunRecorder.save
def die_after_the_first(self, step):
    save(self, step)
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
RunRecorder.save = die_after_the_first
sweep.cli()
"""
    command = [sys.executable, "-c", driver, *arguments(cache, folder, BUDGETS)[1:]]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    steps = [sorted(os.listdir(folder / name / "checkpoints")) for name in NAMES]
    assert steps == [["4", "8"], ["4"]]
    assert run_sweep(cache, folder, BUDGETS) == 0
    for name in NAMES:
        assert_equal_runs(folder / name, swept / name)


@pytest.mark.slow
def test_diverged_budget_is_reported_and_the_other_goes_on(cache, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run_sweep(cache, folder, "--cost_weights=0.5,1e38") == 0
    printed = capsys.readouterr()
    assert "lambda_1e+38: diverged by step 2" in printed.out + printed.err
    lines = list(read_metrics(folder / "lambda_1e+38"))
    assert [line["split"] for line in lines] == ["diverged"]
    assert "diverged" in reached_table([folder / "lambda_1e+38"], built_of(folder))
    sound = list(read_metrics(folder / "lambda_0.5"))
    assert sound[-1]["step"] == 12
    # Taken up again, it stays frozen and says so no second time.
    assert run_sweep(cache, folder, "--cost_weights=0.5,1e38", "--set=train.steps=12") == 0
    assert len(list(read_metrics(folder / "lambda_1e+38"))) == 1


def test_all_diverged_is_an_error(cache, tmp_path, capsys):
    assert run_launch(cache, tmp_path / "run", "--set=train.cost_weight=1e38") == 1
    error = capsys.readouterr().err
    assert "training diverged by step 2" in error


@pytest.mark.slow
def test_devices_share_the_budgets(cache, swept, tmp_path):
    folder = tmp_path / "devices"
    command = [sys.executable, "-m", "experiments.sweep", *arguments(cache, folder, BUDGETS)[1:]]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(command, capture_output=True, env=os.environ | {"XLA_FLAGS": flags})
    assert done.returncode == 0, done.stderr.decode()
    for name in NAMES:
        assert_equal_runs(folder / name, swept / name, rtol=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "expected --budgets, --cost_weights or --seeds, got none"),
        ([BUDGETS, "--cost_weights=1"], "expected either --budgets or --cost_weights, got both"),
        (["--budgets=5X"], "expected MACs above 0 such as 800k or 5M, got '5X'"),
        (["--budgets=1..5M"], "expected MACs above 0"),
        (["--budgets=100"], "MACs, the cheapest path, to less than"),
        (["--budgets=1G"], "the whole network; got 1,000,000,000"),
        (["--seeds=a"], "--seeds: expected numbers, got 'a'"),
        (["--cost_weights=-1"], "'train.cost_weight': expected a number in [0, 1e38]"),
        (["--cost_weights=inf"], "'train.cost_weight': expected a number in [0, 1e38]"),
        (["--budgets=600k,600000"], "expected each budget, price and seed once, got one twice"),
        ([BUDGETS, "--set=model.static=true"], "model.static has no gates"),
    ],
)
def test_bad_input_is_one_line(cache, tmp_path, capsys, extra, message):
    folder = tmp_path / "run"
    assert run_sweep(cache, folder, *extra) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_other_folders_are_left_alone(cache, swept, capsys):
    assert run_sweep(cache, swept, "--budgets=600k") == 1
    assert "holds a sweep of budget_600k, budget_1.2M" in capsys.readouterr().err
    assert run_sweep(cache, swept / "budget_600k", BUDGETS) == 1
    assert "expected a new folder or a sweep, got a run" in capsys.readouterr().err


def test_seeds_and_prices_multiply(tmp_path):
    config = Config()
    names = list(expand(config, [], [0.5, 2.0], [0, 1]))
    assert names == ["lambda_0.5-seed_0", "lambda_0.5-seed_1", "lambda_2-seed_0", "lambda_2-seed_1"]


def test_macs_are_read_and_written_in_units_people_use():
    assert [parse_macs(w) for w in ("800k", "5M", "1.2e6", "518656")] == [8e5, 5e6, 1.2e6, 518_656]
    assert [format_macs(m) for m in (8e5, 5e6, 518_656, 2.5e9, 12)] == [
        "800k",
        "5M",
        "518.656k",
        "2.5G",
        "12",
    ]


def test_shares_of_the_whole_network():
    assert [parse_budget(word) for word in ("25%", "0.5%", "3M")] == [0.25, 0.005, 3e6]
    for word in ("0%", "100%", "x%", "-5%"):
        with pytest.raises(ValueError, match="--budgets: expected a share"):
            parse_budget(word)
