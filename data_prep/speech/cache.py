"""The cache: decoded clips as NumPy arrays in one folder, ready for the device.

    samples.npy       int16   [N, 16000]  clips at 16 kHz, zeros after the end
    lengths.npy       int32   [N]         samples before the padding
    labels.npy        int32   [N]         class index: 0 silence, 1 unknown, then the wanted words
    words.npy         int32   [N]         index into `all_words`
    splits.npy        int8    [N]         0 training, 1 validation, 2 testing
    speakers.npy      int32   [N]         index into `all_speakers`; caches of old have none
    noise.npy         int16   [M]         background tracks, one after another
    noise_bounds.npy  int32   [K + 1]     offsets of the K tracks; int64 where they need it
    names.txt                             the clips' files, or the negative that one was cut out of
                                          and when, a line each; caches of old have none
    mel.npy           float32 [40, 241]   mel filters [bands, FFT bins]
    dataset.json      format, classes, all_words, all_speakers, frontend, splits, counts
    provenance.json   where the clips came from, and what was skipped
    negatives/        audio without words, if there is any (`negative_cache`)

Silence has no clips: it is made from noise when a batch is drawn.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_prep.command import atomic
from data_prep.command.reading import naming, read_array, read_json, read_text

FORMAT = 1
SPLITS = ("training", "validation", "testing")
SILENCE, UNKNOWN = "_silence_", "_unknown_"
CLIP_SAMPLES = 16_000
FRONTEND: dict[str, int] = {
    "sample_rate": 16_000,  # Hz
    "n_fft": 480,  # samples: 30 ms
    "hop": 160,  # samples: 10 ms
    "fmin": 20,  # Hz
    "fmax": 4_000,  # Hz, unless a cache says otherwise
}
MEL_SHAPE = (40, FRONTEND["n_fft"] // 2 + 1)

# dtype and shape of every array file; None stands for any length.
_LAYOUT: dict[str, tuple[type, tuple[int | None, ...]]] = {
    "samples": (np.int16, (None, CLIP_SAMPLES)),
    "lengths": (np.int32, (None,)),
    "labels": (np.int32, (None,)),
    "words": (np.int32, (None,)),
    "splits": (np.int8, (None,)),
    "speakers": (np.int32, (None,)),
    "noise": (np.int16, (None,)),
    "noise_bounds": (np.int32, (None,)),
    "mel": (np.float32, MEL_SHAPE),
}
# A cache from before there were speakers is read without them.
_OPTIONAL = "speakers"
_KEYS = ("classes", "all_words", "frontend", "splits", "counts")


class CacheRow(NamedTuple):
    """One clip on its way into a cache: int16 [n ≤ 16000], its four indices, its file's name."""

    samples: np.ndarray
    label: int
    word: int
    split: int
    speaker: int = 0
    name: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Cache:
    """An open cache; the array fields are as in the module docstring, `samples` memory-mapped."""

    path: Path
    samples: np.ndarray  # int16 [N, 16000]
    lengths: np.ndarray  # int32 [N]
    labels: np.ndarray  # int32 [N]
    words: np.ndarray  # int32 [N]
    splits: np.ndarray  # int8 [N]
    noise: np.ndarray  # int16 [M]
    noise_bounds: np.ndarray  # int32 [K + 1]
    mel: np.ndarray  # float32 [40, 241]
    classes: tuple[str, ...]
    all_words: tuple[str, ...]
    frontend: dict[str, int]
    counts: dict[str, dict[str, int]]  # class -> split -> clips
    speakers: np.ndarray | None = None  # int32 [N]
    all_speakers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the N files, with forward slashes; caches of old have none

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split, int64 [n], ascending."""
        if split not in SPLITS:
            raise ValueError(f"expected a split out of {', '.join(SPLITS)}, got {split!r}")
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def noise_tracks(self) -> list[np.ndarray]:
        """The background tracks, K views int16 [samples]."""
        return [self.noise[a:b] for a, b in itertools.pairwise(self.noise_bounds)]


def is_cache(path: Path | str) -> bool:
    """Whether a folder claims to be a cache (of any format version)."""
    return (Path(path) / "dataset.json").is_file()


def open_cache(path: Path | str) -> Cache:
    """Open a cache folder; clips and noise stay on disk (memory-mapped) until they are read.

    Raises ValueError where the folder is no cache, is of another format, or is incomplete.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"expected a cache folder, got {path}, which is not a folder")
    if not is_cache(path):
        raise ValueError(f"expected a cache folder (with dataset.json), got {path} without one")
    meta = _read_meta(path / "dataset.json")
    present = [n for n in _LAYOUT if n != _OPTIONAL or (path / f"{n}.npy").is_file()]
    arrays = {name: _read_array(path, name) for name in present}
    columns = ("samples", "lengths", "labels", "words", "splits", _OPTIONAL)
    rows = {name: len(arrays[name]) for name in columns if name in arrays}
    if len(set(rows.values())) != 1:
        raise ValueError(f"expected arrays of equal length in {path}, got {rows}")
    _check_ranges(path, arrays, meta)
    bounds = arrays["noise_bounds"]
    if (np.diff(bounds) < 0).any():
        raise ValueError(f"expected ascending noise_bounds in {path}")
    if len(bounds) == 0 or bounds[0] != 0 or bounds[-1] != len(arrays["noise"]):
        raise ValueError(
            f"expected noise_bounds from 0 to {len(arrays['noise'])} in {path}, "
            f"got {bounds.tolist()[:1]} to {bounds.tolist()[-1:]}"
        )
    return Cache(
        path=path,
        **arrays,
        classes=tuple(meta["classes"]),
        all_words=tuple(meta["all_words"]),
        frontend=meta["frontend"],
        counts=meta["counts"],
        all_speakers=tuple(meta.get("all_speakers", ())),
        names=_read_names(path / "names.txt", rows["samples"]),
    )


def write_cache(
    out: Path | str,
    rows: Iterable[CacheRow],
    *,
    noise: Sequence[np.ndarray],
    mel: np.ndarray,
    classes: Sequence[str],
    all_words: Sequence[str],
    provenance: dict[str, Any],
    all_speakers: Sequence[str] = ("unknown",),
    splits: Sequence[int] = (),
    max_hz: int = FRONTEND["fmax"],
    write_more: Callable[[Path], Iterable[CacheRow]] | None = None,
) -> dict[str, dict[str, int]]:
    """Write a cache folder that appears complete or not at all; return its counts.

    `rows` is consumed one clip at a time, so memory does not grow with the data set; `noise` is
    int16 [samples] per track, `max_hz` where `mel` ends. `provenance` is read after the last row:
    a generator of rows may still be filling it; so are `all_words`, `all_speakers`, and `splits`,
    which replace those of the rows if there are any. `write_more` puts more into the folder before
    the rows, and returns others that follow them. An existing `out` is replaced. Raises ValueError
    when there are no rows.
    """
    if mel.shape != MEL_SHAPE or mel.dtype != np.float32:
        raise ValueError(f"expected mel float32 {MEL_SHAPE}, got {mel.dtype} {mel.shape}")
    with atomic.new_folder(Path(out)) as folder:
        more = () if write_more is None else write_more(folder)
        every = itertools.chain(rows, more)
        columns, names = _write_rows(folder / "samples.npy", every)
        (folder / "names.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
        if len(splits):
            columns["splits"] = np.array(splits, np.int8)
        labels, split_of = columns["labels"], columns["splits"]
        arrays = columns | {
            "noise": np.concatenate([np.zeros(0, np.int16), *noise]),
            "noise_bounds": bounds_of(noise),
            "mel": mel,
        }
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        counts = {
            name: {
                split: int(np.sum((labels == label) & (split_of == s)))
                for s, split in enumerate(SPLITS)
            }
            for label, name in enumerate(classes)
        }
        meta = {
            "format": FORMAT,
            "classes": list(classes),
            "all_words": list(all_words),
            "all_speakers": list(all_speakers),
            "frontend": FRONTEND | {"fmax": max_hz},
            "splits": list(SPLITS),
            "counts": counts,
        }
        _write_json(folder / "provenance.json", provenance)
        _write_json(folder / "dataset.json", meta)
    return counts


def bounds_of(noise: Sequence[Any]) -> np.ndarray:
    """Where tracks begin and end [K + 1]: in 32 bits, as ever, as long as they suffice."""
    bounds = np.cumsum([0, *map(len, noise)], dtype=np.int64)
    return bounds.astype(np.int32) if bounds[-1] < 2**31 else bounds


def _write_rows(path: Path, rows: Iterable[CacheRow]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Append the clips to an .npy file; return the columns and names that belong to them.

    Rows are written, not mapped: on a full disk a write raises, where a map kills the process.
    """
    columns: list[tuple[int, int, int, int, int]] = []
    names: list[str] = []
    with path.open("w+b") as file:
        _write_header(file, 0)
        start = file.tell()
        for samples, label, word, split, speaker, name in rows:
            if samples.dtype != np.int16 or samples.ndim != 1 or len(samples) > CLIP_SAMPLES:
                raise ValueError(
                    f"expected a clip int16 [n ≤ {CLIP_SAMPLES}], "
                    f"got {samples.dtype} {list(samples.shape)}"
                )
            file.write(samples.astype("<i2").tobytes())
            file.write(bytes(2 * (CLIP_SAMPLES - len(samples))))
            columns.append((len(samples), label, word, split, speaker))
            names.append(name)
        if not columns:
            raise ValueError("expected at least one readable clip, got none")
        file.seek(0)
        _write_header(file, len(columns))
        # NumPy leaves room in a header for the first axis to grow.
        if file.tell() != start:
            raise ValueError(f"expected a header of {start} bytes, got {file.tell()}")
    table = np.array(columns, np.int32)
    arrays: dict[str, np.ndarray] = {
        "lengths": table[:, 0],
        "labels": table[:, 1],
        "words": table[:, 2],
        "splits": table[:, 3].astype(np.int8),
        "speakers": table[:, 4],
    }
    return arrays, names


def _write_header(file: BinaryIO, rows: int) -> None:
    """Header of an int16 [rows, 16000] array."""
    header = {"descr": "<i2", "fortran_order": False, "shape": (rows, CLIP_SAMPLES)}
    np.lib.format.write_array_header_1_0(file, header)


def _read_names(path: Path, rows: int) -> tuple[str, ...]:
    """Names of the clips' files; none in a cache from before they were kept."""
    if not path.is_file():
        return ()
    names = read_text(path).split("\n")[:-1]
    if len(names) != rows:
        raise ValueError(f"expected {rows} names in {path}, got {len(names)}")
    return tuple(names)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_meta(path: Path) -> dict[str, Any]:
    """The checked contents of dataset.json."""
    meta = read_json(path, "the description of a cache")
    version = meta.get("format")
    if version != FORMAT:
        raise ValueError(
            f"expected a cache of format {FORMAT}, got format {version!r} in {path}: "
            "prepare it again"
        )
    missing = [key for key in _KEYS if key not in meta]
    if missing:
        raise ValueError(f"expected the keys {', '.join(_KEYS)} in {path}, got none of {missing}")
    if tuple(meta["splits"]) != SPLITS or tuple(meta["classes"][:2]) != (SILENCE, UNKNOWN):
        raise ValueError(
            f"expected splits {list(SPLITS)} and classes that begin with {SILENCE}, {UNKNOWN} in "
            f"{path}, got {meta['splits']} and {meta['classes'][:2]}"
        )
    with naming(path, "the description of a cache"):
        for key in ("classes", "all_words", "all_speakers"):
            if not all(isinstance(name, str) for name in meta.get(key, [])):
                raise ValueError(f"{key} that are no words")
        for name in [*meta["classes"], *meta["all_words"]]:
            if not name.isprintable():
                raise ValueError(f"the word {name!r}, which cannot be written in a line")
        if len(set(meta["classes"])) < len(meta["classes"]):
            raise ValueError(f"a class twice in {meta['classes']}")
        # All caches have this front end but for where its bands end.
        known = FRONTEND | {"fmax": meta["frontend"]["fmax"]}
        if meta["frontend"] != known or type(known["fmax"]) is not int:
            raise ValueError(f"features by {meta['frontend']}, not {FRONTEND}")
    return meta


def _check_ranges(path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """ValueError for an index that points at nothing, or a length that is none."""
    ends = {
        "lengths": (0, CLIP_SAMPLES),
        "labels": (0, len(meta["classes"]) - 1),
        "words": (0, len(meta["all_words"]) - 1),
        "splits": (0, len(SPLITS) - 1),
        "speakers": (0, len(meta.get("all_speakers", ())) - 1),
    }
    for name, (low, high) in ends.items():
        array = arrays.get(name)
        if array is not None and len(array) and not low <= array.min() <= array.max() <= high:
            raise ValueError(
                f"expected {low} to {high} in {path / name}.npy, got {array.min()} to {array.max()}"
            )
    if not np.isfinite(arrays["mel"]).all():
        raise ValueError(f"expected numbers in {path / 'mel.npy'}, got NaN or infinity")


def fingerprint(path: Path) -> str | None:
    """SHA-256 of the files that a cache was prepared from; None where it does not say."""
    file = path / "provenance.json"
    if not file.is_file():
        return None
    found = read_json(file, "where the clips came from").get("sha256")
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{file}: expected a fingerprint, got {found!r}")
    return found


def _read_array(folder: Path, name: str) -> np.ndarray:
    """One array of the cache, memory-mapped where it is long, with its dtype and shape checked."""
    path = folder / f"{name}.npy"
    dtype, shape = _LAYOUT[name]
    if not path.is_file():
        raise ValueError(f"expected the file {path.name} in the cache {folder}, got none")
    array = read_array(path, mapped=name in ("samples", "noise"))
    matches = len(shape) == array.ndim and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if name == "noise_bounds" and array.dtype == np.int64:
        dtype = np.int64
    if array.dtype != dtype or not matches:
        wanted = [letter if letter is not None else "any" for letter in shape]
        raise ValueError(
            f"expected {np.dtype(dtype).name} {wanted} in {path}, "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array
