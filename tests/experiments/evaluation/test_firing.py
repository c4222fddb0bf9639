"""The detector on whole traces: its detections are `detect`'s."""

import itertools

import numpy as np
import pytest

from experiments.evaluation.firing import fired_in
from experiments.runs.stored_results import Trace
from sanas_jax.streaming.detector import Detector, detect

CLASSES = 4


def fired(rows, times, detector):
    return fired_in(Trace(times, rows, np.ones((len(times), 1)), np.zeros(len(times))), detector)


def random_rows(rng, steps, dtype=np.float32):
    """Posteriors that stay on a class for a few steps, as of words."""
    runs = rng.integers(0, CLASSES, steps).repeat(rng.integers(1, 9, steps))[:steps]
    logits = rng.normal(size=(steps, CLASSES)) + 2 * np.eye(CLASSES)[runs]
    rows = np.exp(logits)
    return (rows / rows.sum(1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_those_of_detect(dtype):
    rng = np.random.default_rng(0)
    even = 200 * np.arange(150)
    uneven = np.sort(rng.choice(np.arange(0, 40_000, 7), 150)) / 10  # fractions, some twice
    settings = itertools.product((0, 200, 300, 700), (0.0, 0.3, 0.5), (0, 300.1, 800), (1, 2, 4))
    count = fewer = 0
    for number, setting in enumerate(settings):
        for times in (even, uneven):
            rows = random_rows(rng, len(times), dtype)
            own = [(), (0.2, 0.6), (0.4, 0.1, 0.5, 0.3)][number % 3 - 1]
            talk = [(), (0.6, 0.25, 1000), (0.45, 0.3, 300.5, 3)][number % 5 % 3]
            detector = Detector(*setting, number % 3, own, *talk)
            expected = detect(rows, times, detector)
            assert fired(rows, times, detector) == expected  # labels, times, scores
            count += len(expected)
            fewer += len(detect(rows, times, Detector(*setting, number % 3, own))) - len(expected)
    assert count > 1000
    assert fewer > 50


def test_without_detections_there_are_none():
    rows = random_rows(np.random.default_rng(0), 5)
    times = 200 * np.arange(5)
    assert fired(rows, times, Detector(threshold=1.0)) == []
    assert fired(rows, times, Detector(min_count=9)) == []  # never enough results
    assert fired(rows[:0], times[:0], Detector()) == []
