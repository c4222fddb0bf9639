"""What every reader of images returns, and how validation images are chosen out of it."""

import dataclasses

import numpy as np

from data_prep.speech.cache import SPLITS

TRAINING, VALIDATION, TESTING = range(len(SPLITS))
VOID = -1  # label of a pixel that belongs to no class


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set in memory, where training holds it too.

    images: uint8 [N, H, W, C]
    labels: int32 [N], or [N, H, W] of pixels, where VOID is allowed
    splits: int8 [N], 0 training, 1 validation, 2 testing
    classes: K names
    form: what was read
    rule: one line that says what decided the splits
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    classes: tuple[str, ...]
    form: str
    rule: str

    def __post_init__(self) -> None:
        images, labels, splits = self.images, self.labels, self.splits
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            raise ValueError(
                f"expected images uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}"
            )
        one, per_pixel = list(images.shape[:1]), list(images.shape[:3])
        if labels.dtype != np.int32 or list(labels.shape) not in (one, per_pixel):
            raise ValueError(
                f"expected labels int32 {one} or {per_pixel}, "
                f"got {labels.dtype} {list(labels.shape)}"
            )
        if splits.dtype != np.int8 or list(splits.shape) != one:
            raise ValueError(f"expected splits int8 {one}, got {splits.dtype} {list(splits.shape)}")
        if len(self.classes) < 2:
            raise ValueError(f"expected two classes or more, got {', '.join(self.classes)}")
        for name in self.classes:
            if not name.isprintable():
                raise ValueError(f"expected classes that can be written in a line, got {name!r}")
        check_labels(labels, len(self.classes), "the data", 0 if labels.ndim == 1 else VOID)
        if TRAINING not in splits:
            raise ValueError("expected training images, got none")

    @property
    def kind(self) -> str:
        """`segmentation` where pixels have labels, else `images`."""
        return "images" if self.labels.ndim == 1 else "segmentation"


def check_labels(labels: np.ndarray, classes: int, name: str, lowest: int = 0) -> None:
    """ValueError that names what holds labels other than `lowest` to classes - 1."""
    if labels.size and (labels.min() < lowest or labels.max() >= classes):
        raise ValueError(
            f"expected labels {lowest} to {classes - 1} in {name}, "
            f"got {labels.min()} to {labels.max()}"
        )


def in_order(training: int, testing: int) -> np.ndarray:
    """Splits int8 where the training images come first, then those for testing."""
    return np.repeat(np.array([TRAINING, TESTING], np.int8), [training, testing])


def with_validation(data: ImageSet, fraction: float, seed: int) -> ImageSet:
    """Move a fraction of each class's training images to validation, at least one but never all.

    Images whose pixels have labels count as one class. A data set with validation images of its
    own, and a fraction of 0, change nothing.
    """
    if not fraction or VALIDATION in data.splits:
        return data
    generator = np.random.default_rng(seed)
    splits = data.splits.copy()
    strata = data.labels if data.kind == "images" else np.zeros(len(splits), np.int32)
    for stratum in np.unique(strata):
        rows = np.flatnonzero((strata == stratum) & (data.splits == TRAINING))
        count = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
        splits[generator.permutation(rows)[: max(count, 0)]] = VALIDATION
    whole = "each class's" if data.kind == "images" else "all"
    rule = f"{data.rule}; validation is {fraction:g} of {whole} training images, seed {seed}"
    return dataclasses.replace(data, splits=splits, rule=rule)
