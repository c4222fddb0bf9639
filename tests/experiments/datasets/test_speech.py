"""Batches of a source of audio: what is varied in training, and not in validation."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from data_prep.speech.cache import MEL_SHAPE, CacheRow, write_cache
from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.config import Config, DataConfig, Hooks, ModelConfig, override
from experiments.config.build import build_training
from experiments.datasets import speech
from experiments.datasets.speech import AudioSource
from experiments.training import begin
from sanas_jax.data.recipe import Recipe

# Programs that differ in where clips come from may round a product and a sum at once, or not.
ROUNDING = 1e-4

VARIED = (
    "data.speed_range=0.5,0.6",
    "data.gain_range=(0.1,0.2)",
    "data.time_masks=2",
    "data.frequency_masks=1",
)
SHARED = (
    "data.min_seconds=2.0",
    "data.max_seconds=2.0",
    "data.words_per_item=2",
    "data.cut_words=true",
    "data.snr_range_db=5,5",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "cache"
    rng = np.random.default_rng(0)
    rows = [
        CacheRow(rng.integers(-3000, 3000, 16000, np.int16), label, label - 1, split)
        for label in (1, 2, 3)
        for split in (0, 1)
    ]
    write_cache(
        folder,
        iter(rows),
        noise=[rng.integers(-900, 900, 40000, np.int16)],
        mel=rng.uniform(0, 1, MEL_SHAPE).astype(np.float32),
        classes=("_silence_", "_unknown_", "yes", "no"),
        all_words=("bed", "yes", "no"),
        provenance={"sha256": "ab" * 32},
    )
    model = ModelConfig(maps=(4, 4), static=True)
    return Config(model=model, data=DataConfig(cache=str(folder)))


def assert_same_batch(ours, theirs):
    np.testing.assert_allclose(ours.features, theirs.features, atol=ROUNDING)
    jax.tree.map(np.testing.assert_array_equal, ours[1:], theirs[1:])


def settings_of(config):
    return build_training(config, 4, Hooks()).settings


def test_settings_are_those_of_the_config(config):
    changed = override(config, [*VARIED, *SHARED, "data.overlap=0.25", "data.white_noise=0.5"])
    settings = settings_of(changed)
    assert (settings.window, settings.hop_frames) == (101, 20)
    for field in dataclasses.fields(Recipe):
        assert getattr(settings, field.name) == getattr(changed.data, field.name)
    assert settings.speed_range == (0.5, 0.6)
    assert settings.snr_range_db == (5.0, 5.0)
    with pytest.raises(ValueError, match="speed_range: expected two factors above 0, the lower"):
        settings_of(override(config, ["data.speed_range=2,1"]))


@pytest.mark.slow
def test_audio_source_varies_training_alone(config, monkeypatch):
    monkeypatch.setattr(speech, "STATISTICS_BATCHES", 1)
    monkeypatch.setattr(speech, "STATISTICS_SIZE", 4)
    source = AudioSource(config.data)
    plain, varied = (
        settings_of(override(config, changes)) for changes in (SHARED, [*SHARED, *VARIED])
    )
    frontend, weights = source.fit(plain, jax.random.key(0))
    same, same_weights = source.fit(varied, jax.random.key(0))
    np.testing.assert_array_equal(same.mean, frontend.mean)
    np.testing.assert_array_equal(same_weights, weights)

    key = jax.random.key(1)
    before, after = (
        source.validation(frontend, settings, key, 4, 1)[0] for settings in (plain, varied)
    )
    np.testing.assert_array_equal(before.features, after.features)
    np.testing.assert_array_equal(before.labels, after.labels)

    draw = jax.jit(source.draw, static_argnums=2)
    quiet, masked = (
        draw(source.training, frontend, settings, key, np.arange(4)) for settings in (plain, varied)
    )
    assert quiet.features.shape == masked.features.shape == (4, 201, 40, 1)
    np.testing.assert_array_equal(quiet.labels, masked.labels)
    values = np.array(masked.features[..., 0])
    assert not (np.array(quiet.features) == 0).any()
    frames, bins = (values == 0).all(2), (values == 0).all(1)
    np.testing.assert_array_equal(values == 0, frames[:, :, None] | bins[:, None, :])
    assert frames.any()
    assert bins.any()
    kept = values != 0
    assert (values[kept] != np.array(quiet.features[..., 0])[kept]).mean() > 0.9


@pytest.mark.slow
def test_clips_that_stay_on_the_host_give_the_same_batches(config, monkeypatch):
    monkeypatch.setattr(speech, "STATISTICS_BATCHES", 2)
    monkeypatch.setattr(speech, "STATISTICS_SIZE", 4)
    talk = NegativeRow(np.full(1_600, 77, np.int16), "talk.wav", "speech", 0, False)
    negatives = [talk, talk._replace(name="more.wav", split=1)]
    write_negatives(Path(config.data.cache), negatives)
    config = override(config, [*SHARED, *VARIED, "data.negative_speech=0.5"])
    settings = settings_of(config)
    # Training and validation have six clips of 32,000 bytes.
    here, there = AudioSource(config.data, limit=192_000), AudioSource(config.data, limit=191_999)
    assert (here.streams, there.streams) == (False, True)
    assert there.training.samples.shape == (0, 16_000)
    assert here.feed(settings, jax.random.split(jax.random.key(2), 3), 4) is None

    frontend, weights = here.fit(settings, jax.random.key(0))
    other, other_weights = there.fit(settings, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, (other, other_weights), (frontend, weights))
    keys = jax.random.split(jax.random.key(2), 3)
    for ours, theirs in zip(
        here.validation(frontend, settings, keys[0], 4, 2),
        there.validation(frontend, settings, keys[0], 4, 2),
        strict=True,
    ):
        assert_same_batch(ours, theirs)

    sent = there.feed(settings, keys, 4)
    assert sent.shape == (3, 4, 2, 16_000)
    draw = jax.jit(AudioSource.draw, static_argnums=2)
    for key, of_batch in zip(keys, sent, strict=True):
        resident = draw(here.training, frontend, settings, key, np.arange(4))
        streamed = draw(there.training, frontend, settings, key, np.arange(4), of_batch)
        assert_same_batch(resident, streamed)
    # Some rows of a batch, as a device draws them.
    rows = np.array([3, 1])
    part = draw(there.training, frontend, settings, keys[2], rows, sent[2][rows])
    np.testing.assert_allclose(part.features, resident.features[rows], atol=ROUNDING)
    with pytest.raises(ValueError, match="sounds: expected the samples of the chosen clips"):
        draw(there.training, frontend, settings, keys[0], rows)


def test_what_has_no_training_clips_is_named(tmp_path):
    rows = [
        CacheRow(np.ones(9, np.int16), label, label - 1, split)
        for label, split in ((1, 1), (2, 0), (2, 1), (3, 1))
    ]
    write_cache(
        tmp_path / "cache",
        iter(rows),
        noise=[],
        mel=np.ones(MEL_SHAPE, np.float32),
        classes=("_silence_", "_unknown_", "yes", "no"),
        all_words=("bed", "yes", "no"),
        provenance={"sha256": "ab" * 32},
    )
    source = AudioSource(DataConfig(cache=str(tmp_path / "cache")))
    assert source.untaught == ("_unknown_", "no")
    with pytest.raises(ValueError, match="training clips of every word, got none of _unknown_, no"):
        begin._check_clips(source, False)


def test_words_that_were_learnt_before_and_other_words_may_have_no_clips(capsys):
    def source(*untaught, shape=None):
        return SimpleNamespace(untaught=untaught, input_shape=shape)

    begin._check_clips(source(), False)
    assert capsys.readouterr().out == ""
    for at, goes_on in (
        (source("_unknown_"), False),
        (source("yes"), True),
        (source("N/A", shape=(28, 28, 1)), False),
    ):
        begin._check_clips(at, goes_on)
        out = capsys.readouterr().out
        assert out.startswith(f"no training examples of {at.untaught[0]}: ")
        assert out.count("\n") == 1
