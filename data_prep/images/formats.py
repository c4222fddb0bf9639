"""The data sets of images that can be read, and how to tell which one lies at a path."""

from pathlib import Path

from data_prep.images import cifar, folders, idx
from data_prep.images.digits import read_digits
from data_prep.images.image_set import ImageSet

FORMATS = ("auto", "cifar10", "cifar100", "idx", "folder", "segmentation", "digits")
SIZE = 32  # pixels a side


def read_images(
    path: Path | None, form: str = "auto", size: int | None = None, labels: str | None = None
) -> ImageSet:
    """Read the data set at `path` into memory; no path is for the digits of scikit-learn.

    `size`, pixels a side, is for folders of images and masks (None: 32); `labels`, fine or coarse,
    for CIFAR-100 (None: fine). Raises ValueError where there is no such data set.
    """
    if form not in FORMATS:
        raise ValueError(f"expected a format out of {', '.join(FORMATS)}, got {form!r}")
    if path is None:
        if form not in ("auto", "digits"):
            raise ValueError(f"expected --data with --format {form}, got none")
        form = "digits"
    else:
        if not path.exists():
            raise ValueError(f"expected a folder or an archive of images, got {path}: no such file")
        if not path.is_dir() and not path.is_file():
            raise ValueError(f"expected a folder or an archive, got a pipe or a device: {path}")
        form = recognised(path) if form == "auto" else form
        if form == "digits":
            raise ValueError("expected no --data with --format digits, which scikit-learn brings")
        if path.is_file() and form not in ("cifar10", "cifar100"):
            raise ValueError(f"expected a folder with --format {form}, got the file {path}")
    if size is not None and form not in ("folder", "segmentation"):
        raise ValueError(f"expected --size with folders of images, which are scaled, got {form}")
    if labels is not None and form != "cifar100":
        raise ValueError(f"expected --labels with cifar100, got {form}")
    if path is None:
        return read_digits()
    if form in ("cifar10", "cifar100"):
        return cifar.read_cifar(path, form, labels or "fine")
    if form == "idx":
        return idx.read_idx_folder(path)
    if form == "segmentation":
        return folders.read_segmentation(path, size or SIZE)
    return folders.read_folder(path, size or SIZE)


def recognised(path: Path) -> str:
    """The format of what lies at a path. Raises ValueError where it is none of them."""
    published = cifar.published(path)
    if published:
        return published
    if path.is_dir():
        if idx.is_idx(path):
            return "idx"
        if folders.is_segmentation(path):
            return "segmentation"
        if folders.is_folder(path):
            return "folder"
    raise ValueError(
        "expected the archive or folder of CIFAR-10 or CIFAR-100, a folder of idx files, of "
        f"<class>/*.png, or of images/ and masks/, got {path}, which is none of these"
    )
