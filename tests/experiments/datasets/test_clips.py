"""Which clips are asked about: noise for silence, and how many unknown words."""

import numpy as np
import pytest

from data_prep.speech.cache import open_cache
from experiments.datasets.clips import benchmark_rows, mean_size, noise_segments, read_clips
from tests.helpers.toy import write_toy_cache


def test_mean_size_counts_wanted_words_that_occur():
    assert mean_size(np.array([1, 1, 1, 1, 2, 2, 2, 5])) == 2
    assert mean_size(np.array([1, 1])) == 0


def test_noise_segments_are_pieces_of_the_tracks_and_always_the_same():
    tracks = [np.arange(20_000, dtype=np.int16), np.full(500, -7, np.int16)]
    segments = noise_segments(tracks, 40)
    assert segments.shape == (40, 16_000)
    for segment in segments:
        if segment[0] == -7:
            np.testing.assert_array_equal(segment[:500], -7)
            assert not segment[500:].any()
        else:
            np.testing.assert_array_equal(segment, segment[0] + np.arange(16_000))
            assert 0 <= segment[0] <= 4_000
    assert len({int(segment[0]) for segment in segments}) > 20
    np.testing.assert_array_equal(segments, noise_segments(tracks, 40))
    assert noise_segments([], 40).shape == (0, 16_000)


def test_noise_segments_may_be_the_last_second_of_a_track():
    track = np.arange(16_001, dtype=np.int16)
    assert {int(s[0]) for s in noise_segments([track], 50)} == {0, 1}


def test_benchmark_rows_cut_the_unknown_words_to_the_size_of_a_word():
    labels = np.array([0, 0, *[1] * 50, *[2] * 10, *[3] * 6])
    rows = benchmark_rows(labels)
    assert np.bincount(labels[rows]).tolist() == [2, 8, 10, 6]
    np.testing.assert_array_equal(rows, benchmark_rows(labels))
    np.testing.assert_array_equal(benchmark_rows(np.array([2, 3, 1, 2])), [0, 1, 2, 3])


def test_read_clips_adds_as_much_noise_as_a_word_has_clips(tmp_path):
    cache = open_cache(write_toy_cache(tmp_path / "cache"))
    clips = read_clips(cache, "testing")
    assert np.bincount(clips.labels).tolist() == [4, 4, 4, 4, 4]
    assert len(clips.samples) == len(clips.speakers) == 20
    assert (clips.speakers[clips.labels == 0] == -1).all()
    quiet = open_cache(write_toy_cache(tmp_path / "quiet", noise=False))
    assert np.bincount(read_clips(quiet, "testing").labels).tolist() == [0, 4, 4, 4, 4]


def test_read_clips_refuses_an_empty_split(tmp_path):
    cache = open_cache(write_toy_cache(tmp_path / "cache"))
    cache.splits[:] = 0
    with pytest.raises(ValueError, match="expected testing clips in the cache"):
        read_clips(cache, "testing")
