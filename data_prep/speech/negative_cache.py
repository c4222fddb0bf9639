"""Negatives in a cache: a folder `negatives` of it, which caches without them do not have.

samples.npy    int16 [M]         files one after another, each padded to whole blocks
active.npy     bool  [M / 160]   whether someone speaks in a block; false in sounds
bounds.npy     int64 [N + 1]     offsets of the N files
splits.npy     int8  [N]         0 training, 1 validation, 2 testing
kinds.npy      int32 [N]         index into `kinds`
heard.npy      bool  [N]         a word was heard in it, so that firing there may be right
negatives.json kinds, names
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_prep.speech.cache import SPLITS
from data_prep.speech.negatives import BLOCK, SPEECH, activity

FOLDER = "negatives"
_DTYPES: dict[str, Any] = {
    "samples": np.int16,
    "active": np.bool_,
    "bounds": np.int64,
    "splits": np.int8,
    "kinds": np.int32,
    "heard": np.bool_,
}


class NegativeRow(NamedTuple):
    """One file on its way into a cache: int16 [samples], and what is known of it."""

    samples: np.ndarray
    name: str
    kind: str
    split: int
    heard: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Negatives:
    """The negatives of a cache; fields are as in the module docstring, `samples` memory-mapped."""

    samples: np.ndarray
    active: np.ndarray
    bounds: np.ndarray
    splits: np.ndarray
    kinds: np.ndarray
    heard: np.ndarray
    all_kinds: tuple[str, ...]
    names: tuple[str, ...]

    def rows(self, split: str) -> np.ndarray:
        """Files of a split, int64 [n], ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def is_speech(self) -> np.ndarray:
        """Whether people talk in it, bool [N]."""
        return np.array([kind == SPEECH for kind in self.all_kinds])[self.kinds]

    def file(self, row: int) -> np.ndarray:
        """Samples of a file, int16 [n], with the zeros that fill its last block."""
        return self.samples[self.bounds[row] : self.bounds[row + 1]]

    def table(self) -> dict[str, dict[str, tuple[int, float]]]:
        """Files and minutes by kind and split."""
        minutes = np.diff(self.bounds) / BLOCK / 6000
        return {
            kind: {
                split: (int(chosen.sum()), float(minutes[chosen].sum()))
                for s, split in enumerate(SPLITS)
                for chosen in [(self.kinds == k) & (self.splits == s)]
            }
            for k, kind in enumerate(self.all_kinds)
        }


def write_negatives(folder: Path, rows: Iterable[NegativeRow]) -> None:
    """Write negatives into a cache's folder, one file at a time; ValueError if there are none."""
    out = folder / FOLDER
    lengths, active = [0], [np.zeros(0, bool)]
    about: list[NegativeRow] = []
    out.mkdir()
    with (out / "samples.npy").open("w+b") as file:
        _write_header(file, 0)
        start = file.tell()
        for row in rows:
            blocks = activity(row.samples)
            file.write(row.samples.astype("<i2").tobytes())
            file.write(bytes(2 * (len(blocks) * BLOCK - len(row.samples))))
            lengths.append(len(blocks) * BLOCK)
            active.append(blocks & (row.kind == SPEECH))
            about.append(row._replace(samples=np.zeros(0, np.int16)))
        if not about:
            raise ValueError("--negatives: expected at least one readable file, got none")
        file.seek(0)
        _write_header(file, sum(lengths))
        # NumPy leaves room in a header for the first axis to grow.
        if file.tell() != start:
            raise ValueError(f"expected a header of {start} bytes, got {file.tell()}")
    all_kinds = sorted({row.kind for row in about})
    arrays = {
        "active": np.concatenate(active),
        "bounds": np.cumsum(lengths),
        "splits": [row.split for row in about],
        "kinds": [all_kinds.index(row.kind) for row in about],
        "heard": [row.heard for row in about],
    }
    for name, values in arrays.items():
        np.save(out / f"{name}.npy", np.asarray(values, _DTYPES[name]))
    meta = {"kinds": all_kinds, "names": [row.name for row in about]}
    (out / "negatives.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n")


def open_negatives(cache: Path) -> Negatives | None:
    """The negatives of a cache, or None where it has none; ValueError for damaged ones."""
    folder = cache / FOLDER
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "negatives.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "samples" else None)
            for name in _DTYPES
        }
        found = Negatives(**arrays, all_kinds=tuple(meta["kinds"]), names=tuple(meta["names"]))
    except (ValueError, EOFError, KeyError, OSError) as error:
        raise ValueError(
            f"{folder}: expected negatives as prepare writes them, got: {error}"
        ) from (error)
    count = len(found.names)
    right = {
        "samples": (int(found.bounds[-1]),),
        "active": (int(found.bounds[-1]) // BLOCK,),
        "bounds": (count + 1,),
    } | dict.fromkeys(("splits", "kinds", "heard"), (count,))
    for name, shape in right.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != _DTYPES[name]:
            raise ValueError(
                f"expected {np.dtype(_DTYPES[name]).name} {list(shape)} in {folder}/{name}.npy, "
                f"got {array.dtype} {list(array.shape)}"
            )
    return found


def _write_header(file: BinaryIO, samples: int) -> None:
    """Header of an int16 [samples] array."""
    header = {"descr": "<i2", "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, header)
