"""Running speech made of a cache's clips: one piece after another without gaps, speaker by speaker.

Clips teach a network that a word stands alone; in talk others stand beside it. What is strung
together holds no word to be detected: unknown words, and a half of a wanted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_prep.speech import decode
from data_prep.speech.cache import Cache
from data_prep.speech.negatives import AROUND, BLOCK, activity
from sanas_jax.data.clips import SILENCE, UNKNOWN

HALVES = 0.25  # of the pieces
LEAST = 8  # blocks of a piece: what is shorter is hardly speech
FADE = 5 * decode.SAMPLE_RATE // 1000  # samples at both ends, since a jump would give a seam away


class Strung(NamedTuple):
    """int16 [M] samples; recording i is samples[bounds[i]:bounds[i + 1]], whole blocks."""

    samples: np.ndarray
    bounds: np.ndarray


def string_together(cache: Cache, split: str, minutes: float, seed: int = 0) -> Strung:
    """About so many minutes of a split's clips, the same for the same seed.

    Raises ValueError where the split has no unknown words.
    """
    rows = cache.indices(split)
    if not (cache.labels[rows] == UNKNOWN).any():
        raise ValueError(
            f"data.negative_strung: expected unknown words among the {split} clips of "
            f"{cache.path}, got none"
        )
    wanted = round(minutes * 60 * decode.SAMPLE_RATE)
    recordings: list[np.ndarray] = []
    for recording in _recordings(cache, rows, np.random.default_rng(seed)):
        recordings.append(recording)
        wanted -= len(recording)
        if wanted <= 0:
            break
    return Strung(np.concatenate(recordings), np.cumsum([0, *map(len, recordings)]))


def _recordings(cache: Cache, rows: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """A recording of each speaker, over and over; of all clips together where none is named."""
    speakers = np.zeros(len(rows), int) if cache.speakers is None else cache.speakers[rows]
    while True:
        for speaker in rng.permutation(np.unique(speakers)):
            pieces = []
            for row in rng.permutation(rows[speakers == speaker]):
                piece = _piece(cache, row, rng)
                if len(piece) >= LEAST * BLOCK:
                    pieces.append(_faded(piece))
            if pieces:
                yield np.concatenate(pieces)


def _piece(cache: Cache, row: int, rng: np.random.Generator) -> np.ndarray:
    """What is said in a clip, of a wanted word a half or nothing; int16, whole blocks."""
    label = cache.labels[row]
    is_left_out = label > UNKNOWN and rng.random() >= HALVES
    spoken = np.asarray(cache.samples[row, : cache.lengths[row]])
    active = np.flatnonzero(activity(spoken))
    if label == SILENCE or is_left_out or not len(active):
        return spoken[:0]
    first, last = active[0] + AROUND * (active[0] > 0), active[-1] + 1 - AROUND
    if label > UNKNOWN:
        middle = (first + last) // 2
        first, last = (first, middle) if rng.random() < 0.5 else (middle, last)
    piece = spoken[first * BLOCK : max(first, last) * BLOCK]
    return piece[: len(piece) // BLOCK * BLOCK]


def _faded(piece: np.ndarray) -> np.ndarray:
    """With ends that begin and end at 0."""
    ramp = np.ones(len(piece), np.float32)
    ramp[:FADE] = ramp[-FADE:][::-1] = np.arange(FADE) / FADE
    return np.round(piece * ramp).astype(np.int16)
