"""Audio files read on threads, in order; one that cannot be used is its reason."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.command import cli as command
from data_prep.command.progress import Progress
from data_prep.command.reading import read_bytes
from data_prep.speech import decode

SILENT = "silent: every sample of it is zero"
_CHUNK = 256  # files in flight: bounds the memory


class File(NamedTuple):
    """A file that was read: hash of its bytes, samples int16 or None, why not, and if cut."""

    sha256: str
    samples: np.ndarray | None
    reason: str = ""
    cut: bool = False


def read_all(
    root: Path, names: Sequence[str], jobs: int, what: str, *, whole: bool = False
) -> Iterator[tuple[str, File]]:
    """Read files in order on threads (libsndfile and soxr release the GIL)."""

    def read(name: str) -> File:
        return _read(root / name, whole)

    with (
        ThreadPool(min(jobs or os.cpu_count() or 1, _CHUNK)) as pool,
        Progress(len(names), "file", what) as shown,
    ):
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            yield from zip(chunk, pool.map(read, chunk), strict=True)
            shown.add(len(chunk))


def _read(path: Path, whole: bool) -> File:
    """Hash and decode one file; a failure becomes its reason."""
    digest = ""
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        samples = decode.decode(data)
    except (ValueError, OSError, MemoryError) as error:
        # The same in every run, wherever the data lie.
        reason = command.one_line(error).replace(f": {path}", "").replace(f"{path}: ", "")
        return File(digest, None, reason)
    if whole and not samples.any():  # as noise or negatives it would be evidence of nothing
        return File(digest, None, SILENT)
    kept = samples if whole else decode.loudest_second(samples)
    return File(digest, kept, cut=len(kept) < len(samples))
