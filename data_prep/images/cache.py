"""The cache of images: NumPy arrays in one folder, ready for the device.

    images.npy       uint8  [N, H, W, C]
    labels.npy       int32  [N], or [N, H, W] of pixels: kind segmentation, where -1 is no class
    splits.npy       int8   [N]  0 training, 1 validation, 2 testing
    dataset.json     format, kind, classes, shape, mean, std, splits, counts
    provenance.json  where the images came from, and the fingerprint of the arrays

mean and std are of the training images, one number per channel, where white is 1.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.command import atomic
from data_prep.command.reading import naming, read_array, read_json
from data_prep.images.digits import read_digits
from data_prep.images.image_set import TRAINING, VOID, ImageSet, check_labels, with_validation
from data_prep.speech.cache import SPLITS, is_cache

# A word, where audio caches have a number: either reader says what it was given.
FORMAT = "images 1"
KINDS = ("images", "segmentation")
VALIDATION_FRACTION = 0.1
_KEYS = ("kind", "classes", "shape", "mean", "std", "splits", "counts")
_CHUNK = 1_000  # images counted at once: bounds the memory


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCache:
    """An open cache, images and labels memory-mapped."""

    path: Path
    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N] or [N, H, W]
    splits: np.ndarray  # int8 [N]
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 [C]
    std: np.ndarray  # float32 [C], 1 where the channel does not vary
    kind: str  # images or segmentation
    sha256: str  # of images, labels, splits and classes

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split, int64 [n], ascending."""
        if split not in SPLITS:
            raise ValueError(f"expected a split out of {', '.join(SPLITS)}, got {split!r}")
        return np.flatnonzero(self.splits == SPLITS.index(split))


def is_image_cache(path: Path | str) -> bool:
    """Whether a folder claims to be a cache of images (of any format version)."""
    try:
        meta = json.loads((Path(path) / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(meta, dict) and meta.get("kind") in KINDS


def open_image_cache(path: Path | str) -> ImageCache:
    """Open a cache folder; images and labels stay on disk (memory-mapped) until they are read.

    Raises ValueError where the folder is no cache of images, is of another format, or incomplete.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"expected a cache folder, got {path}, which is not a folder")
    if not is_cache(path):
        raise ValueError(f"expected a cache folder (with dataset.json), got {path} without one")
    meta = _read_json(path / "dataset.json", _KEYS)
    provenance = _read_json(path / "provenance.json", ("sha256",))
    images, labels, splits = (_read_array(path, name) for name in ("images", "labels", "splits"))
    shape = images.shape
    if len(shape) != 4 or list(shape[1:]) != meta["shape"]:
        raise ValueError(
            f"expected images of {meta['shape']} in {path / 'images.npy'}, got {list(shape)}"
        )
    per_label = shape[:1] if meta["kind"] == "images" else shape[:3]
    _expect(path / "images.npy", images, np.uint8, shape)
    _expect(path / "labels.npy", labels, np.int32, per_label)
    _expect(path / "splits.npy", splits, np.int8, shape[:1])
    with naming(path / "dataset.json", "the description of a cache"):
        mean, std = (np.array(meta[name], np.float32) for name in ("mean", "std"))
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError(f"mean {meta['mean']} and std {meta['std']}")
        if not all(isinstance(name, str) and name.isprintable() for name in meta["classes"]):
            raise ValueError("classes that are no words")
        lowest = 0 if meta["kind"] == "images" else VOID
        check_labels(labels, len(meta["classes"]), str(path / "labels.npy"), lowest)
        if splits.size and not 0 <= splits.min() <= splits.max() < len(SPLITS):
            raise ValueError("splits other than the three")
    if not mean.shape == std.shape == shape[3:]:
        raise ValueError(
            f"expected mean and std of {shape[3]} channels in {path / 'dataset.json'}, "
            f"got {meta['mean']} and {meta['std']}"
        )
    return ImageCache(
        path=path,
        images=images,
        labels=labels,
        splits=splits,
        classes=tuple(meta["classes"]),
        mean=mean,
        std=std,
        kind=meta["kind"],
        sha256=str(provenance["sha256"]),
    )


def write_image_cache(
    out: Path | str, data: ImageSet, provenance: dict[str, Any]
) -> dict[str, dict[str, int]]:
    """Write a cache folder that appears complete or not at all; return images per class and split.

    Of segmentation a class's count is of pixels. An existing `out` is replaced.
    """
    mean, std = statistics(data)
    counts = count(data)
    meta = {
        "format": FORMAT,
        "kind": data.kind,
        "classes": list(data.classes),
        "shape": list(data.images.shape[1:]),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "splits": list(SPLITS),
        "counts": {split: int(np.sum(data.splits == s)) for s, split in enumerate(SPLITS)},
    }
    with atomic.new_folder(Path(out)) as folder:
        for name in ("images", "labels", "splits"):
            np.save(folder / f"{name}.npy", getattr(data, name))
        _write_json(
            folder / "provenance.json",
            provenance | {"counts": counts, "sha256": fingerprint(data)},
        )
        _write_json(folder / "dataset.json", meta)
    return counts


def digits_cache() -> ImageCache:
    """The digits of scikit-learn as `prepare_images` writes them by default, but in memory."""
    data = with_validation(read_digits(), VALIDATION_FRACTION, seed=0)
    mean, std = statistics(data)
    return ImageCache(
        path=Path("digits"),
        images=data.images,
        labels=data.labels,
        splits=data.splits,
        classes=data.classes,
        mean=mean,
        std=std,
        kind=data.kind,
        sha256=fingerprint(data),
    )


def statistics(data: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of the training images, float32 [C], white is 1.

    The deviation is 1 where a channel does not vary, so that one may divide by it.
    """
    rows = np.flatnonzero(data.splits == TRAINING)
    channels = data.images.shape[3]
    # Counted, not summed: the same to the last bit whatever the size of a chunk.
    histogram = np.zeros((channels, 256), np.int64)
    for start in range(0, len(rows), _CHUNK):
        chunk = data.images[rows[start : start + _CHUNK]]
        for channel in range(channels):
            histogram[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    share = histogram / histogram.sum(1, keepdims=True)
    value = np.arange(256) / 255
    mean = share @ value
    std = np.sqrt((share * (value - mean[:, None]) ** 2).sum(1))
    constant = (histogram > 0).sum(1) == 1
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)


def count(data: ImageSet) -> dict[str, dict[str, int]]:
    """Images, or labelled pixels, per class and split."""
    found = [data.labels[data.splits == s] for s in range(len(SPLITS))]
    per_split = [np.bincount(x[x >= 0], minlength=len(data.classes)) for x in found]
    return {
        name: {split: int(per_split[s][k]) for s, split in enumerate(SPLITS)}
        for k, name in enumerate(data.classes)
    }


def fingerprint(data: ImageSet) -> str:
    """SHA-256 of what a run sees of a data set."""
    head = json.dumps([data.kind, list(data.classes), list(data.images.shape)])
    digest = hashlib.sha256(head.encode())
    for array, dtype in ((data.images, "u1"), (data.labels, "<i4"), (data.splits, "i1")):
        digest.update(np.ascontiguousarray(array, dtype).data)
    return digest.hexdigest()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """The contents of one of the JSON files, with these keys."""
    if not path.is_file():
        raise ValueError(f"expected the file {path.name} in the cache, got no {path}")
    value = read_json(path)
    if "frontend" in value:
        raise ValueError(
            f"expected a cache of images (data_prep.prepare_images), got one of audio in {path}"
        )
    if path.name == "dataset.json" and value.get("format") != FORMAT:
        raise ValueError(
            f"expected a cache of format {FORMAT!r}, got {value.get('format')!r} in {path}: "
            "prepare it again"
        )
    missing = [key for key in keys if key not in value]
    if missing:
        raise ValueError(f"expected the keys {', '.join(keys)} in {path}, got none of {missing}")
    if value.get("kind", KINDS[0]) not in KINDS or value.get("splits", list(SPLITS)) != list(
        SPLITS
    ):
        raise ValueError(
            f"expected a kind out of {', '.join(KINDS)} and the splits {', '.join(SPLITS)} in "
            f"{path}, got {value['kind']!r} and {value['splits']}"
        )
    return value


def _read_array(folder: Path, name: str) -> np.ndarray:
    """One array of the cache, memory-mapped where it may be long."""
    path = folder / f"{name}.npy"
    if not path.is_file():
        raise ValueError(f"expected the file {path.name} in the cache {folder}, got none")
    return read_array(path, mapped=name != "splits")


def _expect(path: Path, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    """ValueError unless an array of the cache is of this dtype and shape."""
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"expected {np.dtype(dtype).name} {list(shape)} in {path}, "
            f"got {array.dtype} {list(array.shape)}"
        )
