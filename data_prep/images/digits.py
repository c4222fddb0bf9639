"""The handwritten digits that come with scikit-learn: 1797 grey images of 8 × 8, no download."""

import numpy as np

from data_prep.images.image_set import ImageSet, in_order

_TESTING = 360  # a fifth


def read_digits() -> ImageSet:
    """The digits, their values 0 to 16 scaled to 0 to 255; the last fifth is for testing.

    Digits of one hand stand together, so the last are mostly by people who wrote none of the
    others: a random fifth would be easier.
    """
    # A second of start-up that only this data set is worth.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return ImageSet(
        images=images[..., None],
        labels=digits.target.astype(np.int32),
        splits=in_order(len(images) - _TESTING, _TESTING),
        classes=tuple(map(str, digits.target_names)),
        form="digits",
        rule="the last fifth is for testing",
    )
