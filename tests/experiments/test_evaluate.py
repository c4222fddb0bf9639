"""Evaluation of a stream: chunks equal one pass, figures counted by hand, misuse."""

import json
import os

import jax
import numpy as np
import pytest
import soundfile

from data_prep.command.cli import run
from experiments import evaluate, launch, sweep
from experiments.datasets import streams
from experiments.evaluation import scoring, stream_inference
from experiments.runs import trained as trained_models
from experiments.runs.stored_results import Trace
from sanas_jax import gates, spaces
from sanas_jax.controller import Controller
from sanas_jax.data.features import Frontend, extract
from sanas_jax.forward import forward
from sanas_jax.graph import prune
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.streaming.detector import Detector
from tests.helpers.places import CONFIGS
from tests.helpers.toy import CLASSES, mel_matrix, write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
# Others read these files: names and their order are as they always were.
KEYS = [
    *("workdir", "step", "static", "cost_weight", "budget", "ms_per_frame", "detector", "stream"),
    *("threshold", "tolerance_ms", "num_words", "seconds"),
    *("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct", "false_alarms_per_hour"),
    *("match_pct_list_rule", "correct_pct_list_rule", "wrong_pct_list_rule"),
    *("false_alarm_pct_list_rule", "macs_per_frame", "macs_per_frame_with_controller"),
    *(
        "frontend_macs",
        "full_macs_per_frame",
        "macs_per_frame_by_label",
        "frame_accuracy",
        "gate_usage",
        "roc",
    ),
    *("detections", "macs_per_frame_incremental", "full_macs_per_frame_incremental"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    cache = write_toy_cache(folder / "cache")
    settings = ["model.maps=2,2", "model.state_size=4", "train.steps=4", "train.batch_size=4"]
    settings += ["model.gate_bias=0"]
    settings += ["train.log_every=2", "train.eval_every=4", "data.max_seconds=1.6"]
    flags = [f"--set={setting}" for setting in settings]
    command = ["launch", f"--config={CONFIG}", f"--data={cache}", f"--workdir={folder / 'run'}"]
    assert run(launch.define_flags, launch.main, "", command + flags) == 0
    return folder / "run"


def write_stream(folder, labels="low, 1000\n_unknown_, 4000.5\n", rate=16_000, seconds=8):
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(int(rate * seconds))).astype(np.float32)
    soundfile.write(folder / "s.wav", samples, rate)
    (folder / "s_labels.txt").write_text(labels)
    return ["--stream", str(folder / "s.wav"), "--labels", str(folder / "s_labels.txt")]


def run_evaluate(*arguments):
    return run(evaluate.define_flags, evaluate.main, "", ["evaluate", *map(str, arguments)])


def test_run_stream_equals_one_unroll(monkeypatch):
    model = Sanas(spaces.kws_cnn(maps=(2, 2), num_classes=5), Controller(bias=0.0))
    params = init_model(model, jax.random.key(1))
    frontend = Frontend.create(mel_matrix())
    samples = np.random.default_rng(0).standard_normal(16_000 * 4 + 123).astype(np.float32)
    monkeypatch.setattr(stream_inference, "CHUNK_STEPS", 40)
    short = samples[: 16_000 * 2]
    outputs = stream_inference.run_group(
        model, False, [(params, frontend)], [1.0], [short, samples]
    )
    posteriors, live = outputs.posteriors[0][0][1], outputs.live[0][0][1]
    assert len(outputs.posteriors[0][0][0]) == 6  # the shorter stream, as far as it goes
    frames = extract(frontend, jax.numpy.asarray(samples))[None, ..., None]
    _, outs = unroll(
        model, params, init_carry(model, 1), frames, jax.random.key(0), policy=gates.mode
    )
    assert posteriors.shape == (model.num_steps(frames.shape[1]), 5) == (16, 5)
    np.testing.assert_array_equal(live, outs.live[:, 0])
    np.testing.assert_allclose(posteriors, jax.nn.softmax(outs.logits[:, 0]), atol=1e-5)


def test_run_stream_in_architectures_that_stay_the_same():
    model = Sanas(spaces.kws_cnn(maps=(2, 2), num_classes=5), Controller(bias=0.0))
    params = init_model(model, jax.random.key(1))
    frontend = Frontend.create(mel_matrix())
    samples = np.random.default_rng(0).standard_normal(16_000 * 2).astype(np.float32)
    everything = np.ones(len(model.net.edges), np.float32)
    one_path = everything.copy()
    one_path[[e for e in model.net.gated if e != model.net.gated[-1]]] = 0
    forced = np.stack([everything, one_path])
    own = [(params, frontend)]
    out = stream_inference.run_group(model, False, own, [1.0, 1.0], [samples], architectures=forced)
    frames = extract(frontend, jax.numpy.asarray(samples))[:, :, None]
    windows = np.stack([frames[i * 20 : i * 20 + model.window] for i in range(6)])
    for which, gates_of in enumerate(forced):
        live = prune(model.net, gates_of)
        logits = forward(model.net, params["net"], live, windows).logits
        np.testing.assert_array_equal(out.live[0][which][0], np.tile(live, (6, 1)))
        np.testing.assert_allclose(out.posteriors[0][which][0], jax.nn.softmax(logits), atol=1e-5)


def test_window_labels_need_more_than_half_a_window():
    stream = streams.Stream("s", np.zeros(16_000 * 4), 16_000, ["low"], [1000])
    times = 100 * np.arange(30)
    labels = streams.window_labels(stream, times, 1010, CLASSES)
    # Overlap of [t, t + 1010) and [1000, 2000) exceeds 505 ms for 500 ≤ t ≤ 1490.
    assert list(times[labels == 2]) == list(range(500, 1500, 100))
    assert set(labels) == {0, 2}


def test_evaluate_writes_the_contract(trained, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run_evaluate("--workdir", trained, *write_stream(tmp_path), "--json", out) == 0
    assert "2 words, 8 s" in capsys.readouterr().out
    result = json.loads(out.read_text())
    for rule in ("", "_list_rule"):
        assert result[f"match_pct{rule}"] == pytest.approx(
            result[f"correct_pct{rule}"] + result[f"wrong_pct{rule}"]
        )
    assert list(result) == KEYS
    assert result["num_words"] == 2
    assert result["tolerance_ms"] == 750
    assert result["seconds"] == 8
    assert 0 <= result["macs_per_frame"] <= result["full_macs_per_frame"]
    assert result["macs_per_frame_with_controller"] > result["macs_per_frame"]
    assert 0 <= result["macs_per_frame_incremental"] <= result["macs_per_frame"]
    assert 0 < result["full_macs_per_frame_incremental"] < result["full_macs_per_frame"]
    assert set(result["macs_per_frame_by_label"]) == {"silence", "unknown", "low"}
    assert result["gate_usage"].keys() >= {"conv_0", "shortcut_0", "out"}
    assert result["ms_per_frame"] > 0
    trace = np.load(trained / "evaluations" / "s.npz")
    assert len(trace["times_ms"]) == len(trace["posteriors"]) == len(trace["labels"]) == 36


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("hello, 1000\n", "expected a word of ['_unknown_', 'low', 'mid', 'high'], got 'hello'"),
        ("low 1000\n", ":1: expected `word, ms`"),
        ("low, soon\n", ":1: expected `word, ms`"),
        ("\n", "expected at least one line"),
    ],
)
def test_bad_labels_are_one_line(trained, tmp_path, capsys, labels, message):
    assert run_evaluate("--workdir", trained, *write_stream(tmp_path, labels)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bad_streams_are_one_line(trained, tmp_path, capsys, monkeypatch):
    stream = write_stream(tmp_path)
    cases = [
        (["--workdir", trained, *stream[:2], "--labels", "/nowhere"], "--labels: expected a file"),
        (["--workdir", tmp_path, *stream], "expected a folder with a run"),
        (["--workdir", trained, *stream, "--checkpoint", "77"], "expected 'latest' or one of"),
        (["--workdir", trained, "--stream", "/no.wav"], "--stream: expected a file"),
        (["--workdir", trained, *stream, *stream[:2]], "expected one per --stream or none"),
        (["--workdir", trained, *stream, *stream], "expected files of different names"),
        (["--workdir", trained, *stream, "--budgets=1M"], "a run with model.conditioned, got none"),
        (["--workdir", trained, *stream, "--cost_weights=1"], "--cost_weights: expected a run"),
    ]
    for arguments, message in cases:
        assert run_evaluate(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert run_evaluate("--workdir", trained, *write_stream(tmp_path, rate=8000)) == 1
    assert "expected 16000 Hz, got 8000 Hz" in capsys.readouterr().err
    assert (
        run_evaluate("--workdir", trained, *write_stream(tmp_path, "low, 500\n", seconds=0.9)) == 1
    )
    assert "expected at least 1.01 s of audio" in capsys.readouterr().err
    assert run_evaluate("--workdir", trained, *write_stream(tmp_path, "low, 8000\n")) == 1
    assert "--labels: expected times within the 8 s of" in capsys.readouterr().err
    stream = write_stream(tmp_path)
    audio = (tmp_path / "s.wav").read_bytes()
    (tmp_path / "s.json").write_text("{}")
    for flag, name in (
        *(("json", name) for name in ("s.wav", "s.json", "s_labels.txt", "a/../s.wav")),
        ("figure", "s.wav"),
        ("curve", "s.wav"),
    ):
        assert run_evaluate("--workdir", trained, *stream, f"--{flag}", tmp_path / name) == 1
        assert f"--{flag}: expected a file of its own, got" in capsys.readouterr().err
    both = ["--json", tmp_path / "both", "--curve", tmp_path / "both"]
    assert run_evaluate("--workdir", trained, *stream, *both) == 1
    assert "--curve: expected a file of its own" in capsys.readouterr().err
    (tmp_path / "a=b").mkdir()
    for source, out in (("a=b", "a=b/x.json"), ("n=a=b", "a=b/x.json"), ("n=s.wav", "s.wav")):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            sources = ["--workdir", trained, "--negatives", source]
            assert run_evaluate(*sources, "--json", out) == 1
            assert "--json: expected a file of its own" in capsys.readouterr().err
            if "a=b" in source:  # in which there is no audio
                assert run_evaluate(*sources, "--json", "b") == 1
                assert "--negatives: expected audio in a=b" in capsys.readouterr().err
    assert run_evaluate("--workdir", trained, *stream, "--json=") == 1
    assert "--json: expected the name of a file, got ''" in capsys.readouterr().err
    assert (tmp_path / "s.wav").read_bytes() == audio
    (tmp_path / "s.wav").write_bytes(b"RIFF not really")
    assert run_evaluate("--workdir", trained, *stream) == 1
    assert "s.wav: expected audio" in capsys.readouterr().err


def test_negatives_are_scored_without_labels(trained, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(1)
    for name, seconds in (("a", 3), ("b", 0.5)):
        samples = 0.1 * rng.standard_normal(int(16_000 * seconds))
        (tmp_path / "room").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "room" / f"{name}.flac", samples, 16_000)
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\nb.flac\tlow\n")
    out = tmp_path / "out.json"
    command = ["--workdir", trained, "--negatives", tmp_path / "room", "--json", out]
    assert run_evaluate(*command, "--heard", table, "--threshold=0.2") == 0
    result = json.loads(out.read_text())
    assert (result["negatives"], result["recordings"], result["seconds"]) == ("room", 1, 3.0)
    assert result["heard"]["seconds"] == 0.5
    assert set(result["by_word"]) == {"low", "mid", "high"}
    assert sum(word["alarms"] for word in result["by_word"].values()) == result["alarms"]
    said = capsys.readouterr().out
    assert "on room, 0.00 h without words" in said.splitlines()[0]
    kept = trained / "evaluations" / "negatives" / "default" / "room.json"
    assert json.loads(kept.read_text()) == result

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert run_evaluate(*command[:4]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: --workdir: expected a folder that can be written, got ")
    assert said.out == ""

    figure = tmp_path / "alarms.png"
    stream = write_stream(tmp_path)
    assert run_evaluate(*command, *stream, "--figure", figure) == 0
    assert figure.read_bytes().startswith(b"\x89PNG")

    cases = [
        (["--workdir", trained], "--stream, --negatives: expected the WAV of a stream or audio"),
        (
            [*command[:2], "--negatives", tmp_path / "no"],
            "--negatives: expected a folder or a file",
        ),
        ([*command[:2], *stream, "--heard", table], "--heard: expected it with"),
        ([*command[:2], *stream, "--figure", figure], "--figure: expected it with --stream and"),
    ]
    for arguments, message in cases:
        assert run_evaluate(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def train(folder, *extra):
    settings = ["model.maps=2,2", "model.state_size=4", "train.steps=4", "train.batch_size=4"]
    settings += ["model.gate_bias=0"]
    settings += ["train.log_every=2", "train.eval_every=4", "data.max_seconds=1.6", *extra]
    flags = [f"--set={setting}" for setting in settings]
    paths = [f"--data={folder.parent / 'cache'}", f"--workdir={folder}"]
    return ["x", f"--config={CONFIG}", *paths, *flags]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A sweep of two prices, and a network conditioned on its price."""
    root = tmp_path_factory.mktemp("many")
    write_toy_cache(root / "cache")
    command = [*train(root / "sweep"), "--cost_weights=0.1,2"]
    assert run(sweep.define_flags, sweep.main, "", command) == 0
    command = train(root / "any", "model.conditioned=true")
    assert run(launch.define_flags, launch.main, "", command) == 0
    return root


@pytest.mark.slow
def test_one_pass_over_runs_and_streams_equals_each_alone(many, trained, tmp_path):
    for name, seconds in (("one", 8), ("two", 6)):
        write_stream(tmp_path, seconds=seconds)
        (tmp_path / "s.wav").rename(tmp_path / f"{name}.wav")
        (tmp_path / "s_labels.txt").rename(tmp_path / f"{name}_labels.txt")
    wavs = [f"--stream={tmp_path / name}.wav" for name in ("one", "two")]
    out = tmp_path / "all.json"
    workdirs = ["--workdir", many / "sweep", "--workdir", trained]
    assert run_evaluate(*workdirs, *wavs, "--json", out, "--budgets_per_step=2") == 0
    together = json.loads(out.read_text())
    names = {(r["workdir"], r["stream"]): r for r in together}
    assert len(names) == 6
    folders = [many / "sweep" / "lambda_0.1", many / "sweep" / "lambda_2", trained]
    for folder in folders:
        assert run_evaluate("--workdir", folder, wavs[1], "--json", out) == 0
        alone = json.loads(out.read_text())
        for name in ("correct_pct", "macs_per_frame", "gate_usage"):
            assert names[folder.name, "two"][name] == pytest.approx(alone[name], rel=1e-5)
    curve = json.loads((many / "sweep" / "curve.json").read_text())
    assert [point["cost_weight"] for point in curve] == [0.1, 2, 0.1]
    assert curve[0]["streams"] == ["one", "two"]


def test_roc_finds_a_word_below_its_posterior_and_not_above():
    """A `low` with posterior 0.62 for a second, in an otherwise silent stream."""
    times = 200 * np.arange(40)
    near = (times >= 3000) & (times <= 4000)
    posteriors = np.zeros((40, len(CLASSES)), np.float32)
    posteriors[:, 0] = 1
    posteriors[near, 0], posteriors[near, 2] = 0.38, 0.62
    trace = Trace(times, posteriors, np.ones((40, 1)), np.where(near, 2, 0))
    stream = streams.Stream("s", np.zeros(16_000 * 9), 16_000, ["low"], [3400])
    rows = scoring.roc(stream, trace, Detector(threshold=0.31), CLASSES, 750)
    thresholds = [row["threshold"] for row in rows]
    assert thresholds == sorted(thresholds)
    assert 0.31 in thresholds  # the one in use
    found = {row["threshold"]: row["correct_pct"] for row in rows}
    assert found[0.31] == found[0.6] == 100
    assert found[0.65] == found[0.99] == 0


def test_conditioned_network_is_run_at_its_prices_and_at_budgets(many, tmp_path, capsys):
    stream, folder, out = write_stream(tmp_path), many / "any", tmp_path / "out.json"
    assert run_evaluate("--workdir", folder, *stream, "--json", out) == 0
    results = json.loads(out.read_text())
    table = trained_models.calibration(folder)
    assert [r["cost_weight"] for r in results] == [row["cost_weight"] for row in table]
    assert len(list((folder / "evaluations").glob("s@*.npz"))) == 9
    assert run_evaluate("--workdir", folder, *stream, "--budgets=1") == 1
    assert "the prices that the network learnt; got 1" in capsys.readouterr().err
    # Told prices are run as they are, at both ends of what was learnt.
    assert run_evaluate("--workdir", folder, *stream, "--cost_weights=5,0.1", "--json", out) == 0
    assert [r["cost_weight"] for r in json.loads(out.read_text())] == [5, 0.1]
    ends = {table[0]["cost_weight"]: results[0], table[-1]["cost_weight"]: results[-1]}
    for result in json.loads(out.read_text()):
        assert result["macs_per_frame"] == ends[result["cost_weight"]]["macs_per_frame"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cost_weights=0.1,6"], "from 0.1 to 5, the prices that any learnt; got 6"),
        (["--cost_weights=0"], "--cost_weights: expected numbers above 0, got '0'"),
        (["--cost_weights=x"], "--cost_weights: expected numbers above 0, got 'x'"),
        (["--cost_weights=1", "--budgets=1M"], "expected one of them, got both"),
    ],
)
def test_prices_that_cannot_be_told_are_one_line(many, tmp_path, capsys, arguments, message):
    assert run_evaluate("--workdir", many / "any", *write_stream(tmp_path), *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_price_for_a_budget_lies_between_measured_ones():
    macs = [800.0, 400.0, 410.0, 100.0]  # noise: the third spends more than the second
    table = [
        {"cost_weight": w, "macs_per_frame": m} for w, m in zip((0.1, 1, 2, 10), macs, strict=True)
    ]
    assert trained_models.price_for(800, table) == pytest.approx(0.1)
    assert trained_models.price_for(100, table) == pytest.approx(10)
    assert 0.1 < trained_models.price_for(600, table) < 1
    assert 2 < trained_models.price_for(200, table) < 10
    with pytest.raises(ValueError, match="expected budgets from 100 to 800 MACs"):
        trained_models.price_for(99, table)
