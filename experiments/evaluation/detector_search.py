"""The detector that suits a model: smoothing, thresholds and suppression chosen on streams.

Every setting of a grid is tried on the same posteriors. The mean posteriors of a window are
computed once for all its thresholds, and the firing rule visits only the steps where something
could fire, so that a setting costs milliseconds where `detector.detect` takes a second per hour of
stream. The detections are the same, bit for bit; the choice is scored with `detect` itself.

Silence and unknown words are no alarms where nothing should fire, so they have thresholds of their
own. Those of single words are not chosen: what is there to choose them on tells too little of a
word (docs/measurements.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import inf
from typing import NamedTuple

import numpy as np

from experiments.datasets.streams import Stream
from experiments.evaluation.scoring import ROC_SCORES, score
from experiments.runs.stored_results import Trace
from sanas_jax.streaming.detector import Detection, Detector, detect
from sanas_jax.streaming.scores import score_stream

PROTOCOL = Detector()
TOLERANCE_MS = 750.0
# A window of 0 ms does not smooth: every posterior stands for itself.
WINDOWS_MS = (0, 200, 300, 400, 500, 600, 700, 800, 1000)
THRESHOLDS = tuple(np.arange(0.2, 0.951, 0.025).round(3).tolist())
# Where people talk and nothing should fire, more is asked of a word.
STRICT = (*THRESHOLDS, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
SUPPRESSIONS_MS = (300, 500, 700, 900, 1200, 1500)
# Of silence and unknown words, where the words' is higher and negatives say what is an alarm; and
# those that are tried afterwards.
FIRST_OWN = (0.5, 0.4)
OWN = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


class Smoothed(NamedTuple):
    """Mean posteriors of a window, at the steps that have enough results, R of them.

    times_ms [R]; labels [R] with the highest mean; scores [R], that mean.
    """

    times_ms: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Trial(NamedTuple):
    """A setting, its `correct_pct - wrong_pct`, and its false alarms per hour.

    gain: a mean over streams, counted by the rule "set"; alarms: those that are limited; on_streams
    those on the streams.
    """

    detector: Detector
    gain: float
    alarms: float
    on_streams: float


class Negatives(NamedTuple):
    """Audio without words: traces, how many detections in each are false alarms, and its length."""

    traces: Sequence[Trace]
    count: Callable[[Sequence[Sequence[Detection]]], int]
    hours: float


class Candidates(NamedTuple):
    """Steps over their label's threshold, in order.

    change[i]: the next with another label than step i.
    """

    times_ms: list[float]
    labels: list[int]
    scores: list[float]
    change: list[int]


# What tells the detections of a setting in each stream of a group.
Found = Callable[[], list[list[Detection]]]


def choose(
    streams: Sequence[Stream],
    traces: Sequence[Trace],
    classes: Sequence[str],
    limit: float,
    tolerance_ms: float = TOLERANCE_MS,
) -> tuple[Detector, dict[str, float]]:
    """The setting with most `correct_pct - wrong_pct`, and its scores as `mean_scores` gives them.

    Args:
      streams, traces, classes, tolerance_ms: as of `Search`.
      limit: false alarms per hour, all streams together, that must not be exceeded.

    Raises:
      ValueError: no stream, not a trace for each, a negative limit, or one that no setting keeps.
    """
    search = Search(streams, traces, classes, tolerance_ms)
    trials = search.try_all()
    best = best_trial(trials, limit)
    if best is None:
        raise ValueError(
            f"false alarms per hour: expected a limit that some detector keeps, got {limit:g}; "
            f"the fewest are {fewest_alarms(trials):.1f}"
        )
    detector = search.refined(best, limit).detector
    return detector, mean_scores(streams, traces, classes, detector, tolerance_ms)


class Search:
    """Detectors tried on the same posteriors."""

    def __init__(
        self,
        streams: Sequence[Stream],
        traces: Sequence[Trace],
        classes: Sequence[str],
        tolerance_ms: float = TOLERANCE_MS,
        negatives: Negatives | None = None,
    ) -> None:
        """What they are tried on.

        Args:
          streams: labelled, of a split that the model is not tested on.
          traces: of the model, one per stream.
          classes: names [K], silence first.
          tolerance_ms: largest distance to the truth.
          negatives: audio without words, on which false alarms are counted in place of the streams.
        """
        if not streams or len(streams) != len(traces):
            raise ValueError(
                f"expected streams and a trace for each, got {len(streams)} and {len(traces)}"
            )
        self._streams, self._negatives, self._tolerance_ms = streams, negatives, tolerance_ms
        self._truths = [[classes.index(word) for word in stream.words] for stream in streams]
        self._hours = _hours(streams)
        self._groups = traces, negatives.traces if negatives else ()

    def try_all(self, limit: float = inf) -> list[Trial]:
        """Every setting of the grid.

        limit: of false alarms an hour on the negatives; what has more is not tried on the streams,
        and gains nothing.
        """
        thresholds = STRICT if self._negatives else THRESHOLDS
        # Firings of unknown words count among those of the streams.
        own = FIRST_OWN if self._negatives else ()
        return [self._trial(*tried, limit) for tried in _search(self._groups, thresholds, own)]

    def refined(self, best: Trial, limit: float) -> Trial:
        """The best trial, or a better one with other thresholds of silence and unknown words."""
        window_ms, least = best.detector.window_ms, best.detector.min_count
        smoothed = _smoothed(self._groups, window_ms, least)
        for label in reversed(range(len(FIRST_OWN))):
            trials = [best]
            for threshold in OWN:
                own = [best.detector.threshold_of(each) for each in range(len(FIRST_OWN))]
                own[label] = threshold
                detector = replace(best.detector, thresholds=tuple(own))
                firing = [_Firing(group, detector) for group in smoothed]
                suppression_ms = detector.suppression_ms
                found = [partial(each.detections, suppression_ms) for each in firing]
                trials.append(self._trial(detector, found, limit))
            best = best_trial(trials, limit) or best
        return best

    def _trial(self, detector: Detector, found: Sequence[Found], limit: float) -> Trial:
        """A setting that finds this on the streams and on the negatives."""
        negatives, (on_streams, on_others) = self._negatives, found
        alarms = negatives.count(on_others()) / negatives.hours if negatives else 0.0
        if negatives and alarms > limit:
            return Trial(detector, -inf, alarms, inf)
        counts = [
            score_stream(detections, truth, stream.times_ms, tolerance_ms=self._tolerance_ms)
            for detections, truth, stream in zip(
                on_streams(), self._truths, self._streams, strict=True
            )
        ]
        own = sum(count.false_alarms for count in counts) / self._hours
        gain = float(np.mean([count.correct_pct - count.wrong_pct for count in counts]))
        return Trial(detector, gain, alarms if negatives else own, own)


def best_trial(trials: Sequence[Trial], limit: float) -> Trial | None:
    """The trial with the greatest gain among those that keep a limit of false alarms per hour.

    Ties go to fewer false alarms, then to the setting nearer to the protocol's. None if none does.
    """
    if not 0 <= limit < inf:
        raise ValueError(f"false alarms per hour: expected a limit of 0 or more, got {limit}")
    kept = [trial for trial in trials if trial.alarms <= limit]
    # Rounded: equal gains of other counts may differ in the last bit of a mean.
    return min(
        kept,
        key=lambda t: (-round(t.gain, 9), t.alarms, t.on_streams, _distance(t.detector)),
        default=None,
    )


def fewest_alarms(trials: Sequence[Trial]) -> float:
    """False alarms per hour that some setting keeps."""
    return min(trial.alarms for trial in trials)


def mean_scores(
    streams: Sequence[Stream],
    traces: Sequence[Trace],
    classes: Sequence[str],
    detector: Detector,
    tolerance_ms: float = TOLERANCE_MS,
) -> dict[str, float]:
    """`scoring.ROC_SCORES`: percentages are means over streams, false alarms of all together."""
    found = [
        score(stream, detect(trace.posteriors, trace.times_ms, detector), classes, tolerance_ms)
        for stream, trace in zip(streams, traces, strict=True)
    ]
    out = {name: float(np.mean([each[name] for each in found])) for name in ROC_SCORES}
    seconds = [each["seconds"] for each in found]
    rates = [each["false_alarms_per_hour"] for each in found]
    out["false_alarms_per_hour"] = float(np.average(rates, weights=seconds))
    return out


def smooth(
    posteriors: np.ndarray, times_ms: np.ndarray, window_ms: float, min_count: int
) -> Smoothed:
    """Mean posteriors as `detector.detector_step` forms them, of posteriors [T, K] at times [T]."""
    first, enough = _inside(times_ms, window_ms, min_count)
    counts = np.arange(len(times_ms)) - first + 1
    first, counts, times_ms = first[enough], counts[enough], times_ms[enough]
    divisors = counts.astype(posteriors.dtype)[:, None]
    means = np.zeros((len(first), posteriors.shape[1]))
    # Oldest first, divided before summing: sums equal those of one step after the other.
    for age in range(int(counts.max(initial=0))):
        inside = counts > age
        means[inside] += posteriors[first[inside] + age] / divisors[inside]
    labels = means.argmax(1)
    return Smoothed(times_ms, labels, means[np.arange(len(labels)), labels])


def candidates(smoothed: Smoothed, detector: Detector) -> Candidates:
    """The steps whose mean posterior is over their label's threshold."""
    every = range(int(smoothed.labels.max(initial=0)) + 1)
    thresholds = np.array([detector.threshold_of(label) for label in every])
    over = smoothed.scores > thresholds[smoothed.labels]
    times, labels, scores = (array[over] for array in smoothed)
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


def _search(
    groups: Sequence[Sequence[Trace]], thresholds: Sequence[float], first_own: Sequence[float]
) -> Iterator[tuple[Detector, list[Found]]]:
    """Every setting of the grid, and what tells its detections in the streams of each group."""
    every = [trace for group in groups for trace in group]
    for window_ms, least in _windows(every):
        smoothed = _smoothed(groups, window_ms, least)
        for threshold in thresholds:
            own = tuple(min(first, threshold) for first in first_own)
            detector = Detector(window_ms, threshold, min_count=least, thresholds=own)
            firing = [_Firing(group, detector) for group in smoothed]
            for suppression_ms in SUPPRESSIONS_MS:
                found: list[Found] = [partial(each.detections, suppression_ms) for each in firing]
                yield replace(detector, suppression_ms=suppression_ms), found


def _windows(traces: Sequence[Trace]) -> list[tuple[float, int]]:
    """Windows, and the results that there must be in them.

    Of windows that hold the same steps, as those of 400 and 500 ms where decisions are 200 ms
    apart, that which is nearest to the protocol's.
    """
    found: dict[tuple[bytes, ...], tuple[float, int]] = {}
    for window_ms in sorted(WINDOWS_MS, key=lambda window_ms: abs(window_ms - PROTOCOL.window_ms)):
        least = _min_count(traces, window_ms)
        inside = [_inside(trace.times_ms, window_ms, least) for trace in traces]
        held = tuple(array.tobytes() for arrays in inside for array in arrays)
        found.setdefault(held, (window_ms, least))
    return sorted(found.values())


def _inside(
    times_ms: np.ndarray, window_ms: float, min_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each step [T] the first result in its window, and whether there are enough."""
    first = np.searchsorted(times_ms, times_ms - window_ms)
    counts = np.arange(len(times_ms)) - first + 1
    return first, (counts >= min_count) & (times_ms - times_ms[first] >= window_ms / 4)


def _smoothed(
    groups: Sequence[Sequence[Trace]], window_ms: float, least: int
) -> list[list[Smoothed]]:
    """The streams of each group, smoothed."""
    return [[smooth(t.posteriors, t.times_ms, window_ms, least) for t in group] for group in groups]


class _Firing:
    """Streams at the thresholds of a detector, looked at once somebody asks."""

    def __init__(self, smoothed: Sequence[Smoothed], detector: Detector) -> None:
        self._smoothed, self._detector = smoothed, detector

    @cached_property
    def _steps(self) -> list[Candidates]:
        return [candidates(each, self._detector) for each in self._smoothed]

    def detections(self, suppression_ms: float) -> list[list[Detection]]:
        """Of each stream."""
        return [fire(each, suppression_ms) for each in self._steps]


def _min_count(traces: Sequence[Trace], window_ms: float) -> int:
    """The protocol's, or what a full window holds if that is less.

    At the even steps of a trace it only tells the first steps of a stream from the others, which
    is nothing to choose by; more than a full window holds, and nothing would ever fire.
    """
    full = min(int((t.times_ms - t.times_ms[0] <= window_ms).sum()) for t in traces)
    return min(PROTOCOL.min_count, full)


def _waited(times_ms: Sequence[float], fired: int, suppression_ms: float) -> int:
    """The first step more than `suppression_ms` after step `fired`."""
    start = times_ms[fired]
    # Differences, as in `detector_step`: sums of fractions could round to the other side.
    return bisect_right(times_ms, suppression_ms, lo=fired + 1, key=lambda time: time - start)


def _distance(detector: Detector) -> float:
    """How far a setting is from the protocol's, as a sum of relative changes."""
    names = ("window_ms", "threshold", "suppression_ms")
    return sum(abs(getattr(detector, name) / getattr(PROTOCOL, name) - 1) for name in names)


def _hours(streams: Sequence[Stream]) -> float:
    """Length of all streams together."""
    return sum(len(stream.samples) / stream.rate for stream in streams) / 3600
