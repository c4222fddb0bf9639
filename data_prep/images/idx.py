"""MNIST, Fashion-MNIST and their like: four idx files in a folder, gzipped or not.

An idx file is two zero bytes, 8 for uint8, the number of axes, their lengths as big-endian uint32,
and the values.
"""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from data_prep.images.image_set import ImageSet, check_labels, in_order

_PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_AXES = {"images": 3, "labels": 1}


def is_idx(path: Path) -> bool:
    """Whether a folder holds an idx file of training images."""
    return _PARTS[0] in _files(path)


def read_idx_folder(path: Path) -> ImageSet:
    """Read the four files. Raises ValueError where one is missing, cut off or of another kind."""
    files = _files(path)
    missing = [f"{part}-idx{_AXES[part[-6:]]}-ubyte" for part in _PARTS if part not in files]
    if missing:
        raise ValueError(f"expected {missing[0]} (or with .gz) in {path}, got none")
    images, labels, test_images, test_labels = (
        read_idx(files[part], _AXES[part[-6:]]) for part in _PARTS
    )
    classes = int(labels.max(initial=0)) + 1
    check_labels(test_labels, classes, files[_PARTS[3]].name)
    for part, pixels, found in (("train", images, labels), ("t10k", test_images, test_labels)):
        if len(pixels) != len(found):
            raise ValueError(
                f"expected as many {part} labels as images in {path}, "
                f"got {len(found)} and {len(pixels)}"
            )
    if images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"expected images of one size in {path}, "
            f"got {list(images.shape[1:])} and {list(test_images.shape[1:])}"
        )
    return ImageSet(
        images=np.concatenate([images, test_images])[..., None],
        labels=np.concatenate([labels, test_labels]).astype(np.int32),
        splits=in_order(len(images), len(test_images)),
        classes=tuple(map(str, range(classes))),
        form="idx",
        rule="as published",
    )


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array of an idx file, which must have so many axes."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"expected a whole gzip file in {path}: {error}") from error
    magic, start = bytes([0, 0, 8, axes]), 4 + 4 * axes
    if data[:4] != magic:
        raise ValueError(
            f"expected the bytes {magic.hex(' ')} (uint8, {axes} axes) at the start of {path}, "
            f"got {data[:4].hex(' ') or 'none'}"
        )
    shape = struct.unpack(f">{axes}I", data[4:start].ljust(4 * axes, b"\0"))
    if len(data) != start + math.prod(shape):
        raise ValueError(
            f"expected {start + math.prod(shape)} bytes for {list(shape)} in {path}, "
            f"got {len(data)}: is it cut off?"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _files(path: Path) -> dict[str, Path]:
    """Files of a folder by part; of one that lies there in both forms, the one without .gz."""
    pattern = re.compile(r"((?:train|t10k)-(?:images|labels))[-.]idx[13]-ubyte(?:\.gz)?")
    found = {}
    for file in sorted(path.iterdir(), reverse=True) if path.is_dir() else ():
        match = pattern.fullmatch(file.name)
        if match and file.is_file():
            found[match[1]] = file
    return found
