"""An export says what it is, its program for jax answers as a session, bad flags are one line."""

import ast
import re
import subprocess
import sys
from dataclasses import asdict

import jax
import numpy as np
import pytest

from examples.jax_listen import load, run, tell
from experiments.config import ModelConfig
from experiments.config.model import macs_per_step
from experiments.machine.compiler import NoCompilerError, find_compiler
from experiments.runs.trained import read_model
from sanas_jax.streaming.detector import Detector
from tests.helpers.export_command import CHANGE, PRICES, assert_same, command, exported
from tests.helpers.packed import write_packed
from tests.helpers.places import ROOT


@pytest.mark.slow
def test_jax_answers_as_a_session(small, audio, expected, tmp_path, monkeypatch, capsys):
    about = exported(monkeypatch, capsys, small, tmp_path / "out")
    model = read_model(small, trust=True)
    net = model.sanas.net
    macs, controller = macs_per_step(model.sanas, False)
    assert about["classes"] == list(model.info.classes)
    assert {edge["name"]: edge["macs"] for edge in about["edges"]} == macs
    assert [edge["name"] for edge in about["edges"]] == [edge.name for edge in net.edges]
    assert about["controller_macs"] == controller
    assert about["detector"] == asdict(Detector()) | {"thresholds": []}
    assert about["formats"]["jax"]["platforms"] == ["cpu", "cuda", "tpu"]
    # One file holds the program for all three: it differs by platform, and runs on this one.
    program = jax.export.deserialize(bytearray((tmp_path / "out/jax/step.bin").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")

    read = load(tmp_path / "out")
    memory = read.begin(read.memory, np.pad(audio, 240)[: about["begin_samples"]])
    steps, padded = [], np.pad(audio, about["pad_samples"], mode=about["padding"])
    size, hop = about["step_samples"], about["step_advance"]
    for at in range(about["begin_advance"], len(padded) - size + 1, hop):
        if len(steps) == CHANGE:
            memory = tell(read, memory, PRICES[1])
        memory, *answer = read.step(memory, padded[at : at + size])
        steps.append(list(map(np.asarray, answer)))
    assert_same(expected, *map(np.stack, zip(*steps, strict=True)), atol=1e-5)
    whole = run(read, audio)
    np.testing.assert_array_equal(whole.posteriors[:CHANGE], [s[0] for s in steps[:CHANGE]])
    assert len(whole.live) == len(expected)
    assert run(read, audio[:5000]).posteriors.shape == (0, len(about["classes"]))


def test_what_runs_an_export_imports_no_model_code():
    def roots(path):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name.split(".")[0] for name in names)

    theirs = {"jax", "numpy", "onnxruntime", "soundfile"}
    outside = {
        path: set(roots(path)) - set(sys.stdlib_module_names)
        for path in (
            "examples/jax_listen.py",
            "examples/onnx_listen.py",
        )
    }
    assert outside["examples/jax_listen.py"] == {"jax", "numpy"}
    assert outside["examples/onnx_listen.py"] == theirs - {"jax"}


def test_c_is_one_file_that_compiles(small, tmp_path, monkeypatch, capsys):
    argv = ("--format", "c", "--threshold", 0.25)
    about = exported(monkeypatch, capsys, small, tmp_path / "out", *argv)
    assert about["formats"] == {"c": {"file": "small.c", "name": "small", "weights": "float32"}}
    (path,) = (tmp_path / "out" / "c").iterdir()
    source = path.read_text()
    assert "s->threshold = 0.25;" in source
    assert f"#define SMALL_SAMPLES {about['step_advance']}\n" in source
    assert set(re.findall("#include <(.*)>", source)) == {"math.h", "stdint.h", "string.h"}
    try:
        command = find_compiler()
    except NoCompilerError as error:
        pytest.skip(str(error))
    call = [*command, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-c", path]
    done = subprocess.run([*call, "-o", tmp_path / "x.o"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_network_without_a_form_in_c_is_refused(tmp_path, monkeypatch, capsys):
    write_packed(tmp_path / "cnn", ModelConfig(maps=(2, 2), state_size=4, static=True))
    argv = ("--workdir", tmp_path / "cnn", "--out", tmp_path / "out", "--format", "c")
    code, out, err = command(monkeypatch, capsys, *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "got Conv2D" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--format", "torch"], "--format: expected any of jax, onnx, c, got torch"),
        (["--format", ""], "--format: expected any of jax, onnx, c, got none"),
        (["--platforms", "cpu,npu"], "--platforms: expected any of cpu, cuda, tpu, got npu"),
        (["--pretrained", "none"], "pretrained model: expected one of"),
        (["--workdir", "nothing"], "nothing"),
    ],
)
def test_bad_flags_are_one_line(monkeypatch, capsys, tmp_path, argv, message):
    code, out, err = command(monkeypatch, capsys, "--out", tmp_path / "out", *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_an_export_is_not_replaced(monkeypatch, capsys, tmp_path):
    for name, found in (("description.json", "another export"), ("notes", "something else")):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("{}")
        code, _, err = command(monkeypatch, capsys, "--out", out)
        assert code == 1
        assert err == f"error: --out: expected a new folder, got {found}: {out}\n"
        assert [path.name for path in out.iterdir()] == [name]


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    for name in ("onnx_graph", "onnx_live", "onnx_ops", "onnx_scope", "onnx_memory"):
        monkeypatch.delitem(sys.modules, f"sanas_jax.export.{name}", raising=False)
        monkeypatch.delattr(f"sanas_jax.export.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = command(monkeypatch, capsys, "--out", tmp_path / "out", "--format", "onnx")
    assert code == 1
    assert err == ("error: --format: onnx needs the package onnx: pip install 'sanas-jax[onnx]'\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected an export with --format jax"):
        load(tmp_path)
