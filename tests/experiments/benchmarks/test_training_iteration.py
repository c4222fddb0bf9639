import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.benchmarks import evaluation, sweep, training_iteration
from experiments.benchmarks.harness import machine
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.peers import pytorch
from experiments.benchmarks.peers.kws_paper import PAPER_MAPS, make_problem
from experiments.machine.jax_setup import prepare_platform
from tests.helpers.places import ROOT

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
        "import sys, experiments.machine.jax_setup as setup; setup.prepare_platform(); "
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_importing_the_benchmark_imports_no_torch():
    code = "import sys, experiments.benchmarks.training_iteration; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_without_torch_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    notes = []
    assert pytorch.import_torch(Settings(1, 1), notes) is None
    assert len(notes) == 1
    assert "pip install torch" in notes[0]


def test_what_cannot_be_compiled_is_left_out():
    def make():
        raise RuntimeError("no C++ compiler\nand more")

    notes = []
    assert pytorch.compiled_side(Settings(1, 1), make, notes) == {}
    assert notes == ["torch.compile, which failed: RuntimeError: no C++ compiler"]


def test_compiled_side_times_what_the_first_run_takes_longer():
    waits = iter([0.05, 0.0, 0.0])
    sides = pytorch.compiled_side(Settings(1, 1), lambda: lambda: time.sleep(next(waits)), [])
    assert 0.04 < sides[pytorch.COMPILED].compile_seconds < 0.5


@pytest.mark.parametrize("argument", ["--batch=1", "--maps=8"])
def test_bad_input_is_one_line(capsys, argument):
    assert training_iteration.main(["prog", "--quick", argument]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert argument.lstrip("-").partition("=")[0] in error


def test_count_of_the_paper_network():
    problem = make_problem(PAPER_MAPS, 2)
    conv = 282 * 33 * 64 * 160 + 273 * 8 * 64 * 64 * 40  # both convolutions once over 301 frames
    dense = 11 * (1_196_032 + 4_096 + 1_536 + 517_120 + 7_389_184 + 4_784_128 + 4_096)
    controller = 11 * (300 * 228 + 100 * 8)
    cost = 11 * 9  # gates times MACs
    assert problem.macs_window_by_window == 2 * 11 * 137_288_192
    forward, iteration = training_iteration.count(problem)
    assert 0 <= forward - 2 * (conv + dense + controller) <= 2 * cost
    assert 2.5 < iteration / forward < 3.2


def test_prune_is_ours():
    torch = pytest.importorskip("torch")
    from experiments.benchmarks.peers import torch_kws
    from sanas_jax import spaces
    from sanas_jax.graph import prune

    every = np.array(np.meshgrid(*[[0.0, 1.0]] * 8)).reshape(8, -1).T.astype(np.float32)
    ours = prune(spaces.kws_cnn(), np.pad(every, ((0, 0), (0, 1))))
    np.testing.assert_array_equal(torch_kws.prune(torch.from_numpy(every)).numpy(), ours)


@pytest.fixture
def torch_peer():
    pytest.importorskip("torch")
    peer = pytorch.import_torch(Settings(1, 1), [])
    assert peer is not None
    return peer


@pytest.fixture
def small(monkeypatch):
    """Quick runs are smaller still, and leave jax's settings to the other tests as they are."""
    for module in (training_iteration, evaluation):
        monkeypatch.setattr(module, "problem_of", lambda settings, batch: make_problem((2, 3), 2))
    monkeypatch.setattr(machine, "prepare", lambda device, threads, **rest: None)


@pytest.mark.slow
def test_verify_same_network_as_pytorch(torch_peer):
    errors = training_iteration.verify(torch_peer, (3, 4))
    assert max(errors.values()) <= training_iteration.TOLERANCE


@pytest.mark.slow
def test_verify_notices_a_difference(torch_peer, monkeypatch):
    from experiments.benchmarks.peers import torch_kws

    monkeypatch.setattr(torch_kws.functional, "relu", torch_peer.torch.sigmoid)
    assert training_iteration.verify(torch_peer, (3, 4))["logits"] > training_iteration.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("module", [training_iteration, evaluation])
def test_command_writes_json(torch_peer, small, module, tmp_path, capsys):
    out = tmp_path / "out.json"
    argv = ["prog", "--quick", "--repeats=1", "--threads=1", f"--json={out}"]
    assert module.main(argv) == 0
    assert "sides agree" in capsys.readouterr().out
    result = json.loads(out.read_text())["benchmarks"][module.NAME]
    assert result["rows"][pytorch.EAGER]["ratio"] > 0
    assert result["settings"]["steps"] == 11
    assert result["rows"]["ours"]["share_of_matmul"] > 0
    assert result["rows"]["ours"]["memory_bytes"] > 0


@pytest.mark.slow
def test_evaluation_without_torch_times_ours(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = evaluation.benchmark(Settings(1, 1, quick=True))
    assert list(result["rows"]) == ["ours"]
    assert "pip install torch" in evaluation.table(result)


@pytest.mark.slow
def test_evaluation_refuses_another_network(torch_peer, small, monkeypatch):
    from experiments.benchmarks.peers import torch_kws

    monkeypatch.setattr(torch_kws.functional, "relu", torch_peer.torch.sigmoid)
    with pytest.raises(ValueError, match="the two networks differ: expected logits"):
        evaluation.benchmark(Settings(1, 1, quick=True))


@pytest.mark.slow
def test_sweep_benchmark_holds_its_ways_to_agree():
    result = sweep.benchmark(Settings(1, 1), budgets=2, batch=2, maps=1)
    assert max(result["agreement"].values()) < sweep.TOLERANCE
    assert list(result["rows"]) == [sweep.SINGLE, sweep.LOOPED, sweep.VMAPPED]
    assert all(row["seconds"] > 0 for row in result["rows"].values())
    single, vmapped = (result["rows"][name] for name in (sweep.SINGLE, sweep.VMAPPED))
    assert 0.9 < vmapped["macs"] / single["macs"] < 1.1
