"""CIFAR in all the forms in which it is published, and files that only look like it."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.images.formats import read_images
from tests.helpers.pictures import (
    CIFAR10,
    RNG,
    assert_holds,
    colours,
    in_folder,
    planar,
    python_2,
)


def in_archive(files: dict[str, bytes], path: Path, inside: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def binary10(images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    records = np.concatenate([labels[:, None].astype(np.uint8), planar(images)], 1)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    files = {n: records[2 * i : 2 * i + 2].tobytes() for i, n in enumerate(names)}
    return files | {"batches.meta.txt": ("\n".join(CIFAR10) + "\n\n").encode()}


def test_read_cifar10_is_the_same_in_all_forms(cifar10, tmp_path: Path) -> None:
    files, images, labels = cifar10
    binary = binary10(images, labels)
    sources = {
        "cifar10, pickled": [
            in_archive(files, tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py"),
            in_folder(files, tmp_path / "a"),
            in_folder(files, tmp_path / "b" / "cifar-10-batches-py").parent,
        ],
        "cifar10, binary": [
            in_archive(binary, tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
            in_folder(binary, tmp_path / "c"),
        ],
    }
    for form, paths in sources.items():
        for path in paths:
            data = read_images(path)
            assert data.form == form
            assert data.classes == CIFAR10
            assert_holds(data, images, labels, testing=2)
            assert_holds(read_images(path, "cifar10"), images, labels, testing=2)


def test_read_cifar10_takes_pickles_of_python_3(cifar10, tmp_path: Path) -> None:
    files, images, labels = cifar10
    rows = planar(images[:2])
    for order, two in (("C", rows), ("Fortran", np.asfortranarray(rows))):
        content = {b"data": two, b"labels": labels[:2].tolist(), b"batch_label": b"1 of 5"}
        for protocol in (2, 4):
            files["data_batch_1"] = pickle.dumps(content, protocol)
            path = in_folder(files, tmp_path / f"{order}{protocol}")
            assert_holds(read_images(path), images, labels, testing=2)


@pytest.mark.parametrize("labels", [None, "fine", "coarse"])
def test_read_cifar100_chooses_its_labels(labels: str | None, tmp_path: Path) -> None:
    images, coarse, fine = colours(5), np.array([0, 1, 1, 0, 1]), np.array([0, 3, 2, 1, 3])
    names = {"coarse": ["fish", "flowers"], "fine": ["ray", "shark", "rose", "tulip"]}
    pickled = {
        "meta": pickle.dumps(
            {f"{k}_label_names".encode(): [n.encode() for n in v] for k, v in names.items()}, 2
        )
    }
    binary = {f"{k}_label_names.txt": "\n".join(v).encode() for k, v in names.items()}
    for name, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        both = {b"coarse_labels": coarse[rows].tolist(), b"fine_labels": fine[rows].tolist()}
        pickled[name] = pickle.dumps(both | {b"data": planar(images[rows])}, 2)
        records = [coarse[rows, None], fine[rows, None], planar(images[rows])]
        binary[f"{name}.bin"] = np.concatenate(records, 1).astype(np.uint8).tobytes()
    for path in (
        in_archive(pickled, tmp_path / "p.tar.gz", "cifar-100-python"),
        in_folder(binary, tmp_path / "b"),
    ):
        data = read_images(path, labels=labels)
        assert_holds(data, images, coarse if labels == "coarse" else fine, testing=2)
        assert data.classes == tuple(names[labels or "fine"])


class Evil:
    """Runs a command where a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:

        return os.mkdir, (str(self.path),)


def test_read_cifar_refuses_evil_pickles(cifar10, tmp_path: Path) -> None:
    files = cifar10[0]
    files["data_batch_2"] = pickle.dumps({b"data": Evil(tmp_path / "evil"), b"labels": []}, 2)
    with pytest.raises(ValueError, match=r"data_batch_2: arrays .* only, got (posix|nt)\.mkdir"):
        read_images(in_folder(files, tmp_path / "a"))
    assert not (tmp_path / "evil").exists()
    for other in (np.zeros((2, 3072), object), np.zeros((2, 3072)), np.array([Evil(tmp_path)])):
        files["data_batch_2"] = pickle.dumps({b"data": other, b"labels": [0, 1]}, 2)
        with pytest.raises(ValueError, match="data_batch_2"):
            read_images(in_folder(files, tmp_path / str(RNG.integers(2**40))))
    # A length that the bytes do not have.
    files["data_batch_2"] = cifar10[0]["data_batch_1"].replace(
        b"(K\x02M\x00\x0ct", b"(K\x7fM\0\x0ct"
    )
    with pytest.raises(ValueError, match="data_batch_2: cannot reshape"):
        read_images(in_folder(files, tmp_path / "b"))


def test_read_cifar_refuses_damaged_files(cifar10, tmp_path: Path) -> None:
    files, images, labels = cifar10
    binary = binary10(images, labels)
    beyond = python_2(images[:2], [0, 10], b"labels")
    fewer = python_2(images[:2], [0], b"labels")
    listed = pickle.dumps([1, 2], 2)
    wide = pickle.dumps({b"data": np.zeros((2, 3073), np.uint8), b"labels": [0, 1]}, 2)
    words = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["0", -1]}, 2)
    for i, (change, message) in enumerate(
        [
            (files | {"data_batch_3": files["data_batch_3"][:3000]}, "data_batch_3: .*truncated"),
            (files | {"data_batch_3": b"no pickle"}, "expected a pickled dictionary in data_b"),
            (files | {"data_batch_3": listed}, "a pickled dictionary in data_batch_3, got list"),
            (files | {"data_batch_3": fewer}, "in data_batch_3, got 1 and 2"),
            (files | {"data_batch_3": wide}, r"uint8 \[n, 3072\] as b'data' in data_batch_3"),
            (files | {"data_batch_3": words}, "integers, 0 to 255, as b'labels' in data_batch_3"),
            (files | {"test_batch": beyond}, "labels 0 to 9 in test_batch, got 0 to 10"),
            (files | {"batches.meta": listed}, "dictionary in batches.meta"),
            ({k: v for k, v in files.items() if k != "data_batch_4"}, "got no data_batch_4"),
            (binary | {"data_batch_4.bin": bytes(3072)}, "3073 bytes in data_batch_4.bin, got 307"),
            (binary | {"data_batch_4.bin": b""}, "data_batch_4.bin, got 0 bytes"),
            (binary | {"data_batch_4.bin": b"\x0a" + bytes(3072)}, "in data_batch_4.bin, got 10"),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            read_images(in_folder(change, tmp_path / str(i)))
    archive = in_archive(files, tmp_path / "c.tar.gz", "cifar-10-batches-py")
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"c\.tar\.gz: cut off"):
        read_images(archive)
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"tar archive, got .*image\.png"):
        read_images(tmp_path / "image.png")
