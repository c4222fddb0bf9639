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
from data_prep.speech.talk_words import faded
from sanas_jax.data.clips import UNKNOWN

HALVES = 0.25  # of the pieces
LEAST = 8  # blocks of a piece: what is shorter is hardly speech


class Strung(NamedTuple):
    """int16 [M] samples; recording i is samples[bounds[i]:bounds[i + 1]], whole blocks."""

    samples: np.ndarray
    bounds: np.ndarray


def string_together(cache: Cache, split: str, minutes: float, seed: int = 0) -> Strung:
    """So many minutes of a split's clips and at most one clip more, the same for the same seed.

    Raises ValueError where the split has no unknown words, or nobody speaks in it.
    """
    rows = cache.indices(split)
    if not (cache.labels[rows] == UNKNOWN).any():
        raise ValueError(
            f"data.negative_strung: expected unknown words among the {split} clips of "
            f"{cache.path}, got none"
        )
    wanted, made = round(minutes * 60 * decode.SAMPLE_RATE), 0
    pieces, speakers = list[np.ndarray](), list[int]()
    rng = np.random.default_rng(seed)
    while made < wanted:  # the same clips in another order, where they do not suffice
        before = made
        for speaker, piece in _pieces(cache, rows, rng):
            speakers.append(speaker)
            pieces.append(piece)
            made += len(piece)
            if made >= wanted:
                break
        if made == before:
            raise ValueError(
                f"data.negative_strung: expected {split} clips of {cache.path} in which someone "
                f"speaks for {LEAST * BLOCK / decode.SAMPLE_RATE:g} s, got none"
            )
    ends = np.cumsum([len(piece) for piece in pieces])
    changes = np.flatnonzero(np.diff(speakers))
    return Strung(np.concatenate(pieces), np.array([0, *ends[changes], made]))


def _pieces(
    cache: Cache, rows: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """What is said in clips, with its speaker, one after the other; what is short is left out."""
    speakers = np.zeros(len(rows), int) if cache.speakers is None else cache.speakers[rows]
    for speaker in rng.permutation(np.unique(speakers)):
        for row in rng.permutation(rows[speakers == speaker]):
            piece = _piece(cache, row, rng)
            if len(piece) >= LEAST * BLOCK:
                yield speaker, faded(piece)


def _piece(cache: Cache, row: int, rng: np.random.Generator) -> np.ndarray:
    """What is said in a clip, of a wanted word a half or nothing; int16, whole blocks."""
    spoken = np.asarray(cache.samples[row, : cache.lengths[row]])
    is_wanted = cache.labels[row] > UNKNOWN
    if is_wanted and rng.random() >= HALVES:
        return spoken[:0]
    blocks = activity(spoken)
    active = np.flatnonzero(blocks)
    if not len(active):
        return spoken[:0]
    # Without what `activity` adds on both sides, but where the clip itself begins or ends there.
    first = active[0] + AROUND * (active[0] > 0)
    last = active[-1] + 1 - AROUND * (active[-1] + 1 < len(blocks))
    piece = spoken[first * BLOCK : max(first, last) * BLOCK]
    piece = piece[: len(piece) // BLOCK * BLOCK]
    return _half(piece, rng.random() < 0.5) if is_wanted else piece


def _half(piece: np.ndarray, is_first: bool) -> np.ndarray:
    """The first or last blocks of a word: at most half of the time, which may hold a short word
    whole, and of the energy."""
    blocks = piece.reshape(-1, BLOCK)[:: 1 if is_first else -1]
    energy = np.square(blocks, dtype=np.float64).sum(1).cumsum()
    within = np.count_nonzero(energy <= energy[-1] / 2) if len(energy) else 0
    count = min(within, len(blocks) // 2) * BLOCK
    return piece[:count] if is_first else piece[len(piece) - count :]
