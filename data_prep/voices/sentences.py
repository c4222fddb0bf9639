"""Sentences that nobody need have written: who does what, where or when, at random.

They are for running speech without the words of a corpus, so a sentence holds none of these.
"""

import re
from collections.abc import Collection

import numpy as np

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
    """A sentence without the words `avoid`; ValueError if these leave nothing to say."""
    wanted = {word.lower() for word in avoid}
    parts = []
    for part in _PARTS:
        left = [text for text in part if not wanted & set(re.findall(r"\w+", text))]
        if not left:
            raise ValueError(f"expected --words that leave sentences to say, got {sorted(avoid)}")
        parts.append(left[rng.integers(len(left))])
    return " ".join(parts)
