"""Unknown words for data that have none: pieces cut out of what people say.

Whoever records words of their own seldom records others. Talk between and under the words does not
teach a network that what is said after silence, by itself, may be another word: these do. They are
for training and its validation; nothing is tested on them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, FRONTEND, Cache
from data_prep.speech.negative_cache import StoredNegatives
from data_prep.speech.negatives import BLOCK

TALK = "_talk_"  # their name among the words of a cache
MOST = 2000  # of a split
SHORTEST, LONGEST = 25, CLIP_SAMPLES // BLOCK  # blocks
# Samples at both ends, since a jump would give a cut away.
FADE = 5 * FRONTEND["sample_rate"] // 1000


class Piece(NamedTuple):
    """int16 [n ≤ 16000] of the negative `row`, from a time on."""

    samples: np.ndarray
    row: int
    seconds: float


def cut_out(negatives: StoredNegatives, split: str, most: int = MOST) -> Iterator[Piece]:
    """Pieces of a split's talk, at most so many, evenly out of all of it; none of what was heard.

    Each begins where someone begins to speak or where the piece before it ends, and is of a random
    length, always the same.
    """
    rng = np.random.default_rng(0)
    ends = negatives.bounds // BLOCK
    rows = negatives.rows(split)
    places = [
        (row, first, last)
        for row in rows[~negatives.heard[rows]]
        for first, last in _places(negatives.active[ends[row] : ends[row + 1]], rng)
    ]
    for nth in np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int):
        row, first, last = places[nth]
        samples = faded(negatives.file(row)[first * BLOCK : last * BLOCK])
        yield Piece(samples, int(row), first * BLOCK / FRONTEND["sample_rate"])


def recorded(cache: Cache, split: str) -> np.ndarray:
    """Rows of a split, int64 [n], but for pieces of talk, which nobody would count as words."""
    rows = cache.indices(split)
    return rows[np.array(cache.all_words)[cache.words[rows]] != TALK]


def faded(piece: np.ndarray) -> np.ndarray:
    """int16 [n], with ends that begin and end at 0."""
    ramp = np.ones(len(piece), np.float32)
    ramp[:FADE] = ramp[-FADE:][::-1] = np.arange(FADE) / FADE
    return np.round(piece * ramp).astype(np.int16)


def _places(active: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """First blocks of a file's pieces, and the blocks after their last."""
    spoken, at = np.flatnonzero(active), 0
    while at < len(spoken):
        first = int(spoken[at])
        after = int(np.searchsorted(spoken, first + rng.integers(SHORTEST, LONGEST + 1)))
        if after - at >= SHORTEST:
            yield first, int(spoken[after - 1]) + 1
        at = after
