"""Sentences that nobody need have written: who does what, where or when, at random.

They are for running speech without the words of a corpus, so a sentence holds none of these.
"""

import re
from collections.abc import Collection

import numpy as np

_TRIES = 1000
_PARTS = (
    (
        *("my brother", "the old teacher", "our neighbours", "a young woman", "the children"),
        *("his doctor", "someone", "the driver", "her aunt", "most people", "a farmer", "they"),
        *("the gardener", "nobody here", "the captain", "this family", "we", "two friends"),
    ),
    (
        *("carried", "wanted", "remembered", "painted", "sold", "borrowed", "noticed", "cleaned"),
        *("talked about", "waited for", "looked after", "asked for", "described", "finished"),
        *("dreamed of", "promised", "repaired", "lost", "wrote about", "listened to"),
    ),
    (
        *("the blue bicycle", "a heavy box", "some fresh bread", "the broken window", "a letter"),
        *("the garden gate", "an old photograph", "his winter coat", "the music", "a long story"),
        *("these green apples", "the kitchen table", "another glass of water", "the weather"),
        *("a small boat", "their holiday", "the newspaper", "a strange dream"),
    ),
    (
        *("before lunch", "in the city", "near the river", "with great care", "last summer"),
        *("every evening", "behind the station", "during the concert", "without a reason"),
        *("because it was raining", "while we were asleep", "after the meeting", "at the market"),
        *("as usual", "again and again", "since the spring", "for several hours"),
    ),
)


def sentence(rng: np.random.Generator, avoid: Collection[str] = ()) -> str:
    """A sentence without the words and phrases `avoid`; ValueError if these leave none to say."""
    left = [[text for text in part if not holds(text, avoid)] for part in _PARTS]
    if all(left):
        # A phrase may also lie across two parts: few sentences have one, unless all have.
        for _ in range(_TRIES):
            said = " ".join(part[rng.integers(len(part))] for part in left)
            if not holds(said, avoid):
                return said
    raise ValueError(f"expected --words that leave sentences to say, got {sorted(avoid)}")


def holds(text: str, wanted: Collection[str]) -> bool:
    """Whether a text has one of these words, or of these phrases as they stand."""
    said = f" {' '.join(_words(text))} "
    return any(f" {' '.join(words)} " in said for words in map(_words, wanted) if words)


def _words(text: str) -> list[str]:
    """Words in small letters; `glass_of_water`, as folders are named, is a phrase."""
    return re.findall(r"[^\W_]+", text.lower())
