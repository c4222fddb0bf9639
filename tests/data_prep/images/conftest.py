"""CIFAR-10 in small."""

import pickle

import numpy as np
import pytest

from tests.helpers.pictures import CIFAR10, colours, python_2


@pytest.fixture
def cifar10() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Files of pickled CIFAR-10 with two images each, and what they hold in order."""
    images, labels = colours(12), np.array([0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    files = {"batches.meta": pickle.dumps({b"label_names": [c.encode() for c in CIFAR10]}, 2)}
    for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        two = slice(2 * i, 2 * i + 2)
        files[name] = python_2(images[two], labels[two].tolist(), b"labels")
    return files, images, labels
