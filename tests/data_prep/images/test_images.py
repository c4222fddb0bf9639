"""Readers of images, on small files in the formats that are published."""

import gzip
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.images.formats import read_images, recognised
from data_prep.images.image_set import (
    TESTING,
    TRAINING,
    VALIDATION,
    VOID,
    ImageSet,
    with_validation,
)

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


@pytest.fixture
def cifar10() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Files of pickled CIFAR-10 with two images each, and what they hold in order."""
    images, labels = colours(12), np.array([0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    files = {"batches.meta": pickle.dumps({b"label_names": [c.encode() for c in CIFAR10]}, 2)}
    for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        two = slice(2 * i, 2 * i + 2)
        files[name] = python_2(images[two], labels[two].tolist(), b"labels")
    return files, images, labels


def in_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


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


def assert_holds(data: ImageSet, images: np.ndarray, labels: np.ndarray, testing: int) -> None:
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.splits.tolist() == [TRAINING] * (len(images) - testing) + [TESTING] * testing


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
        import os

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


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_read_folder_with_splits(tmp_path: Path) -> None:
    images, names = colours(6, 8), ["cat", "dog", "dog", "cat", "dog", "cat"]
    folders = ["train", "train", "train", "test", "test", "val"]
    kinds = ["a.png", "b.bmp", "c.PNG", "d.png", "e.png", "f.png"]
    for image, name, folder, file in zip(images, names, folders, kinds, strict=True):
        save(tmp_path / folder / name / file, image)
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "notes.txt").write_bytes(b"")
    data = read_images(tmp_path, size=8)
    assert data.form == "folder"
    assert data.classes == ("cat", "dog")
    assert [int(np.argmax((images == got).all((1, 2, 3)))) for got in data.images] == [
        *(3, 4),  # test
        *(0, 1, 2),  # train
        5,  # val
    ]
    np.testing.assert_array_equal(data.images, images[[3, 4, 0, 1, 2, 5]])
    assert data.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert data.splits.tolist() == [TESTING] * 2 + [TRAINING] * 3 + [VALIDATION]
    assert with_validation(data, 0.5, 0) is data
    save(tmp_path / "test" / "cow" / "a.png", images[0])
    with pytest.raises(ValueError, match=r"training images of every class in .*got none of cow"):
        read_images(tmp_path)


def by_content(data: ImageSet) -> dict[tuple[int, int], int]:
    """Split of an image by label and first pixel."""
    pairs = np.c_[data.labels, data.images[:, 0, 0, 0]].tolist()
    return {(a, b): split for (a, b), split in zip(pairs, data.splits.tolist(), strict=True)}


def test_read_folder_splits_by_hash_of_the_name(tmp_path: Path) -> None:
    for name in ("train", "bus"):  # a class may be named like a split
        for i in range(60):
            save(tmp_path / "a" / name / f"{i}.png", np.full((2, 2), i, np.uint8))
    data = read_images(tmp_path / "a", size=2)
    assert data.classes == ("bus", "train")
    assert data.images.shape == (120, 2, 2, 1)
    assert 3 < (data.splits == TESTING).sum() < 25
    assert VALIDATION not in data.splits
    # Neither other files nor another encoding move a file.
    before = by_content(data)
    for i in range(0, 60, 2):
        (tmp_path / "a" / "bus" / f"{i}.png").unlink()
    for i in range(1, 60, 2):
        save(tmp_path / "a" / "bus" / f"{i}.bmp", np.full((2, 2), i, np.uint8))
        (tmp_path / "a" / "bus" / f"{i}.png").unlink()
    data = read_images(tmp_path / "a", "folder", size=2)
    after = by_content(data)
    assert len(after) == 90
    assert all(before[key] == split for key, split in after.items())


def test_read_folder_scales_and_converts(tmp_path: Path) -> None:
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 20:] = 200
    save(tmp_path / "a" / "wide.png", wide)
    save(tmp_path / "a" / "photo.jpg", wide, quality=95)
    save(tmp_path / "b" / "clear.png", np.full((9, 9, 4), 60, np.uint8))
    data = read_images(tmp_path, size=10)
    assert data.images.shape == (3, 10, 10, 1)
    row = data.images[1, 0, :, 0]
    assert row.tolist() == [0] * 4 + [row[4], 200 - row[4]] + [200] * 4
    assert np.abs(data.images[0].astype(int) - data.images[1]).max() < 8
    assert (data.images[2] == 60).all()
    assert read_images(tmp_path).images.shape == (3, 32, 32, 1)
    save(tmp_path / "b" / "red.png", np.full((9, 9, 3), (255, 0, 0), np.uint8))
    assert read_images(tmp_path).images.shape == (4, 32, 32, 3)
    save(tmp_path / "b" / "deep.png", np.full((9, 9), 40_000, np.uint16))
    with pytest.raises(ValueError, match=r"8 bits a channel in .*deep\.png, got mode I;16"):
        read_images(tmp_path)


def test_read_folder_names_what_it_cannot_read(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png", colours(1, 40)[0])
    save(tmp_path / "b" / "x.png", colours(1, 40)[0])
    bad = tmp_path / "b" / "y.png"
    for data in (b"", b"no image", (tmp_path / "a" / "x.png").read_bytes()[:2000]):
        bad.write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot read .*b/y\.png"):
            read_images(tmp_path)
    bad.unlink()
    (tmp_path / "b" / "x.png").unlink()
    with pytest.raises(ValueError, match="two classes or more, got a"):
        read_images(tmp_path)


def pairs(root: Path, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Ten images with masks of three classes and void."""
    images, masks = colours(10, size), RNG.integers(0, 3, (10, size, size)).astype(np.uint8)
    masks[:, 0] = 255
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(root / "images" / f"{i}.png", image)
        save(root / "masks" / f"{i}.png", mask)
    return images, masks


def test_read_segmentation_pairs(tmp_path: Path) -> None:
    images, masks = pairs(tmp_path)
    assert recognised(tmp_path) == "segmentation"
    data = read_images(tmp_path, size=6)
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.labels, np.where(masks == 255, VOID, masks.astype(int)))
    assert data.kind == "segmentation"
    assert data.classes == ("0", "1", "2")
    larger = read_images(tmp_path, size=12)  # each pixel four times: classes are not mixed
    np.testing.assert_array_equal(larger.labels, data.labels.repeat(2, 1).repeat(2, 2))
    (tmp_path / "classes.txt").write_text("wing\nbody\ntail\nlegs\n")
    assert read_images(tmp_path).classes == ("wing", "body", "tail", "legs")
    palette = Image.fromarray(masks[0]).convert("P")
    palette.putdata(masks[0].ravel().tolist())
    palette.save(tmp_path / "masks" / "0.png")
    np.testing.assert_array_equal(read_images(tmp_path, size=6).labels, data.labels)
    chosen = with_validation(data, 0.2, 0)
    assert 1 <= (chosen.splits == VALIDATION).sum() <= 2


def test_read_segmentation_refuses_bad_masks(tmp_path: Path) -> None:
    def check(message: str, change: Callable[[Path], object]) -> None:
        root = tmp_path / str(RNG.integers(2**40))
        pairs(root)
        change(root)
        with pytest.raises(ValueError, match=message):
            read_images(root)

    blank = np.zeros((6, 6), np.uint8)

    def only_void(root: Path) -> None:
        for i in range(10):
            save(root / "masks" / f"{i}.png", np.where(np.eye(6) > 0, 255, 0).astype(np.uint8))

    check(r"expected a mask .*masks/3\.png for 3\.png", lambda r: (r / "masks/3.png").unlink())
    check(r"a mask of 6 × 6 .*2\.png, got 5 × 6", lambda r: save(r / "masks/2.png", blank[:, :5]))
    check("class indices in .*got mode RGB", lambda r: save(r / "masks/2.png", colours(1, 6)[0]))
    check(r"cannot read .*masks/1\.png", lambda r: (r / "masks/1.png").write_bytes(b"P"))
    check(r"cannot read .*images/1\.png", lambda r: (r / "images/1.png").write_bytes(b"P"))
    check("labels -1 to 1 in .*classes.txt", lambda r: (r / "classes.txt").write_text("a\nb"))
    check("whose pixels are 0, 1, 2, … and 255 for none, got labels up to 0", only_void)


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
