"""CIFAR-10 and CIFAR-100 as they are published: pickled for Python or binary, packed or not.

A binary record is the label (CIFAR-100: coarse, then fine) and 3072 bytes of pixels; both forms
hold pixels as [colour, row, column]. Archives are read in memory: nothing is unpacked on disk.
"""

import dataclasses
import tarfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from data_prep.images.image_set import ImageSet, check_labels, in_order
from data_prep.images.pickled import unpickle

SIDE = 32
_PIXELS = 3 * SIDE * SIDE


@dataclasses.dataclass(frozen=True)
class _Form:
    """The files of one published form, and where they hold labels and the names of classes."""

    name: str
    training: tuple[str, ...]
    testing: str
    names: str
    keys: tuple[bytes, bytes] = (b"labels", b"label_names")  # pickled: of labels, of names
    column: int | None = None  # binary: of the label in a record
    label_bytes: int = 1  # binary: before the pixels

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (*self.training, self.testing, self.names)


def _forms(dataset: str, labels: str) -> tuple[_Form, _Form]:
    """The pickled and the binary form of `cifar10` or `cifar100`."""
    if dataset == "cifar10":
        batches = tuple(f"data_batch_{i}" for i in range(1, 6))
        in_binary = tuple(f"{name}.bin" for name in batches)
        return (
            _Form("cifar10, pickled", batches, "test_batch", "batches.meta"),
            _Form("cifar10, binary", in_binary, "test_batch.bin", "batches.meta.txt", column=0),
        )
    keys = (f"{labels}_labels".encode(), f"{labels}_label_names".encode())
    column = ("coarse", "fine").index(labels)
    in_text = f"{labels}_label_names.txt"
    return (
        _Form(f"cifar100, pickled, {labels}", ("train",), "test", "meta", keys),
        _Form(
            f"cifar100, binary, {labels}",
            ("train.bin",),
            "test.bin",
            in_text,
            column=column,
            label_bytes=2,
        ),
    )


def published(path: Path) -> str | None:
    """Which of `cifar10` and `cifar100` an archive or a folder is, None if neither."""
    names = _located(path) if path.is_dir() else _archived(path, None)
    for dataset in ("cifar10", "cifar100"):
        if any({form.training[0], form.testing} <= set(names) for form in _forms(dataset, "fine")):
            return dataset
    return None


def read_cifar(path: Path, dataset: str, labels: str = "fine") -> ImageSet:
    """Read `cifar10` or `cifar100` (`labels`: fine or coarse), from the .tar.gz or its folder.

    Raises ValueError where files are missing, cut off, or hold anything but images and labels.
    """
    forms = _forms(dataset, labels)
    files = _contents(path, {name for form in forms for name in form.files})
    form = max(forms, key=lambda form: len(files.keys() & set(form.files)))
    missing = [name for name in form.files if name not in files]
    if missing:
        raise ValueError(f"expected {', '.join(form.files)} in {path}, got no {missing[0]}")
    classes = _class_names(files[form.names], form)
    parts = [_read(files[name], name, form) for name in (*form.training, form.testing)]
    for name, (_, found) in zip((*form.training, form.testing), parts, strict=True):
        check_labels(found, len(classes), name)
    planar = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, SIDE, SIDE)
    testing = len(parts[-1][0])
    return ImageSet(
        images=np.ascontiguousarray(planar.transpose(0, 2, 3, 1)),
        labels=np.concatenate([found for _, found in parts]),
        splits=in_order(len(planar) - testing, testing),
        classes=classes,
        form=form.name,
        rule="as published",
    )


def _read(data: bytes, name: str, form: _Form) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [n, 3072] and labels int32 [n] of one file."""
    if form.column is None:
        return _read_pickled(data, name, form.keys[0])
    size = form.label_bytes + _PIXELS
    if not data or len(data) % size:
        raise ValueError(
            f"expected records of {size} bytes in {name}, got {len(data)} bytes: is it cut off?"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, form.label_bytes :], records[:, form.column].astype(np.int32)


def _read_pickled(data: bytes, name: str, key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The same of a pickled dictionary with its labels under `key`."""
    content = unpickle(data, name)
    pixels, labels = content.get(b"data"), content.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise ValueError(f"expected an array uint8 [n, {_PIXELS}] as b'data' in {name}")
    if not isinstance(labels, list) or not all(label in range(256) for label in labels):
        raise ValueError(f"expected a list of integers, 0 to 255, as {key!r} in {name}")
    if len(labels) != len(pixels):
        raise ValueError(
            f"expected as many labels as images in {name}, got {len(labels)} and {len(pixels)}"
        )
    return pixels, np.array(labels, np.int32)


def _class_names(data: bytes, form: _Form) -> tuple[str, ...]:
    """Names of the classes, in the order of their labels."""
    if form.column is not None:
        return tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    key = form.keys[1]
    names = unpickle(data, form.names).get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise ValueError(f"expected a list of names as {key!r} in {form.names}")
    return tuple(name.decode() for name in names)


def _contents(path: Path, names: Collection[str]) -> Mapping[str, bytes]:
    """Bytes of those of the named files that an archive or a folder has."""
    if not path.is_dir():
        return _archived(path, names)
    located = _located(path)
    return {name: located[name].read_bytes() for name in names if name in located}


def _located(path: Path) -> dict[str, Path]:
    """Files by name: of a folder, and of the one in it, which an archive unpacks to."""
    inside = [item for item in path.iterdir() if item.is_dir() and item.name[0] != "."]
    folders = [*inside, path] if len(inside) == 1 else [path]
    return {item.name: item for folder in folders for item in folder.iterdir() if item.is_file()}


def _archived(path: Path, names: Collection[str] | None) -> dict[str, bytes]:
    """Bytes of the named files of a tar archive; of None, all names without their bytes."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if not member.isfile() or (names is not None and name not in names):
                    continue
                file = archive.extractfile(member) if names is not None else None
                found[name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(
            f"expected a whole .tar.gz or .tar archive, got {path}: cut off, or of another kind"
        ) from error
    return found
