"""Folders of PNG, JPEG and BMP images: a folder per class, or images beside masks of their parts.

    photos/{train,val,test}/<class>/*.png      val may be left out, and so may test
    photos/<class>/*.png                       a tenth is for testing, by the hash of the name
    parts/images/*.jpg  parts/masks/*.png      the same; pixels of a mask are classes, 255 is none
    parts/classes.txt                          names of the classes, a line each; may be left out

Images of any size are scaled to SIZE × SIZE, masks without mixing classes. They have one channel
where no image has colour, else three.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.command.progress import counted
from data_prep.command.reading import read_text
from data_prep.images.image_set import TESTING, TRAINING, VALIDATION, VOID, ImageSet, check_labels
from data_prep.speech.splits import hash_split

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TESTING),
}
_HASHED = "a tenth is for testing, by the SHA-1 hash of the name"
_VOID_IN_MASKS = 255


def is_segmentation(path: Path) -> bool:
    """Whether a folder has images and masks."""
    return (path / "images").is_dir() and (path / "masks").is_dir()


def is_folder(path: Path) -> bool:
    """Whether a folder has folders with images in them."""
    return path.is_dir() and any(
        _images(folder) or _has_classes(folder) for folder in _folders(path)
    )


def read_folder(path: Path, size: int) -> ImageSet:
    """Read a folder per class, scaled to `size` pixels a side.

    Raises ValueError where there are no images, one cannot be read, or classes are not trained.
    """
    groups = {f: _SPLIT_FOLDERS[f.name] for f in _folders(path) if f.name in _SPLIT_FOLDERS}
    groups = {folder: split for folder, split in groups.items() if _has_classes(folder)}
    by_folder = TRAINING in groups.values()
    if not by_folder:
        groups = {path: TRAINING}
    files = [f for group in groups for folder in _folders(group) for f in _images(folder)]
    if not files:
        raise ValueError(
            f"expected {path}/<class>/*.png, .jpg or .bmp (or {path}/train/<class>/), got none"
        )
    names = np.array([file.parent.name for file in files])
    splits = np.array([groups[file.parent.parent] for file in files], np.int8)
    rule = "by folder"
    if TESTING not in splits:
        rule = _HASHED
        hashed = np.array([_hashed(path, file) for file in files], np.int8)
        splits = np.where(splits == TRAINING, hashed, splits)
    classes, labels = np.unique(names, return_inverse=True)
    strange = sorted(set(map(str, names)) - set(map(str, names[splits == TRAINING])))
    if by_folder and strange:
        raise ValueError(
            f"expected training images of every class in {path}, got none of {strange[0]}"
        )
    pixels = np.empty((len(files), size, size, 3), np.uint8)
    for row, file in enumerate(counted(files, "file", "images")):
        pixels[row] = _colours(_decoded(file), file, size)
    return ImageSet(
        images=_one_channel_if_grey(pixels),
        labels=labels.astype(np.int32),
        splits=splits,
        classes=tuple(map(str, classes)),
        form="folder",
        rule=rule,
    )


def read_segmentation(path: Path, size: int) -> ImageSet:
    """Read images and their masks, scaled to `size` pixels a side.

    Raises ValueError where there are no images, or a mask is missing, of another size or no mask.
    """
    files = _images(path / "images") if is_segmentation(path) else []
    if not files:
        raise ValueError(f"expected {path}/images/*.jpg and {path}/masks/*.png, got none")
    masks = [path / "masks" / f"{file.stem}.png" for file in files]
    for file, mask in zip(files, masks, strict=True):
        if not mask.is_file():
            raise ValueError(f"expected a mask {mask} for {file.name}, got none")
    pixels = np.empty((len(files), size, size, 3), np.uint8)
    labels = np.empty((len(files), size, size), np.int32)
    pairs = list(zip(files, masks, strict=True))
    for row, (file, mask) in enumerate(counted(pairs, "file", "images")):
        image = _decoded(file)
        pixels[row] = _colours(image, file, size)
        labels[row] = _classes(_decoded(mask), mask, image.size, size)
    labels[labels == _VOID_IN_MASKS] = VOID
    return ImageSet(
        images=_one_channel_if_grey(pixels),
        labels=labels,
        splits=np.array([_hashed(path, file) for file in files], np.int8),
        classes=_mask_classes(path, labels),
        form="segmentation",
        rule=_HASHED,
    )


def _mask_classes(path: Path, labels: np.ndarray) -> tuple[str, ...]:
    """Names in classes.txt, else the numbers up to the largest label."""
    if (path / "classes.txt").is_file():
        lines = read_text(path / "classes.txt").splitlines()
        classes = tuple(line.strip() for line in lines if line.strip())
        check_labels(labels, len(classes), f"{path / 'masks'} (named in classes.txt)", VOID)
        return classes
    if labels.max() < 1:
        raise ValueError(
            f"expected two classes or more in {path / 'masks'}, whose pixels are 0, 1, 2, … and "
            f"{_VOID_IN_MASKS} for none, got labels up to {labels.max()}"
        )
    return tuple(map(str, range(int(labels.max()) + 1)))


def _folders(path: Path) -> list[Path]:
    """Folders in a folder, by name, without hidden ones."""
    return sorted(item for item in path.iterdir() if item.is_dir() and item.name[0] != ".")


def _images(path: Path) -> list[Path]:
    """Image files in a folder, by name, without hidden ones."""
    return sorted(
        item
        for item in path.iterdir()
        if item.suffix.lower() in SUFFIXES and item.name[0] != "." and item.is_file()
    )


def _has_classes(path: Path) -> bool:
    """Whether folders in a folder have images."""
    return any(map(_images, _folders(path)))


def _hashed(root: Path, file: Path) -> int:
    """Testing or training, for ever: whatever other files come, and if it is encoded anew."""
    name = os.path.splitext(file.relative_to(root).as_posix())[0]
    return TESTING if hash_split(name) == TESTING else TRAINING


def _colours(image: Image.Image, path: Path, size: int) -> np.ndarray:
    """An image uint8 [size, size, 3]."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"expected 8 bits a channel in {path}, got mode {image.mode}")
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _classes(mask: Image.Image, path: Path, shape: tuple[int, int], size: int) -> np.ndarray:
    """Classes uint8 [size, size] of a mask, which must be of its image's (width, height)."""
    if mask.mode not in ("1", "L", "P"):
        raise ValueError(f"expected one channel of class indices in {path}, got mode {mask.mode}")
    if mask.size != shape:
        raise ValueError(
            f"expected a mask of {shape[0]} × {shape[1]} in {path}, "
            f"got {mask.size[0]} × {mask.size[1]}"
        )
    return np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)).astype(np.uint8)


def _decoded(path: Path) -> Image.Image:
    """The image of a file; a ValueError names one that cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _one_channel_if_grey(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, 1] where no pixel of any of them has colour, else as they are."""
    grey = all(np.ptp(image, axis=-1).max() == 0 for image in images)
    return np.ascontiguousarray(images[..., :1]) if grey else images
