"""What provenance.json says of a cache: of which files it was made, how, and what was left out."""

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

from data_prep.speech.cache import SPLITS
from data_prep.speech.index import Index
from data_prep.speech.negatives import Negative
from data_prep.speech.options import Options


def provenance_of(
    index: Index,
    options: Options,
    words: Sequence[str],
    rule: str,
    kept: Counter[tuple[str, int]],
    hashes: dict[str, str],
    skipped: dict[str, str],
    cut: Sequence[str],
    negatives: Sequence[Negative],
) -> dict[str, Any]:
    """Contents of provenance.json."""
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    choice = {
        field: sorted(getattr(options.choice, field))
        for field in (item.name for item in dataclasses.fields(options.choice))
    }
    return {
        "source": index.root.resolve().name,
        "options": {
            "words": list(words),
            "pattern": options.pattern,
            "strict": options.strict,
            "max_hz": options.max_hz,
            **choice,
        },
        "split": rule,
        "counts": {
            word: {split: kept[word, s] for s, split in enumerate(SPLITS)} for word in index.words
        },
        "negatives": {
            "sources": sorted({f"{each.kind}={each.root.resolve().name}" for each in negatives}),
            "speaker": options.negative_speaker,
            "validation_percent": options.negative_validation,
            "heard": sum(each.heard for each in negatives),
        },
        "noise": [name for name in index.noise if name not in skipped],
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "skipped": skipped,
        "cut_to_1_s": list(cut),
        "ignored": list(index.ignored),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "librosa": importlib.metadata.version("librosa"),
            "soundfile": soundfile.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
        },
    }
