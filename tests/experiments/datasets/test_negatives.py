"""A cache's negatives as batches draw from them."""

import jax
import numpy as np
import pytest

from data_prep.speech.cache import open_cache
from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.config import Config, DataConfig, Hooks, ModelConfig
from experiments.config.build import build_training
from experiments.datasets import speech
from experiments.datasets.negatives import open_tracks
from experiments.datasets.speech import AudioSource
from sanas_jax.data.recipe import Recipe
from tests.helpers.toy import write_toy_cache

BOTH = Recipe(negative_speech=0.5, negative_sounds=0.5)


@pytest.fixture
def cache(tmp_path):
    """Speech of level 100 + row in both splits, of which row 1 is heard; a sound in training."""
    path = write_toy_cache(tmp_path / "cache")
    rows = [
        NegativeRow(np.full(1600, 100 + row, np.int16), f"{row}.wav", "speech", split, row == 1)
        for row, split in enumerate((0, 0, 0, 1))
    ]
    rain = NegativeRow(np.full(3000, 7, np.int16), "rain.wav", "noise", 0, False)
    write_negatives(path, [*rows, rain])
    return open_cache(path)


def test_open_tracks_are_of_the_split_and_leave_out_what_was_heard(cache):
    tracks = open_tracks(cache, "training", BOTH, None)
    samples = np.array(tracks.speech.samples)
    assert np.unique(samples).tolist() == [100, 102]
    assert tracks.speech.bounds.tolist() == [0, 1600, 3200]
    assert tracks.speech.block == 160
    assert np.all(tracks.speech.active)
    assert tracks.sounds.bounds.tolist() == [0, 3040], "padded to whole blocks"
    assert not np.any(tracks.sounds.active)
    only = open_tracks(cache, "validation", Recipe(negative_speech=0.5), None)
    assert np.unique(only.speech.samples).tolist() == [103]
    assert only.sounds is None
    assert open_tracks(cache, "training", Recipe(), None) is None


def test_open_tracks_refuses_what_the_cache_does_not_have(cache, tmp_path):
    message = "data.negative_sounds: expected sounds among the validation negatives of the cache"
    with pytest.raises(ValueError, match=message):
        open_tracks(cache, "validation", BOTH, None)
    plain = open_cache(write_toy_cache(tmp_path / "plain"))
    with pytest.raises(ValueError, match=r"data.negative_speech: .*\(prepare --negatives\)"):
        open_tracks(plain, "training", BOTH, None)


def test_audio_source_hears_negatives_in_every_batch(cache, monkeypatch):
    monkeypatch.setattr(speech, "STATISTICS_BATCHES", 1)
    monkeypatch.setattr(speech, "STATISTICS_SIZE", 4)
    data = DataConfig(
        cache=str(cache.path), negative_speech=1.0, negative_alone=1.0, noise_probability=0.0
    )
    config = Config(model=ModelConfig(maps=(4, 4), static=True), data=data)
    settings = build_training(config, 5, Hooks()).settings
    source = AudioSource(data)
    frontend, weights = source.fit(settings, jax.random.key(0))
    assert weights.shape == (5,)
    batch = source.validation(frontend, settings, jax.random.key(1), 4, 1)[0]
    assert (np.array(batch.labels)[np.array(batch.mask)] == 1).all()
    drawn = jax.jit(source.draw, static_argnums=2)(
        source.training, frontend, settings, jax.random.key(2), np.arange(4)
    )
    assert (np.array(drawn.labels)[np.array(drawn.mask)] == 1).all()
