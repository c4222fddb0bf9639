"""The listening command on the model of the package and on a run, by file and by pipe."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from absl import flags

from experiments.evaluation.stream_inference import run_group
from experiments.flags.one_model import (
    DEFAULT_MODEL,
    DEFAULT_PRICE,
    chosen_price,
    define_model_flags,
)
from experiments.listen import cli
from experiments.live.listening import describe
from experiments.live.sources import Wav
from experiments.runs.detectors import chosen_detector
from experiments.runs.trained import read_model
from sanas_jax.costs import edge_macs
from sanas_jax.data.frontend_cost import frontend_cost
from sanas_jax.streaming.detector import detect

COMMAND = [sys.executable, "-m", "experiments.listen"]
SECONDS = 20


def bursts():
    """Coloured noise that comes and goes: the network wakes at it."""
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 0.2, 2 * SECONDS) * (rng.random(2 * SECONDS) < 0.5), 8000)
    rough = np.convolve(rng.standard_normal(SECONDS * 16000), np.hanning(12) / 4, "same")
    return (loud * rough).clip(-0.99, 0.99)


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("listen") / "noise.wav"
    soundfile.write(path, bursts(), 16000, subtype="PCM_16")
    return path


def listen(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["listen", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        cli()
    out, err = capsys.readouterr()
    return stopped.value.code, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.slow
def test_a_file_gives_what_evaluation_gives(wav, tmp_path, monkeypatch, capsys):
    code, events, err = listen(
        monkeypatch, capsys, "--wav", wav, "--every_step", "--json", tmp_path / "s.json"
    )
    assert code == 0
    model = read_model(DEFAULT_MODEL)
    samples = soundfile.read(wav, dtype="float32")[0]
    own = (model.params, model.info.frontend)
    out = run_group(model.sanas, False, [own], [DEFAULT_PRICE], [samples])
    posteriors, live = out.posteriors[0][0][0], out.live[0][0][0]
    assert len(events) == len(posteriors)
    assert [e["time_ms"] for e in events] == [200 * i for i in range(len(events))]
    detector = chosen_detector(model, DEFAULT_PRICE, None)
    expected = detect(posteriors, 200 * np.arange(len(posteriors)), detector)
    fired = [e for e in events if e.get("fired", True)]
    assert [e["time_ms"] for e in fired] == [d.time_ms for d in expected]
    assert [e["word"] for e in fired] == [model.info.classes[d.label] for d in expected]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["steps"] == len(events)
    assert summary["seconds"] == SECONDS
    assert not summary["interrupted"]
    assert 0 < summary["macs_per_frame_incremental"] <= summary["macs_per_frame"]
    assert summary["macs_per_frame"] == pytest.approx(
        (live @ list(edge_macs(model.sanas.net).values())).mean()
    )
    spent = np.mean([e["macs"] for e in events]) - summary["controller_macs"]
    assert spent == pytest.approx(summary["macs_per_frame_incremental"], rel=1e-4)
    native = summary["engine"] == "native"
    spent = frontend_cost(model.info.frontend, model.sanas.hop, "native" if native else "fft")
    assert summary["frontend_macs"] == spent.total
    assert f"{spent.total / 1e6:.3f}M more for the front end, " in err
    assert 0 < summary["frontend_ms"] < 100
    assert describe(summary) in err


@pytest.mark.slow
def test_a_pipe_gives_what_a_file_gives_and_ctrl_c_ends_it_cleanly(wav):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    whole = subprocess.run(
        [*COMMAND, "--wav", wav, "--every_step"], capture_output=True, check=True, env=environment
    )
    expected = [json.loads(line) for line in whole.stdout.splitlines()]
    process = subprocess.Popen(
        [*COMMAND, "--stdin", "--every_step"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    raw = soundfile.read(wav, dtype="int16")[0].astype("<i2").tobytes()
    process.stdin.write(raw[:400001])
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    got = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    for one, other in zip(got, expected, strict=False):
        assert (one["time_ms"], one["word"]) == (other["time_ms"], other["word"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    assert process.returncode == 0
    assert b"MACs per frame" in err
    assert b"Traceback" not in err


def test_engines_hear_the_same(wav, monkeypatch, capsys):
    heard = {}
    for engine in ("xla", "native"):
        argv = ("--wav", wav, "--every_step", "--engine", engine)
        code, events, err = listen(monkeypatch, capsys, *argv)
        if engine == "native" and "no C compiler here" in err:
            pytest.skip(err)
        assert code == 0
        assert f"kws, {engine}: " in err
        heard[engine] = [{k: v for k, v in e.items() if k not in ("ms", "score")} for e in events]
    assert heard["xla"] == heard["native"]


def test_without_a_compiler_xla_listens_and_a_line_says_so(wav, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = listen(monkeypatch, capsys, "--wav", wav)
    assert code == 0
    assert err.splitlines()[0] == (
        "engine xla, not native: no C compiler here; cc, or pip install 'sanas-jax[native]'"
    )
    code, events, err = listen(monkeypatch, capsys, "--wav", wav, "--engine", "native")
    assert (code, events, err.count("\n")) == (1, [], 1)
    assert "--engine native: no C compiler here" in err


@pytest.mark.slow
def test_double_precision_hears_the_same(wav, monkeypatch, capsys):
    """With `jax_enable_x64` from the start of a process, which the tests' own has not."""
    _, expected, _ = listen(monkeypatch, capsys, "--wav", wav, "--every_step")
    found = subprocess.run(
        [*COMMAND, "--wav", wav, "--every_step"],
        capture_output=True,
        check=True,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
    )
    got = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one["time_ms"], one["word"]) == (other["time_ms"], other["word"])
        assert one["macs"] == other["macs"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly(wav):
    process = subprocess.Popen(
        [*COMMAND, "--wav", wav, "--every_step", "--realtime"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_realtime_keeps_the_pace(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * 16000), 16000)
    begin = time.monotonic()
    assert sum(len(c) for c in Wav(tmp_path / "a.wav", 16000, paced=True).chunks()) == 48000
    assert time.monotonic() - begin >= 2.9


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected one of --wav FILE, --stdin and --mic"),
        (["--wav", "none.wav"], "--wav: expected a file, got none.wav"),
        (["--wav", "a", "--stdin"], "expected one of --wav FILE, --stdin and --mic"),
        (["--stdin", "--realtime"], "--realtime: expected --wav"),
        (["--wav", "a", "--pretrained", "x"], "pretrained model: expected one of"),
        (["--wav", "a", "--budget", "0.5M", "--cost_weight", "1"], "one of them, got both"),
        (["--wav", "a", "--cost_weight", "9"], "--cost_weight: expected from 0.03 to "),
        (["--wav", "a", "--budget", "9M"], "error: expected budgets from "),
        (["--wav", "a", "--threshold", "2"], "--threshold"),
        (["--wav", "a", "--engine", "c"], "--engine"),
    ],
)
def test_bad_flags_are_one_line(monkeypatch, capsys, argv, message):
    code, events, err = listen(monkeypatch, capsys, *argv)
    assert (code, events) == (1, [])
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("learnt", "told"), [((0.03, 2.0), DEFAULT_PRICE), ((0.2, 2.0), 0.2), ((0.01, 0.05), 0.05)]
)
def test_a_network_that_learnt_other_prices_is_told_the_nearest(learnt, told):
    values = flags.FlagValues()
    define_model_flags(values)
    values(["listen"])
    config = SimpleNamespace(train=SimpleNamespace(cost_weight_range=learnt))
    model = SimpleNamespace(conditioned=True, info=SimpleNamespace(config=config))
    assert chosen_price(values, model) == told


def test_a_damaged_file_gives_its_words_a_summary_and_a_line(wav, tmp_path, monkeypatch, capsys):
    whole = tmp_path / "whole.flac"
    soundfile.write(whole, soundfile.read(wav)[0], 16000)
    (tmp_path / "cut.flac").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, heard, err = listen(
        monkeypatch, capsys, "--wav", tmp_path / "cut.flac", "--every_step", "--threshold=0.5"
    )
    assert code == 1
    assert len(heard) > 20
    *summary, last = err.splitlines()
    assert "words in" in summary[-3]
    assert re.fullmatch(r"error: .*cut\.flac: damaged after \d+\.\d\d s: .*", last)
    assert "Traceback" not in err


def test_too_little_audio_is_said(tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", bursts()[:800], 16000)
    code, heard, err = listen(monkeypatch, capsys, "--wav", tmp_path / "a.wav")
    assert (code, heard) == (1, [])
    assert "got 0.05 s of audio and 0: experiments.evaluate_clips" in err
    assert err.count("\n") == 1  # nothing is summed up


def test_no_audio_is_one_line(tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", bursts()[:0], 16000)
    summary = tmp_path / "summary.json"
    code, heard, err = listen(monkeypatch, capsys, "--wav", tmp_path / "a.wav", "--json", summary)
    assert (code, heard) == (1, [])
    said = "expected audio, got a file or a pipe without a sample"
    assert err == f"error: {tmp_path / 'a.wav'}: {said}\n"
    assert not summary.exists()


def test_a_clip_is_heard_with_silence_around_it(tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", bursts()[:12_000], 16000)
    code, heard, err = listen(monkeypatch, capsys, "--wav", tmp_path / "a.wav", "--every_step")
    assert code == 0
    assert "a clip of 0.75 s: heard with 1 s of silence before and after it" in err
    # Windows of 1 s every 0.2 s, the first one all silence.
    assert [line["time_ms"] for line in heard] == list(range(-1000, 800, 200))


def test_numbers_that_are_none_are_said_before_anything_is_heard(tmp_path, monkeypatch, capsys):
    samples = bursts().astype(np.float32)
    samples[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    code, heard, err = listen(monkeypatch, capsys, "--wav", tmp_path / "a.wav", "--every_step")
    assert (code, heard) == (1, [])
    assert err == (
        f"error: {tmp_path / 'a.wav'}: expected numbers, got NaN or infinity at 20.000 s\n"
    )


def test_a_file_in_a_pipe_is_not_taken_for_samples(wav):
    with open(wav, "rb") as file:
        done = subprocess.run([*COMMAND, "--stdin"], stdin=file, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "got a file with a header (RIFF): --wav reads those" in done.stderr
    assert done.stderr.count("\n") == 1
