"""What streams are drawn from: the clips of a cache's split, and what lies under them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.speech.cache import Cache
from data_prep.speech.negative_cache import open_negatives
from data_prep.speech.streams import Pool
from data_prep.speech.talk_words import TALK, recorded

NOISE, NEGATIVES = "noise", "negatives"  # what lies under the words


def pool_of_cache(
    cache: Cache, split: str, words: Sequence[str] = (), background: str = NOISE
) -> Pool:
    """Clips of one split of a cache; `words` empty: the words that it was prepared for.

    Pieces of talk are no words of it. The background is its noise tracks, or its negatives of the
    split in which no word was heard.
    """
    words = words or cache.classes[2:]
    known = [word for word in cache.all_words if word != TALK]
    absent = [word for word in words if word not in known]
    if absent:
        raise ValueError(
            f"expected --words out of those in {cache.path} ({', '.join(known)}), "
            f"got {', '.join(absent)}"
        )
    rows = recorded(cache, split)
    if not len(rows):
        raise ValueError(f"expected {split} clips in the cache {cache.path}, got none")
    names = np.array(cache.all_words)[cache.words[rows]]
    under = cache.noise_tracks() if background == NOISE else quiet_negatives(cache.path, split)
    if background == NEGATIVES and not under:
        raise ValueError(
            f"--background negatives: expected a cache with negatives for {split} (prepare "
            f"--negatives), got {cache.path} without"
        )
    return Pool(
        words={word: rows[names == word] for word in words},
        unknown=rows[~np.isin(names, words)],
        clip=lambda row: cache.samples[row, : cache.lengths[row]],
        noise=under,
    )


def quiet_negatives(cache: Path, split: str) -> list[np.ndarray]:
    """Negatives of a split in which no word was heard, int16; none where there are none."""
    found = open_negatives(cache)
    if found is None:
        return []
    return [found.file(row) for row in found.rows(split) if not found.heard[row]]
