"""Small pictures, in CIFAR's files and in sets."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.images.image_set import TESTING, TRAINING, ImageSet

RNG = np.random.default_rng(0)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", *"fghij")
# As Python 2 pickled arrays: protocol 2, NumPy's old module name, text that is bytes.
PICKLED_ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K%cM\x00\x0ct"
    b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89T%b%btb"
)


def colours(count: int, side: int = 32) -> np.ndarray:
    """Random images [n, side, side, 3]."""
    return RNG.integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def planar(images: np.ndarray) -> np.ndarray:
    """As in CIFAR: all of red, then green, then blue."""
    return np.stack([images[..., c].reshape(len(images), -1) for c in range(3)], 1).reshape(
        len(images), -1
    )


def python_2(images: np.ndarray, labels: list[int], key: bytes) -> bytes:
    """A batch as Python 2 pickled it, written opcode by opcode."""
    rows = planar(images)
    array = PICKLED_ARRAY % (bytes([len(rows)]), struct.pack("<I", rows.size), rows.tobytes())
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    name = b"U" + bytes([len(key)]) + key
    return b"\x80\x02}(U\x04data" + array + name + listed + b"u."


def in_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def assert_holds(data: ImageSet, images: np.ndarray, labels: np.ndarray, testing: int) -> None:
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.splits.tolist() == [TRAINING] * (len(images) - testing) + [TESTING] * testing


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
