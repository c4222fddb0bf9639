"""How a cache's files are dealt, as a fingerprint: their splits, and what of them is left out.

`cache.fingerprint` says which files they are, and the same files can be dealt in many ways.
"""

import hashlib

import numpy as np

from data_prep.speech.cache import Cache
from data_prep.speech.negative_cache import open_negatives

DIGITS = 16  # of the hash


def dealt(cache: Cache) -> str:
    """Hash of the splits of clips and negatives, where these end, and in which a word was heard.

    It is made of what every cache holds, so caches of old have it too.
    """
    arrays = [cache.splits]
    negatives = open_negatives(cache.path)
    if negatives is not None:
        arrays += [negatives.splits, negatives.heard, negatives.bounds]
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{len(array)} ".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:DIGITS]
