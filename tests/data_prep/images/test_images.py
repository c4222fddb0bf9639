"""A set of images: idx files, digits, what fits together and what does not."""

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.images.formats import read_images, recognised
from data_prep.images.image_set import (
    TESTING,
    TRAINING,
    VALIDATION,
    ImageSet,
    with_validation,
)
from tests.helpers.pictures import (
    RNG,
    assert_holds,
    in_folder,
    save,
)


def idx(array: np.ndarray) -> bytes:
    """An idx file of uint8."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """The four files with images of 3 × 4."""
    images, labels = RNG.integers(0, 256, (6, 3, 4)), np.array([0, 1, 2, 2, 1, 0])
    files = {
        "train-images-idx3-ubyte": idx(images[:4]),
        "train-labels-idx1-ubyte": idx(labels[:4]),
        "t10k-images-idx3-ubyte": idx(images[4:]),
        "t10k-labels-idx1-ubyte": idx(labels[4:]),
    }
    return files, images, labels


def test_read_idx_takes_names_and_gzip_as_published(tmp_path: Path) -> None:
    files, images, labels = mnist()
    for i, change in enumerate(
        [
            files,
            {f"{name}.gz": gzip.compress(data) for name, data in files.items()},
            {name.replace("-idx", ".idx"): data for name, data in files.items()},
            files | {"train-images-idx3-ubyte.gz": b"older"},
        ]
    ):
        path = in_folder(change, tmp_path / str(i))
        assert recognised(path) == "idx"
        data = read_images(path)
        assert_holds(data, images[..., None], labels, testing=2)
        assert data.classes == ("0", "1", "2")


def test_read_idx_refuses_damaged_files(tmp_path: Path) -> None:
    files, images, labels = mnist()
    train, test = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    for i, (change, message) in enumerate(
        [
            (files | {train: files[train][:-1]}, r"expected 64 bytes for \[4, 3, 4\].*got 63"),
            (files | {train: files[train][:6]}, "is it cut off"),
            (files | {train: b""}, "got none"),
            (files | {train: idx(labels)}, "00 00 08 03 .*got 00 00 08 01"),
            (files | {train: b"\0\0\x0d\x03" + files[train][4:]}, "got 00 00 0d 03"),
            (files | {train: idx(images[:3])}, "as many train labels as images in .*4 and 3"),
            (files | {"t10k-images-idx3-ubyte": idx(images[4:, :2])}, "images of one size"),
            (files | {test: idx(labels[4:] + 2)}, f"labels 0 to 2 in {test}, got 2 to 3"),
            ({k: v for k, v in files.items() if k != test}, f"expected {test} .*got none"),
            (
                {f"{k}.gz": gzip.compress(v)[:-9] for k, v in files.items()},
                r"expected a whole gzip file in .*train-images",
            ),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            read_images(in_folder(change, tmp_path / str(i)))


def test_read_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data = read_images(None)
    digits = load_digits()
    assert data.images.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(np.rint(data.images[..., 0] * (16 / 255)), digits.images)
    assert (data.images.min(), data.images.max()) == (0, 255)
    np.testing.assert_array_equal(data.labels, digits.target)
    assert (data.splits == TESTING).sum() == 360


def test_with_validation_is_stratified_and_seeded() -> None:
    labels = np.repeat(np.arange(4, dtype=np.int32), [100, 50, 3, 1])
    data = ImageSet(
        images=np.zeros((154, 1, 1, 1), np.uint8),
        labels=labels,
        splits=np.where(np.arange(154) % 10 == 7, TESTING, TRAINING).astype(np.int8),
        classes=tuple("abcd"),
        form="",
        rule="",
    )
    chosen = with_validation(data, 0.1, 3)
    counts = np.bincount(labels[chosen.splits == VALIDATION], minlength=4)
    assert counts.tolist() == [9, 4, 1, 0]  # of 90, 45, 3 and 1
    np.testing.assert_array_equal(chosen.splits == TESTING, data.splits == TESTING)
    assert with_validation(data, 0.1, 3).splits.tolist() == chosen.splits.tolist()
    assert with_validation(data, 0.1, 4).splits.tolist() != chosen.splits.tolist()
    assert with_validation(data, 0.0, 3) is data


def test_read_images_refuses_options_that_would_do_nothing(cifar10, tmp_path: Path) -> None:
    path = in_folder(cifar10[0], tmp_path / "a")
    (tmp_path / "empty").mkdir()
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((path, "auto", 16), "expected --size with folders of images"),
        ((path, "auto", None, "coarse"), "expected --labels with cifar100, got cifar10"),
        ((path, "digits"), "expected no --data with --format digits"),
        ((path, "cifar100"), "expected train, test, meta in .*got no train"),
        ((path, "idx"), "expected train-images-idx3-ubyte"),
        ((path, "folder"), "expected .*<class>"),
        ((path, "segmentation"), r"expected .*images/\*\.jpg"),
        ((path / "test_batch", "folder"), "expected a folder with --format folder, got the file"),
        ((path, "mnist"), "expected a format out of auto, cifar10"),
        ((None, "idx"), "expected --data with --format idx"),
        ((tmp_path / "empty",), "which is none of these"),
        ((tmp_path / "absent",), "absent: no such file"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            read_images(*arguments)


def test_classes_of_two_lines_are_refused(tmp_path: Path) -> None:
    for name in ("plain", "two\nlines"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "a.png", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / name / "b.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"written in a line, got 'two\\nlines'"):
        read_images(tmp_path, size=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 1))}, r"images uint8 \[N, H, W, C\], got float64"),
        ({"images": np.zeros((0, 4, 4, 1), np.uint8)}, r"got uint8 \[0, 4, 4, 1\]"),
        ({"labels": np.zeros(3, np.int32)}, r"labels int32 \[2\] or \[2, 4, 4\], got int32 \[3\]"),
        ({"splits": np.zeros(2)}, r"splits int8 \[2\], got float64"),
        ({"splits": np.ones(2, np.int8)}, "expected training images, got none"),
        ({"classes": ("a",)}, "expected two classes or more, got a"),
    ],
)
def test_image_set_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    whole = {
        "images": np.zeros((2, 4, 4, 1), np.uint8),
        "labels": np.zeros(2, np.int32),
        "splits": np.zeros(2, np.int8),
        "classes": ("a", "b"),
    }
    assert ImageSet(**whole, form="", rule="").kind == "images"
    with pytest.raises(ValueError, match=message):
        ImageSet(**(whole | change), form="", rule="")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for form in ("auto", "cifar10", "folder"):
        with pytest.raises(ValueError, match="got a pipe or a device"):
            read_images(tmp_path / "pipe", form)
