"""Long files where files are too few for the splits: each is cut into a stretch for every split.

An hour of radio is one file, and training, validation and testing want some of it. Stretches are
contiguous, so that only what lies at two seams is much alike on both sides.
"""

from collections.abc import Sequence

from data_prep.speech.cache import FRONTEND, SPLITS
from data_prep.speech.negatives import BLOCK, Negative
from data_prep.speech.splits import PERCENT, TESTING, TRAINING, VALIDATION

LEAST_SECONDS = 5  # of a stretch: what is shorter is hardly more than a word
_LEAST = LEAST_SECONDS * FRONTEND["sample_rate"] // BLOCK  # blocks


def kinds_to_cut(negatives: Sequence[Negative]) -> tuple[str, ...]:
    """Kinds whose files leave a split without any, sorted."""
    splits_of: dict[str, set[int]] = {}
    for each in negatives:
        splits_of.setdefault(each.kind, set()).add(each.split)
    return tuple(sorted(kind for kind, found in splits_of.items() if len(found) < len(SPLITS)))


def stretches(samples: int, validation: float = PERCENT) -> list[tuple[int, slice]]:
    """Splits of a file's beginning, middle and end, and which samples each has; [] of a short file.

    Testing gets a tenth and validation so many percent, but none less than `LEAST_SECONDS`. All
    end at whole blocks but the last, so that they are the file again, one after another.
    """
    blocks = -(-samples // BLOCK)
    if samples < len(SPLITS) * _LEAST * BLOCK:
        return []
    testing = max(round(blocks * PERCENT / 100), _LEAST)
    validating = max(round(blocks * validation / 100), _LEAST)
    validating = min(validating, blocks - testing - _LEAST)
    ends = [(blocks - testing - validating) * BLOCK, (blocks - testing) * BLOCK, samples]
    begins = [0, *ends[:-1]]
    splits = (TRAINING, VALIDATION, TESTING)
    return [(s, slice(a, b)) for s, a, b in zip(splits, begins, ends, strict=True)]
