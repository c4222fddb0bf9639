"""A C export outside: a program that listens, a microcontroller, weights of int8."""

import dataclasses
import subprocess
from collections.abc import Sequence

import numpy as np
import pytest

from experiments.export import cli
from experiments.live.native import source_of
from experiments.machine.compiler import FLAGS, NoCompilerError, find_compiler
from experiments.runs.trained import read_model
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.export.c.source import c_source
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.experiments.test_listen import bursts
from tests.helpers import cortex_m, nets_in_c
from tests.helpers.places import ROOT

PRICE = 0.1
EXAMPLE = ROOT / "examples" / "listen.c"


def export(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["export", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        cli()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--format", "onnx,c", "--weights", "int8"],
            "--weights: expected float32 for onnx, got int8",
        ),
        (["--weights", "int8"], "--weights: expected float32 for jax, got int8"),
        (["--format", "c", "--weights", "int4"], "expected one of float32, int8, got int4"),
    ],
)
def test_weights_that_a_format_has_not_are_refused(monkeypatch, capsys, tmp_path, argv, message):
    code, err = export(monkeypatch, capsys, "--out", tmp_path / "out", *argv)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_the_example_fits_a_page():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60


def loud(seconds: int) -> np.ndarray:
    """int16 audio at which the network wakes."""
    samples = np.tile(bursts(), 1 + seconds * 16000 // len(bursts()))[: seconds * 16000]
    return np.round(32767 * samples).astype(np.int16)


@pytest.mark.slow
def test_the_example_prints_the_words_of_a_session(tmp_path):
    try:
        compiler = find_compiler()
    except NoCompilerError as missing:
        pytest.skip(str(missing))
    model, params = nets_in_c.model_of(nets_in_c.chain())
    front, classes = nets_in_c.frontend(), nets_in_c.CLASSES
    # Of this network, which never hears label 1, the others come and go.
    detector = dataclasses.replace(nets_in_c.DETECTOR, silence_label=1)
    source = c_source("kws", model, params, front, classes, detector, static=False)
    (tmp_path / "kws.c").write_text(source, encoding="ascii")
    call = [*compiler, *FLAGS, "-Wall", "-Wextra", "-Werror", "-I", tmp_path]
    subprocess.run([*call, EXAMPLE, "-o", tmp_path / "listen", "-lm"], check=True)

    samples = nets_in_c.noise(60)[:-123]
    session = Session(Runtime(model, params, front), cost_weight=0.5, detector=detector)
    fired = [h.detection for h in session.push(samples) + session.finish() if h.detection]
    words = [w for w in fired if w.label >= FIRST_WORD]
    assert 3 <= len(words) < len(fired)  # and others, which are not ours
    expected = [f"{w.time_ms / 1000:8.1f} s  {classes[w.label]}  {w.score:.4f}" for w in words]
    done = run([tmp_path / "listen", "0.5"], samples.astype("<i2").tobytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == expected
    for price in ("-1", "much", "inf", ""):
        refused = run([tmp_path / "listen", price], b"")
        assert refused.returncode == 1
        assert refused.stderr.decode() == f"expected one price above 0, got {price}\n"
    assert run([tmp_path / "listen"], b"").stdout == b""


def run(call: Sequence[object], given: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(call, input=given, capture_output=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(cortex_m.missing() != "", reason=f"not here: {cortex_m.missing()}")
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_cortex_m4_decides_as_this_machine(weights, tmp_path):
    model, samples = read_model("pretrained:kws"), loud(10)
    # Nothing counts as silence that noise is taken for, so that something fires.
    detector = Detector(threshold=0.3, silence_label=len(model.info.classes) - 1)
    source = source_of(model, detector, weights=weights)
    played = cortex_m.play(source, PRICE, samples, tmp_path)
    heard = cortex_m.heard_here(source, model, PRICE, samples, detector)
    assert len(heard) == 45
    assert any(h.detection for h in heard)
    assert len({tuple(h.live) for h in heard}) > 2
    different, furthest = cortex_m.differences(played.decisions, heard)
    assert different == 0
    assert furthest < 1e-5
    assert played.flash < {"float32": 1_100_000, "int8": 340_000}[weights]
    assert played.data + played.stack < 250_000
    # A decision takes its features' instructions at least, and not many for a multiplication.
    assert 0.3e6 < played.instructions.min() < played.instructions.max() < 20e6
