import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import sweep, training_iteration
from experiments.platform import prepare_platform

ROOT = Path(__file__).resolve().parents[1]
FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, f"{FLAG}=-individual_convolution"),
        ("--xla_dump_to=d", f"--xla_dump_to=d {FLAG}=-individual_convolution"),
        (f"{FLAG}=dot", f"{FLAG}=dot"),
    ],
)
def test_prepare_platform_keeps_what_was_given(monkeypatch, given, expected):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given is not None:
        monkeypatch.setenv("XLA_FLAGS", given)
    prepare_platform()
    prepare_platform()
    assert os.environ["XLA_FLAGS"] == expected


def test_prepare_platform_imports_no_jax():
    code = (
        "import sys, experiments.platform as p; p.prepare_platform(); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_importing_the_benchmark_imports_no_torch():
    code = "import sys, experiments.benchmarks.training_iteration; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_without_torch_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert training_iteration.main(["prog", "--small"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install torch" in error


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--batch=1", "batch"),
        ("--threads=100000", "--threads: expected at most"),
        ("--json=/no/such/folder/out.json", "--json: expected a file in a folder that exists"),
    ],
)
def test_bad_input_is_one_line(capsys, argument, message):
    assert training_iteration.main(["prog", "--small", argument]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_count_of_the_paper_network():
    problem = training_iteration.make_problem(training_iteration.PAPER_MAPS, 2)
    macs = training_iteration.count(problem)
    conv = 282 * 33 * 64 * 160 + 273 * 8 * 64 * 64 * 40  # both convolutions once over 301 frames
    dense = 11 * (1_196_032 + 4_096 + 1_536 + 517_120 + 7_389_184 + 4_784_128 + 4_096)
    controller = 11 * (300 * 228 + 100 * 8)
    cost = 11 * 9  # gates times MACs
    assert macs["step"] == 137_288_192
    assert macs["forward_window_by_window"] == 2 * 11 * 137_288_192
    assert 0 <= macs["forward_ours"] - 2 * (conv + dense + controller) <= 2 * cost
    assert 2.5 < macs["iteration_ours"] / macs["forward_ours"] < 3.2


def test_time_in_turn_alternates():
    order = []
    times = training_iteration.time_in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2
    )
    assert order == ["a", "b"] * 3
    assert [len(times[clock][name]) for clock in ("wall", "cpu") for name in "ab"] == [2] * 4


def test_prune_is_ours():
    torch = pytest.importorskip("torch")
    from experiments.benchmarks import torch_kws
    from sanas_jax import spaces
    from sanas_jax.graph import prune

    every = np.array(np.meshgrid(*[[0.0, 1.0]] * 8)).reshape(8, -1).T.astype(np.float32)
    ours = prune(spaces.kws_cnn(), np.pad(every, ((0, 0), (0, 1))))
    np.testing.assert_array_equal(torch_kws.prune(torch.from_numpy(every)).numpy(), ours)


@pytest.mark.slow
def test_verify_same_network_as_pytorch():
    pytest.importorskip("torch")
    errors = training_iteration.verify((3, 4))
    assert max(errors.values()) <= training_iteration.TOLERANCE


@pytest.mark.slow
def test_verify_notices_a_difference(monkeypatch):
    torch = pytest.importorskip("torch")
    from experiments.benchmarks import torch_kws

    monkeypatch.setattr(torch_kws.functional, "relu", torch.sigmoid)
    assert training_iteration.verify((3, 4))["logits"] > training_iteration.TOLERANCE


@pytest.mark.slow
def test_command_writes_json(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(training_iteration, "SMALL_MAPS", (2, 3))
    monkeypatch.setattr(training_iteration, "_use_threads", lambda threads: None)
    out = tmp_path / "out.json"
    argv = ["prog", "--small", "--batch=2", "--repeats=1", "--threads=1", f"--json={out}"]
    assert training_iteration.main(argv) == 0
    assert "same network" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["ratio"]["wall"] > 0
    assert result["steps"] == 11


@pytest.mark.slow
def test_sweep_benchmark_holds_its_ways_to_agree():
    result = sweep.benchmark(budgets=2, batch=2, repeats=1, maps=1)
    assert result["disagreement"] < sweep.TOLERANCE
    text = sweep.table(result)
    assert all(name in text for name in (sweep.SINGLE, sweep.LOOPED, sweep.VMAPPED))
    assert all(seconds > 0 for seconds in result["seconds"].values())
