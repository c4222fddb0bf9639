"""Talk that a network fires on: found by the one that a training starts from, and kept by runs."""

import dataclasses
import shutil

import numpy as np
import pytest

from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.config import Config, DataConfig, ModelConfig, TrainConfig, load_config, override
from experiments.config.checks import check
from experiments.datasets.speech import AudioSource
from experiments.evaluation.stream_inference import run_group
from experiments.runs.trained import read_model
from experiments.training import mining
from experiments.training.begin import begin
from experiments.training.extraction import extracted_config
from experiments.training.mining import likeliest, mine_talk, read_mined
from sanas_jax.data.clips import FIRST_WORD
from tests.helpers.packed import write_conditioned_run, write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SMALL = ModelConfig(maps=(2, 2), state_size=4)
# Samples between two windows, and of one; recordings of talk, the second shorter than a window.
HOP, WINDOW, TALK = 3_200, 16_000, (96_000, 8_000, 64_000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The toy data with talk: noise whose loudness and colour change every 0.1 s."""
    path = write_toy_cache(tmp_path_factory.mktemp("mining") / "cache")
    rng = np.random.default_rng(0)
    rows = []
    for i, size in enumerate(TALK):
        noise = (
            rng.standard_normal((size // 1_600, 1_600)) * rng.uniform(0, 3_000, (size, 1))[::1_600]
        )
        tone = np.sin(np.arange(1_600) * rng.uniform(0.1, 1.5, (size // 1_600, 1))) * 4_000
        audio = (noise + tone).astype(np.int16).ravel()
        audio[-1] = 0
        rows.append(NegativeRow(audio, f"{i}.wav", "speech", 0, False))
    write_negatives(path, [*rows, rows[0]._replace(split=1)])
    return path


def begin_runs(cache, source, *workdirs, settings=()):
    """The mined stretches that the runs draw, and the source's samples of talk."""
    config, _ = load_config(CONFIG)
    paths = [f"data.cache={cache}"] + ([f"train.init_from={source}"] if source else [])
    small = ("model.maps=2,2", "model.state_size=4", "data.max_seconds=1.2")
    mined = ("data.negative_speech=0.5", "data.negative_mined=0.5")
    config = override(config, [*paths, *small, *mined, *settings])
    configs = [
        dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        for seed in range(len(workdirs))
    ]
    with begin(configs, workdirs, CONFIG) as job:
        return np.asarray(job.data.training.negatives.mined)


def test_likeliest_are_the_highest_of_their_neighbours(monkeypatch):
    scores = np.array([0.9, 0.8, 0.1, 0.6, 0.6, 0.7, 0.2, -np.inf, 0.3, 0.1, 0.4])
    monkeypatch.setattr(mining, "LEAST", 1)
    assert likeliest(scores).tolist() == [0, 5]
    monkeypatch.setattr(mining, "LEAST", 3)
    assert likeliest(scores).tolist() == [0, 5, 10]
    monkeypatch.setattr(mining, "LEAST", 9)
    assert likeliest(scores).tolist() == [0, 5, 8, 10]
    assert likeliest(np.array([0.2, 0.2])).tolist() == [1], "a plateau has one place"


@pytest.mark.parametrize("kind", ["static", "gated", "conditioned"])
def test_mine_talk_finds_what_evaluate_hears(cache, tmp_path, monkeypatch, kind, capsys):
    if kind == "conditioned":
        write_conditioned_run(tmp_path / "source")
    else:
        write_packed(tmp_path / "source", dataclasses.replace(SMALL, static=kind == "static"))
    data = AudioSource(DataConfig(cache=str(cache), negative_speech=1.0))
    model = read_model(tmp_path / "source")
    samples = np.concatenate([data.training.negatives.speech.samples]) / np.float32(32768)
    own = [(model.params, model.info.frontend)]
    prices = model.prices[:: len(model.prices) - 1] if kind == "conditioned" else model.prices
    heard = run_group(model.sanas, model.static, own, prices, [samples]).posteriors[0]
    words = heard[0][0][:, FIRST_WORD:]
    if kind == "conditioned":
        assert np.abs(words - heard[1][0][:, FIRST_WORD:]).max() > 1e-4, "prices are told apart"
    mined = mine_talk(data, str(tmp_path / "source"))
    window = mined.stretches[:, 0] // HOP
    np.testing.assert_array_equal(mined.stretches, window[:, None] * HOP + [0, WINDOW])
    # None across the ends of recordings.
    ends = np.cumsum(TALK)
    first = np.arange(len(words)) * HOP
    within = np.searchsorted(ends, first, "right") == np.searchsorted(
        ends, first + WINDOW - 1, "right"
    )
    assert 10 < within.sum() < len(words)
    scores = np.where(within, words.max(1), -np.inf)
    np.testing.assert_array_equal(window, likeliest(scores))
    fires = np.count_nonzero(scores[window] > mining.FIRES) or "none"
    said = f"mined {len(window)} places, the likeliest of 0.2 minutes of running speech; "
    assert f"{said}{tmp_path / 'source'} fires at {fires} of them" in capsys.readouterr().out
    # In pieces, several at once, as in one: of a static network, whose windows have no past.
    if kind == "static":
        monkeypatch.setattr(mining, "PIECE", 7)
        monkeypatch.setattr(mining, "PIECES", 3)
        inner = ~np.isin(window % 7, (0, 1, 5, 6))  # at its ends a piece hears silence beyond
        assert inner.sum() > 3
        pieces = mine_talk(data, str(tmp_path / "source"))
        assert set(mined.stretches[inner, 0]) <= set(pieces.stretches[:, 0])


def test_a_run_keeps_what_was_mined_and_goes_on_with_it(cache, tmp_path):
    write_packed(tmp_path / "source", SMALL)
    run = tmp_path / "run"
    drawn = begin_runs(cache, tmp_path / "source", run)
    data = AudioSource(DataConfig(cache=str(cache), negative_speech=1.0))
    kept = read_mined(run, data)
    np.testing.assert_array_equal(drawn, kept.stretches)
    # Killed before anything was saved: mined again, to the same.
    shutil.rmtree(run / "checkpoints")
    (run / mining.FILE).unlink()
    np.testing.assert_array_equal(begin_runs(cache, tmp_path / "source", run), drawn)
    np.testing.assert_array_equal(read_mined(run, data).stretches, drawn)
    # Later the source may be gone: the file is what counts.
    shutil.rmtree(tmp_path / "source")
    mining.write_mined(run, kept._replace(stretches=drawn[1:]))
    np.testing.assert_array_equal(begin_runs(cache, tmp_path / "source", run), drawn[1:])


def test_runs_that_are_trained_together_draw_the_same(cache, tmp_path):
    write_packed(tmp_path / "source", SMALL)
    runs = [tmp_path / "a", tmp_path / "b"]
    begin_runs(cache, tmp_path / "source", *runs)
    data = AudioSource(DataConfig(cache=str(cache), negative_speech=1.0))
    kept = read_mined(runs[1], data).stretches
    np.testing.assert_array_equal(read_mined(runs[0], data).stretches, kept)
    # One had saved nothing yet, and the source has been trained further meanwhile.
    shutil.rmtree(runs[0] / "checkpoints")
    shutil.rmtree(tmp_path / "source")
    write_packed(tmp_path / "source", SMALL, seed=8)
    drawn = begin_runs(cache, tmp_path / "source", *runs)
    np.testing.assert_array_equal(drawn, kept)
    np.testing.assert_array_equal(read_mined(runs[0], data).stretches, kept)


def test_what_cannot_be_mined_is_refused_before_anything_is_written(cache, tmp_path):
    run, source = tmp_path / "run", tmp_path / "source"
    for start, settings, message in (
        (None, (), r"'data.negative_mined': expected train.init_from \(--init_from\)"),
        (source, ("data.negative_speech=0",), "negative_mined: expected negative_speech above 0"),
        (tmp_path / "others", (), r"of the data's classes \(_silence_, .*, high, mid, low$"),
        (source, ("data.negative_mined=1.5",), r"expected a number in \[0, 1\], got 1.5"),
    ):
        write_packed(source, SMALL)
        write_packed(tmp_path / "others", SMALL, ("_silence_", "_unknown_", "high", "mid", "low"))
        with pytest.raises(ValueError, match=message):
            begin_runs(cache, start, run, settings=settings)
        assert not run.exists()
        shutil.rmtree(source)
        shutil.rmtree(tmp_path / "others")


def test_talk_that_is_shorter_than_a_window_is_refused(tmp_path):
    write_packed(tmp_path / "source", SMALL)
    path = write_toy_cache(tmp_path / "cache")
    short = NegativeRow(np.ones(12_000, np.int16), "short.wav", "speech", 0, False)
    write_negatives(path, [short, short, short._replace(split=1)])
    with pytest.raises(ValueError, match="expected recordings of running speech of 1 s or more"):
        begin_runs(path, tmp_path / "source", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_kind_or_of_other_talk_is_refused(cache, tmp_path):
    write_packed(tmp_path / "source", SMALL)
    run = tmp_path / "run"
    begin_runs(cache, tmp_path / "source", run)
    kept = read_mined(run, AudioSource(DataConfig(cache=str(cache), negative_speech=1.0)))
    mining.write_mined(run, kept._replace(talk="that of other clips"))
    with pytest.raises(ValueError, match=r"mined.npz: expected what was mined in the running spe"):
        begin_runs(cache, tmp_path / "source", run)
    for wrong in (
        kept.stretches[:0],
        kept.stretches[:, ::-1],
        kept.stretches - np.int32(sum(TALK)),
        kept.stretches + np.int32(sum(TALK)),
        kept.stretches.astype(float),
    ):
        mining.write_mined(run, kept._replace(stretches=wrong))
        with pytest.raises(ValueError, match=r"mined.npz: expected mined talk"):
            begin_runs(cache, tmp_path / "source", run)
    (run / mining.FILE).unlink()
    with pytest.raises(ValueError, match=r"expected the run's file .*mined.npz, got none"):
        begin_runs(cache, tmp_path / "source", run)
    (run / mining.FILE).write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"mined.npz: expected mined talk"):
        begin_runs(cache, tmp_path / "source", run)


def test_an_extracted_architecture_mines_nothing():
    data = DataConfig(negative_speech=0.5, negative_mined=0.5)
    config = Config(data=data, train=TrainConfig(init_from="runs/any"))
    check(config)
    check(extracted_config(config, ["conv_0"], 10))
