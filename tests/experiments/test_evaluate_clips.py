"""Clip accuracy: what a network hears of a clip, figures counted by hand, the command."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.command.cli import run
from data_prep.speech.cache import CLIP_SAMPLES
from experiments import evaluate_clips
from experiments.config import ModelConfig
from experiments.datasets.clips import ClipSet, Noise, noise_under
from experiments.evaluation import clips as clips_lib
from experiments.evaluation.clips import Answers, ask, by_speaker, make_answer, score_answers
from experiments.runs import packed as packed_models
from experiments.runs.trained import read_model
from sanas_jax import gates
from sanas_jax.data.features import extract
from sanas_jax.forward import forward
from sanas_jax.rollout import init_carry, unroll
from tests.helpers.packed import write_packed
from tests.helpers.toy import write_toy_cache

STATIC = ModelConfig(maps=(2, 2), state_size=4, static=True)
GATED = ModelConfig(maps=(2, 2), state_size=4, gate_bias=0.3)


def run_clips(*arguments: Any) -> int:
    command = ["evaluate_clips", *map(str, arguments)]
    return run(evaluate_clips.define_flags, evaluate_clips.main, "", command)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_cache(tmp_path_factory.mktemp("clips") / "toy")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packed models, as the package would have them."""
    monkeypatch.setattr(packed_models, "SHIPPED", tmp_path / "shipped")
    write_packed(tmp_path / "shipped" / "static", STATIC)
    write_packed(tmp_path / "shipped" / "gated", GATED)
    return tmp_path / "shipped"


def some_clips(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (3000 * rng.standard_normal((count, CLIP_SAMPLES))).astype(np.int16)


def test_a_static_network_hears_the_clip_alone(shipped: Path) -> None:
    model = read_model("pretrained:static")
    clips = some_clips(3)
    frames = extract(model.info.frontend, jnp.asarray(clips, jnp.float32) / 32768)[..., None]
    net = model.sanas.net
    logits, *_ = forward(net, model.params["net"], jnp.ones(len(net.edges)), frames)
    answer = make_answer(model)
    predictions, live = answer(model.params, model.info.frontend, 1.0, clips)
    np.testing.assert_array_equal(predictions, logits.argmax(-1))
    assert live.shape == (3, len(net.edges))
    assert live.all()


def test_a_gated_network_hears_the_clip_as_third_of_five_steps(shipped: Path) -> None:
    model = read_model("pretrained:gated")
    clips = some_clips(6)
    # 5 windows of 1 s every 200 ms are 1.8 s; the third begins at 400 ms.
    signal = np.zeros((6, 28_800), np.float32)
    signal[:, 6_400:22_400] = clips / np.float32(32768)
    frames = extract(model.info.frontend, jnp.asarray(signal))[..., None]
    sanas = model.sanas
    carry = init_carry(sanas, 6)
    _, outs = unroll(sanas, model.params, carry, frames, jax.random.key(0), policy=gates.mode)
    assert len(outs.logits) == 5
    answer = make_answer(model)
    predictions, live = answer(model.params, model.info.frontend, 1.0, clips)
    np.testing.assert_array_equal(predictions, outs.logits[2].argmax(-1))
    np.testing.assert_array_equal(live, outs.live[2])
    assert not np.array_equal(outs.live[2], outs.live[0])  # the state has heard something


def test_ask_does_not_depend_on_the_batch(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = read_model("pretrained:gated"), some_clips(5)
    whole = ask(model, make_answer(model), 1.0, clips)
    monkeypatch.setattr(clips_lib, "BATCH", 2)
    parts = ask(model, make_answer(model), 1.0, clips)
    assert whole.predictions.shape == (5,)
    np.testing.assert_array_equal(whole.predictions, parts.predictions)
    np.testing.assert_array_equal(whole.live, parts.live)


def test_prices_and_ratios_of_noise_share_their_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        traced.append(1)
        return unroll(*args, **kwargs)

    monkeypatch.setattr(clips_lib, "unroll", counted)
    monkeypatch.setattr(clips_lib, "BATCH", 2)
    write_packed(tmp_path / "told", dataclasses.replace(GATED, conditioned=True))
    model, clips = read_model(tmp_path / "told"), some_clips(2)
    answer = make_answer(model)
    noises = [None, *(Noise([np.full(100, 9, np.int16)], ratio) for ratio in (3.0, 9.0))]
    lives = [
        [ask(model, answer, price, clips, noise).live.tolist() for noise in noises]
        for price in (1e-9, 1e9)
    ]
    assert len(traced) == 2  # with noise and without
    assert lives[0] != lives[1]  # yet each hears its own price


def test_noise_has_the_asked_ratio_and_hangs_on_the_clip_alone() -> None:
    rng = np.random.default_rng(5)
    bursts = [
        np.repeat(rng.integers(0, 9000, n), 50) * rng.choice((-1, 1), 50 * n) for n in (9, 999)
    ]
    tracks = [track.astype(np.int16) for track in bursts]
    clips = some_clips(6) // np.arange(1, 7, dtype=np.int16)[:, None]
    clips[4] = 0
    around = (7000, 5000)
    heard = noise_under(Noise(tracks, 7.0), clips, 3, around)
    assert (heard.dtype, heard.shape) == (np.float32, (6, CLIP_SAMPLES + sum(around)))
    assert not heard[4].any()  # to silence there is no ratio
    kept, inside = [0, 1, 2, 3, 5], heard[:, 7000:-5000]
    power = np.mean((clips[kept] / 2**15) ** 2, 1) / np.mean(inside[kept] ** 2, 1)
    np.testing.assert_allclose(10 * np.log10(power), 7, atol=1e-3)
    alone = noise_under(Noise(tracks, 7.0), clips[2:], 5)
    np.testing.assert_array_equal(alone, inside[2:])
    cut = noise_under(Noise(tracks, -13.0), clips, 3, (-100, 20))
    power = np.mean((clips[0] / 2**15) ** 2) / np.mean(cut[0, :-20] ** 2)
    assert 10 * np.log10(power) == pytest.approx(-13, abs=1e-3)
    # In order, and from the beginning again after the end.
    ramp = np.arange(-7000, 7000, dtype=np.int16)
    steps = np.diff(noise_under(Noise([ramp], 7.0), clips[:1], 0, around)[0])
    assert 1 <= (steps < 0).sum() <= 3
    np.testing.assert_allclose(steps[steps > 0], np.median(steps), rtol=1e-2)


def test_ask_hears_the_noise_of_each_clip(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def under(noise: Noise, clips: np.ndarray, first: int, around: tuple[int, int]) -> np.ndarray:
        asked.append((first, around))
        return np.float32(noise.snr_db) * np.sin(np.arange(CLIP_SAMPLES + sum(around)) / 9)[None]

    model, clips = read_model("pretrained:gated"), some_clips(5) // 50
    plain = ask(model, make_answer(model), 0.0, clips)
    monkeypatch.setattr(clips_lib, "BATCH", 2)
    monkeypatch.setattr(clips_lib, "noise_under", under)
    around = clips_lib._around(model)
    silent = ask(model, make_answer(model), 0.0, clips, Noise([], 0.0))
    assert asked == [(0, around), (0, around), (2, around), (4, around)]  # the first to compile
    np.testing.assert_array_equal(silent.live, plain.live)
    loud = ask(model, make_answer(model), 0.0, clips, Noise([], 0.5))
    assert (loud.predictions != plain.predictions).any() or (loud.live != plain.live).any()


def test_noise_is_heard_under_and_around_a_clip(shipped: Path) -> None:
    model, clips = read_model("pretrained:gated"), some_clips(3)
    answer = make_answer(model)
    before, after = clips_lib._around(model)
    assert min(before, after) > 0
    under = np.zeros((3, before + CLIP_SAMPLES + after), np.float32)
    given = (model.params, model.info.frontend, 1.0)
    plain = answer(*given, jnp.asarray(clips))
    for one, other in zip(plain, answer(*given, jnp.asarray(clips), under), strict=True):
        np.testing.assert_array_equal(one, other)
    # The whole of what is heard may as well be background.
    under[:, before : before + CLIP_SAMPLES] = clips / np.float32(2**15)
    moved = answer(*given, jnp.zeros_like(jnp.asarray(clips)), under)
    for one, other in zip(plain, moved, strict=True):
        np.testing.assert_array_equal(one, other)


def test_noise_is_asked_for_in_decibels(
    shipped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    command = ["--pretrained=static", "--json", out]
    assert run_clips(*command, "--data", cache, "--snr_db=20,-5.5,20.0") == 0
    found = json.loads(out.read_text())
    assert [each["snr_db"] for each in found] == [None, 20.0, -5.5]
    assert all(np.sum(each["confusion"]) == 20 for each in found)
    assert "testing in noise at -5.5 dB: accuracy" in capsys.readouterr().out
    quiet = write_toy_cache(tmp_path / "quiet", noise=False)
    for data, asked, message in (
        (cache, "20,loud", "--snr_db: expected numbers from -200 to 200, got 'loud'"),
        (cache, "-201", "--snr_db: expected numbers from -200 to 200, got '-201'"),
        (quiet, "20", "--snr_db: expected a cache with background noise, got"),
    ):
        assert run_clips(*command, "--data", data, f"--snr_db={asked}") == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_score_answers_counts_by_hand(shipped: Path) -> None:
    model = read_model("pretrained:gated")
    edges = len(model.sanas.net.edges)
    labels = np.array([0, 1, 1, 1, 1, 2, 2, 3, 3])
    answers = np.array([0, 1, 2, 2, 2, 2, 2, 3, 0])
    live = np.zeros((9, edges))
    live[0] = 1  # one clip of nine runs everything
    clips = ClipSet(some_clips(9), labels, np.array([-1, 0, 0, 0, 0, 0, 1, 1, 1]))
    result = score_answers(model, clips, Answers(answers, live, 10.0))
    assert result["accuracy_pct"] == pytest.approx(100 * 5 / 9)
    # Two of the four unknown clips stay: 0, 2, 2, 3 are right of seven, and perhaps a 1.
    assert result["benchmark_num_clips"] == 7
    assert result["benchmark_accuracy_pct"] in (pytest.approx(400 / 7), pytest.approx(500 / 7))
    assert result["accuracy_pct_by_class"] == {
        "silence": 100,
        "unknown": 25,
        "low": 100,
        "mid": 50,
    }
    assert result["confusion"][1] == [0, 1, 3, 0, 0]
    assert result["confusion"][3] == [1, 0, 0, 1, 0]
    assert result["macs_per_clip"] == pytest.approx(result["full_macs_per_clip"] / 9)
    assert result["macs_per_clip_with_controller"] > result["macs_per_clip"]
    spoken = by_speaker(clips, answers == labels, ("ann", "bob"))
    assert spoken == {"ann": pytest.approx(40), "bob": pytest.approx(100 * 2 / 3)}


def test_the_command_writes_only_what_is_asked_of_packed_models(
    shipped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(shipped.rglob("*"))
    out = tmp_path / "out.json"
    names = ("--pretrained=static", "--pretrained=gated")
    assert run_clips(*names, "--data", cache, "--json", out, "--by_speaker") == 0
    static, gated = json.loads(out.read_text())
    assert static["num_clips"] == gated["num_clips"] == 20  # 4 of noise, 16 of the split
    assert static["macs_per_clip"] == static["full_macs_per_clip"]
    assert gated["macs_per_clip"] < gated["full_macs_per_clip"]
    assert np.sum(static["confusion"]) == 20
    assert list(static["accuracy_pct_by_speaker"]) == ["unknown"]
    assert sorted(shipped.rglob("*")) == before
    text = capsys.readouterr().out
    assert "static step 120, testing: accuracy" in text
    assert "speaker unknown: " in text


def test_the_result_of_a_run_is_kept(shipped: Path, cache: Path, tmp_path: Path) -> None:
    for noise, price, name in (
        (None, None, "toy_testing"),
        (None, 0.5, "toy_testing@0.5"),
        (10.0, None, "toy_testing_10dB"),
        (-2.5, 0.5, "toy_testing_-2.5dB@0.5"),
    ):
        result = {"cost_weight": price, "data": "toy", "split": "testing", "snr_db": noise}
        evaluate_clips.save(tmp_path / "run", result)
        kept = tmp_path / "run" / "evaluations" / "clips" / f"{name}.json"
        assert json.loads(kept.read_text()) == result


def test_data_without_noise_and_unknown_words_is_evaluated(shipped: Path, tmp_path: Path) -> None:
    quiet = write_toy_cache(tmp_path / "quiet", noise=False)
    labels = np.load(quiet / "labels.npy")
    np.save(quiet / "labels.npy", np.maximum(labels, 2).astype(np.int32))
    out = tmp_path / "out.json"
    assert run_clips("--pretrained=static", "--data", quiet, "--json", out) == 0
    result = json.loads(out.read_text())
    assert set(result["accuracy_pct_by_class"]) == {"low", "mid", "high"}
    assert result["benchmark_num_clips"] == result["num_clips"] == 16
    assert result["benchmark_accuracy_pct"] == result["accuracy_pct"]


def test_bad_input_is_one_line(
    shipped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_packed(shipped / "other", STATIC, ("_silence_", "_unknown_", "yes", "no"))
    (tmp_path / "old").mkdir()
    for path in cache.iterdir():
        if path.name != "speakers.npy":
            (tmp_path / "old" / path.name).write_bytes(path.read_bytes())
    old = ["--pretrained=static", "--data", tmp_path / "old"]
    cases = [
        (["--data", cache], "--workdir, --pretrained: expected a model, got none"),
        (["--pretrained=none", "--data", cache], "expected one of gated, other, static; got"),
        (["--pretrained=static", "--data", tmp_path], "expected a cache folder"),
        (["--pretrained=other", "--data", cache], "expected the classes silence, unknown, yes, no"),
        ([*old, "--by_speaker"], "expected a cache that knows its speakers"),
        (["--pretrained=static", "--data", cache, "--budgets=1M"], "model.conditioned, got none"),
    ]
    for arguments, message in cases:
        assert run_clips(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_errors_by_sound_and_group(
    shipped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "groups.tsv", tmp_path / "out.json"
    table.write_text("a.ogg\tfirst\n")
    command = ["--pretrained", "static", "--data", cache, "--json", out]
    assert run_clips(*command, "--by_sound", "--groups", table) == 1
    assert "--groups: expected clips of --data" in capsys.readouterr().err
    count = len((cache / "names.txt").read_text().splitlines())
    (cache / "names.txt").write_text("".join(f"{'ab'[n % 2]}.wav\n" for n in range(count)))
    assert run_clips(*command, "--by_sound", "--groups", table) == 0
    errors = json.loads(out.read_text())["errors"]
    assert list(errors) == ["level", "place", "group"]
    assert errors["group"]["first"]["clips"] == errors["group"]["others"]["clips"] == 8
    for part in errors.values():
        assert sum(found["clips"] for found in part.values()) == 16
    assert "word within: " in capsys.readouterr().out
    (cache / "names.txt").unlink()
    assert run_clips(*command, "--groups", table) == 1
    assert "--groups: expected a cache that knows its files" in capsys.readouterr().err
    assert run_clips(*command) == 0
    assert "errors" not in json.loads(out.read_text())
