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

from data_prep.command.reading import naming, read_array, read_json
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
class StoredNegatives:
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
    """Write negatives into a cache's folder, one file at a time, in place of those there.

    Raises ValueError if there are none.
    """
    out = folder / FOLDER
    lengths, active = [0], [np.zeros(0, bool)]
    about: list[NegativeRow] = []
    out.mkdir(exist_ok=True)
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


def open_negatives(cache: Path) -> StoredNegatives | None:
    """The negatives of a cache, or None where it has none; ValueError for damaged ones."""
    folder = cache / FOLDER
    if not folder.is_dir():
        return None
    kinds, names = _read_names(folder / "negatives.json")
    arrays = {name: _read_array(folder, name) for name in _DTYPES}
    _check_shapes(folder, arrays, len(names))
    _check_values(folder, arrays, len(kinds))
    return StoredNegatives(**arrays, all_kinds=kinds, names=names)


def _read_names(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds, and names of the files."""
    if not path.is_file():
        raise ValueError(f"{path.parent}: expected negatives as prepare writes them, got no {path}")
    meta = read_json(path, "kinds and names of negatives")
    with naming(path, "kinds and names of negatives"):
        found = {key: tuple(meta[key]) for key in ("kinds", "names")}
        for key, values in found.items():
            if not values or not all(isinstance(value, str) for value in values):
                raise ValueError(f"{key} that are no words")
        if len(set(found["kinds"])) < len(found["kinds"]):
            raise ValueError(f"a kind twice in {meta['kinds']}")
    return found["kinds"], found["names"]


def _read_array(folder: Path, name: str) -> np.ndarray:
    """One array, memory-mapped where it is long."""
    path = folder / f"{name}.npy"
    if not path.is_file():
        raise ValueError(f"{folder}: expected negatives as prepare writes them, got no {path.name}")
    return read_array(path, mapped=name == "samples")


def _check_shapes(folder: Path, arrays: dict[str, np.ndarray], count: int) -> None:
    """ValueError for arrays that are not of so many files, or of another type."""
    samples = arrays["samples"].size
    right = {
        "samples": (samples,),
        "active": (samples // BLOCK,),
        "bounds": (count + 1,),
    } | dict.fromkeys(("splits", "kinds", "heard"), (count,))
    for name, shape in right.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != _DTYPES[name]:
            raise ValueError(
                f"expected {np.dtype(_DTYPES[name]).name} {list(shape)} in {folder}/{name}.npy, "
                f"got {array.dtype} {list(array.shape)}"
            )


def _check_values(folder: Path, arrays: dict[str, np.ndarray], kinds: int) -> None:
    """ValueError for an index that points at nothing, or files that are no whole blocks."""
    for name, high in (("splits", len(SPLITS) - 1), ("kinds", kinds - 1)):
        low, top = arrays[name].min(), arrays[name].max()
        if low < 0 or top > high:
            raise ValueError(f"expected 0 to {high} in {folder}/{name}.npy, got {low} to {top}")
    bounds, samples = arrays["bounds"], arrays["samples"].size
    ends_right = bounds[0] == 0 and bounds[-1] == samples
    if not ends_right or (bounds[1:] <= bounds[:-1]).any() or (bounds % BLOCK).any():
        raise ValueError(
            f"expected multiples of {BLOCK} that rise from 0 to {samples} in {folder}/bounds.npy, "
            f"got {np.array2string(bounds, threshold=6, edgeitems=2, max_line_width=1000)}"
        )


def _write_header(file: BinaryIO, samples: int) -> None:
    """Header of an int16 [samples] array."""
    header = {"descr": "<i2", "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, header)
