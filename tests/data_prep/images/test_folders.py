"""Folders of pictures, and pictures with masks."""

from collections.abc import Callable
from pathlib import Path

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
from tests.helpers.pictures import (
    RNG,
    colours,
    save,
)


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
