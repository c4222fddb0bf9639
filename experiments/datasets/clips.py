"""A split of a cache as single decisions: one clip, one answer.

The field reports this number for networks of one window; it says nothing of false alarms on
streams. Beside the clips of the words there are segments of background noise, as many as a word has
clips on average, for the class silence: so the 12-class benchmark has it (Warden, arXiv:1804.03209,
section 6). There the class unknown is also cut to that size; here it is whole, and cut for one of
the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, Cache
from data_prep.speech.talk_words import recorded
from sanas_jax.data.clips import FIRST_WORD, SILENCE, UNKNOWN

_SEED = 0  # of the segments and of the clips that stand for the unknown words


class ClipSet(NamedTuple):
    """What is asked.

    samples [N, 16000] int16; labels [N], classes; speakers [N], -1 for noise, None where the cache
    does not know them.
    """

    samples: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray | None


class Noise(NamedTuple):
    """Background under clips: tracks, int16, and the ratio in dB of a clip's power to the noise's.

    Both are means over the clip's second.
    """

    tracks: Sequence[np.ndarray]
    snr_db: float


def read_clips(cache: Cache, split: str) -> ClipSet:
    """The clips of a split, and segments of noise if the cache has any; always the same.

    Raises ValueError where there are no clips.
    """
    rows = recorded(cache, split)
    if not len(rows):
        raise ValueError(f"expected {split} clips in the cache {cache.path}, got none")
    labels = np.asarray(cache.labels[rows])
    silence = noise_segments(cache.noise_tracks(), mean_size(labels))
    speakers = None
    if cache.speakers is not None:
        speakers = np.concatenate([cache.speakers[rows], np.full(len(silence), -1)])
    return ClipSet(
        np.concatenate([cache.samples[rows], silence]),
        np.concatenate([labels, np.full(len(silence), SILENCE)]),
        speakers,
    )


def mean_size(labels: np.ndarray) -> int:
    """Clips per word, on average over the wanted words that occur."""
    words = labels[labels >= FIRST_WORD]
    return round(len(words) / max(len(np.unique(words)), 1))


def noise_segments(tracks: Sequence[np.ndarray], count: int) -> np.ndarray:
    """`count` random seconds of noise as it was recorded, int16 [count, 16000].

    The longer a track, the more of them; none where there are no tracks. A track of less than a
    second is followed by zeros.
    """
    if not tracks:
        return np.zeros((0, CLIP_SAMPLES), np.int16)
    rng = np.random.default_rng(_SEED)
    starts = np.array([max(len(track) - CLIP_SAMPLES, 0) + 1 for track in tracks])
    out = np.zeros((count, CLIP_SAMPLES), np.int16)
    for row, t in zip(out, rng.choice(len(tracks), count, p=starts / starts.sum()), strict=True):
        begin = rng.integers(starts[t])
        segment = tracks[t][begin : begin + CLIP_SAMPLES]
        row[: len(segment)] = segment
    return out


def noise_under(
    noise: Noise, clips: np.ndarray, first: int = 0, around: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Background [N, samples] float32 of clips [N, samples] int16, the first of which is `first`.

    What is heard under a clip, from where in which track, hangs on its number alone. Tracks begin
    anew at their end; the longer one is, the more often it is heard. `around`: so many samples
    more before and after each clip, or, below 0, fewer of it.
    """
    sizes = np.array([len(track) for track in noise.tracks])
    before, after = around
    places = np.arange(-before, clips.shape[1] + after)
    inside = (places >= 0) & (places < clips.shape[1])
    out = np.zeros((len(clips), len(places)), np.float32)
    for row, (under, clip) in enumerate(zip(out, clips, strict=True), first):
        rng = np.random.default_rng([_SEED, row])
        track = noise.tracks[rng.choice(len(sizes), p=sizes / sizes.sum())]
        heard = np.take(track, rng.integers(len(track)) + places, mode="wrap") / np.float32(2**15)
        powers = np.mean((clip / 2**15) ** 2), np.mean(heard[inside] ** 2)
        if powers[1] > 0:
            under[:] = heard * np.sqrt(powers[0] / powers[1]) * 10 ** (-noise.snr_db / 20)
    return out


def benchmark_rows(labels: np.ndarray) -> np.ndarray:
    """Rows [n] of the benchmark: all, but of the unknown words only as many as a word has."""
    unknown = np.flatnonzero(labels == UNKNOWN)
    kept = np.random.default_rng(_SEED).permutation(unknown)[: mean_size(labels)]
    return np.sort(np.concatenate([np.flatnonzero(labels != UNKNOWN), kept]))
