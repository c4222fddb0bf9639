"""What a detector fires on a trace: as `detector.detect`, bit for bit, in a fraction of the time.

The mean posteriors of a window are computed once for all thresholds, and the firing rule visits
only the steps where something could fire, so that a setting costs milliseconds where `detect` takes
a second per hour of stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.runs.stored_results import Trace
from sanas_jax.streaming.detector import Detection, Detector


class Smoothed(NamedTuple):
    """Mean posteriors of a window, at the steps that have enough results, R of them.

    times_ms [R]; labels [R] with the highest mean; scores [R], that mean; talking [R]: whether
    people talk.
    """

    times_ms: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    talking: np.ndarray


class Candidates(NamedTuple):
    """Steps over their label's threshold, in order.

    change[i]: the next with another label than step i.
    """

    times_ms: list[float]
    labels: list[int]
    scores: list[float]
    change: list[int]


def fired_in(trace: Trace, detector: Detector) -> list[Detection]:
    """The detections of a trace."""
    steps = candidates(smooth(trace.posteriors, trace.times_ms, detector), detector)
    return fire(steps, detector.suppression_ms, detector.silence_label)


def smooth(posteriors: np.ndarray, times_ms: np.ndarray, detector: Detector) -> Smoothed:
    """Mean posteriors as `detector.detector_step` forms them, of posteriors [T, K] at times [T].

    Of the detector's settings thresholds and suppression do not count, but that one of talk is set.
    """
    first, enough = inside(times_ms, detector.window_ms, detector.min_count)
    talking = _talking(posteriors, times_ms, detector)[enough]
    counts = np.arange(len(times_ms)) - first + 1
    first, counts, times_ms = first[enough], counts[enough], times_ms[enough]
    divisors = counts.astype(posteriors.dtype)[:, None]
    means = np.zeros((len(first), posteriors.shape[1]))
    # Oldest first, divided before summing: sums equal those of one step after the other.
    for age in range(int(counts.max(initial=0))):
        held = counts > age
        means[held] += posteriors[first[held] + age] / divisors[held]
    labels = means.argmax(1)
    return Smoothed(times_ms, labels, means[np.arange(len(labels)), labels], talking)


def inside(times_ms: np.ndarray, window_ms: float, min_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each step [T] the first result in its window, and whether there are enough."""
    first = np.searchsorted(times_ms, times_ms - window_ms)
    counts = np.arange(len(times_ms)) - first + 1
    return first, (counts >= min_count) & (times_ms - times_ms[first] >= window_ms / 4)


def candidates(smoothed: Smoothed, detector: Detector) -> Candidates:
    """The steps whose mean posterior is over their label's threshold."""
    every = range(int(smoothed.labels.max(initial=0)) + 1)
    thresholds = np.array(
        [[detector.threshold_of(label, talking) for label in every] for talking in (False, True)]
    )
    over = smoothed.scores > thresholds[smoothed.talking.astype(int), smoothed.labels]
    times, labels, scores = (array[over] for array in smoothed[:3])
    starts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    runs = np.searchsorted(starts, np.arange(len(labels)), side="right")
    change = np.append(starts, len(labels))[runs]
    return Candidates(times.tolist(), labels.tolist(), scores.tolist(), change.tolist())


def fire(steps: Candidates, suppression_ms: float, silence_label: int = 0) -> list[Detection]:
    """The firing rule of `detector.detect`, from one firing to the next."""
    found: list[Detection] = []
    fired, at, end = silence_label, 0, len(steps.labels)
    while at < end:
        if steps.labels[at] == fired:
            at = steps.change[at]
            continue
        fired, time = steps.labels[at], steps.times_ms[at]
        if fired == silence_label:  # after which there is no wait
            at += 1
            continue
        found.append(Detection(fired, time, steps.scores[at]))
        at = _waited(steps.times_ms, at, suppression_ms)
    return found


def _talking(posteriors: np.ndarray, times_ms: np.ndarray, detector: Detector) -> np.ndarray:
    """Whether people talk [T], in the detector's own order of sums; no where it changes nothing."""
    if not detector.talk_threshold:
        return np.zeros(len(times_ms), bool)
    found, talk, before = [], 0.0, None
    for unknown, now in zip(
        posteriors[:, detector.unknown_label].tolist(), times_ms.tolist(), strict=True
    ):
        found.append(talk > detector.talk_share)
        if before is not None:
            talk = detector.talk_after(talk, unknown, now - before)
        before = now
    return np.array(found, bool)


def _waited(times_ms: Sequence[float], fired: int, suppression_ms: float) -> int:
    """The first step more than `suppression_ms` after step `fired`."""
    start = times_ms[fired]
    # Differences, as in `detector_step`: sums of fractions could round to the other side.
    return bisect_right(times_ms, suppression_ms, lo=fired + 1, key=lambda time: time - start)
