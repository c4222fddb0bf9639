"""Talk made of clips: of their split, speaker by speaker, and of a wanted word a half at most."""

import dataclasses

import numpy as np
import pytest

from data_prep.speech.cache import open_cache
from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.datasets import strung
from experiments.datasets.negatives import open_tracks
from experiments.datasets.strung import string_together
from sanas_jax.data.clips import UNKNOWN
from sanas_jax.data.recipe import Recipe
from tests.helpers.toy import write_toy_cache

RECIPE = Recipe(negative_speech=0.5, negative_strung=0.1)


@pytest.fixture
def cache(tmp_path):
    """Clips of a constant level each, 1000 + row, loud from a fifth to four fifths."""
    opened = open_cache(write_toy_cache(tmp_path / "cache"))
    samples = np.zeros(opened.samples.shape, np.int16)
    samples[:, 3_200:12_800] = 1_000 + np.arange(len(samples))[:, None]
    speakers = np.arange(len(samples)) % 3
    return dataclasses.replace(opened, samples=samples, speakers=speakers)


def heard(cache, made):
    """Rows of the clips that are heard in each recording, in order, and how long, in samples."""
    for begin, end in zip(made.bounds, made.bounds[1:], strict=False):
        row = made.samples[begin:end].astype(int) - 1_000
        at = np.flatnonzero(row >= 0)
        full = row[at]
        change = np.flatnonzero((np.diff(full) != 0) | (np.diff(at) > 1)) + 1
        # Short parts are of the fades.
        yield [(part[0], len(part)) for part in np.split(full, change) if len(part) > 100]


def test_strung_talk_is_of_one_speaker_and_split_and_of_wanted_words_a_half(cache):
    made = string_together(cache, "training", 0.5)
    assert len(made.samples) >= 0.5 * 60 * 16_000
    rows = set(cache.indices("training"))
    labels = set()
    for recording in heard(cache, made):
        assert len({cache.speakers[row] for row, _ in recording}) == 1
        for row, length in recording:
            assert row in rows
            labels.add(label := cache.labels[row])
            assert length <= (9_600 if label == UNKNOWN else 4_800)
            assert length > (9_000 if label == UNKNOWN else 4_200)
    assert len(labels) > 1
    assert min(labels) == UNKNOWN
    # Without gaps: only the ends of a piece are quiet.
    assert (made.samples < 900).mean() < 0.05


@pytest.mark.parametrize(("loud", "lengths"), [(1, {0, 30}), (3, {0, 12, 30})])
def test_no_half_holds_more_than_half_of_a_words_time_or_energy(cache, loud, lengths):
    # Louder in the last third of what is said.
    samples = np.where(np.arange(16_000) >= 9_600, loud, 1) * cache.samples
    unequal = dataclasses.replace(cache, samples=samples.astype(np.int16))
    row = next(row for row in cache.indices("training") if cache.labels[row] > UNKNOWN)
    rng = np.random.default_rng(0)
    halves = [strung._piece(unequal, row, rng) for _ in range(40)]
    assert {len(half) / strung.BLOCK for half in halves} == lengths
    whole = np.square(samples[row, 3_200:12_800], dtype=float).sum()
    assert max(np.square(half, dtype=float).sum() for half in halves) <= whole / 2


def test_strung_talk_is_the_same_for_a_seed(cache):
    made, again = (string_together(cache, "training", 0.2) for _ in range(2))
    np.testing.assert_array_equal(made.samples, again.samples)
    other = string_together(cache, "training", 0.2, seed=1)
    assert made.samples.shape != other.samples.shape or (made.samples != other.samples).any()


def test_batches_draw_from_it_beside_or_without_recorded_talk(cache):
    tracks = open_tracks(cache, "training", RECIPE, None)
    assert tracks.speech.samples.shape[0] >= 0.1 * 60 * 16_000
    assert np.all(tracks.speech.active)
    assert tracks.speech.block == strung.BLOCK
    talk = np.full(1_600, 77, np.int16)
    write_negatives(cache.path, [NegativeRow(talk, "talk.wav", "speech", 0, False)])
    both = open_tracks(cache, "training", RECIPE, None).speech
    np.testing.assert_array_equal(both.samples[:1_600], talk)
    np.testing.assert_array_equal(both.samples[1_600:], tracks.speech.samples)
    np.testing.assert_array_equal(both.bounds[1:] - 1_600, tracks.speech.bounds)


def test_without_unknown_words_it_is_refused(cache):
    none = dataclasses.replace(cache, labels=np.full_like(cache.labels, UNKNOWN + 1))
    with pytest.raises(ValueError, match="expected unknown words among the training clips"):
        string_together(none, "training", 1)


def test_it_is_as_long_as_asked_whoever_speaks(cache):
    for speakers in (None, np.zeros(len(cache.samples), int)):
        made = string_together(dataclasses.replace(cache, speakers=speakers), "training", 0.01)
        assert 9_600 <= len(made.samples) < 9_600 + 16_000
        assert made.bounds[-1] == len(made.samples)


def test_clips_that_are_loud_throughout_are_whole(cache):
    loud = dataclasses.replace(cache, samples=np.full(cache.samples.shape, 3_000, np.int16))
    made = string_together(loud, "training", 0.1)
    assert (made.samples == 3_000).mean() > 0.98


def test_without_anybody_speaking_it_is_refused(cache):
    silent = dataclasses.replace(cache, samples=np.zeros_like(cache.samples))
    with pytest.raises(ValueError, match=r"someone speaks for 0.08 s, got none"):
        string_together(silent, "training", 0.1)


def test_talk_that_no_item_would_hear_is_refused():
    with pytest.raises(ValueError, match="expected negative_speech above 0"):
        Recipe(negative_strung=60.0).check()
