"""The detector that suits a model: smoothing, thresholds and suppression chosen on streams.

Every setting of a grid is tried on the same posteriors (`firing`); the choice is scored with
`detector.detect` itself. Audio without words limits the false alarms, in all and in each set of it.

Silence and unknown words are no alarms where nothing should fire, so they have thresholds of their
own. Where people talk more may be asked of a word. Thresholds of single words are not chosen: what
is there to choose them on tells too little of a word (docs/measurements.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import inf
from typing import NamedTuple

import numpy as np

from experiments.datasets.streams import Stream
from experiments.evaluation.firing import Candidates, Smoothed, candidates, fire, inside, smooth
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
# Of words where people talk: 0, as elsewhere, or higher.
TALK = (0.0, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
# With negatives: the others are tried once thresholds are chosen.
FIRST_SUPPRESSION_MS = 900


class Trial(NamedTuple):
    """A setting, its `correct_pct - wrong_pct`, and its false alarms per hour.

    gain: a mean over streams, counted by the rule "set"; alarms: those that are limited, of
    negatives as `AlarmCounter.rate` counts them; on_streams: those on the streams; rank: of equals
    the least is chosen.
    """

    detector: Detector
    gain: float
    alarms: float
    on_streams: float
    rank: float


class AlarmCounter(NamedTuple):
    """Sets of audio without words: traces, what counts false alarms in each set, and its hours.

    alarms_of: the detections of every trace → a number for each set.
    """

    traces: Sequence[Trace]
    alarms_of: Callable[[Sequence[Sequence[Detection]]], Sequence[int]]
    hours: Sequence[float]

    def rate(self, found: Sequence[Sequence[Detection]]) -> float:
        """False alarms an hour of all sets together, or of a set with several, where it is more.

        Of all alone, hours of silence would pay for alarms while people talk; but a single alarm
        in a set of a few minutes tells no rate of it.
        """
        counts = self.alarms_of(found)
        of_sets = zip(counts, self.hours, strict=True)
        several = [alarms / hours for alarms, hours in of_sets if alarms > 1]
        return max([sum(counts) / sum(self.hours), *several])


# What tells the detections of a setting in each stream of a group.
Found = Callable[[], list[list[Detection]]]


class Search:
    """Detectors tried on the same posteriors."""

    def __init__(
        self,
        streams: Sequence[Stream],
        traces: Sequence[Trace],
        classes: Sequence[str],
        tolerance_ms: float = TOLERANCE_MS,
        negatives: AlarmCounter | None = None,
        talk: bool = True,
    ) -> None:
        """What they are tried on.

        Args:
          streams: labelled, of a split that the model is not tested on.
          traces: of the model, one per stream.
          classes: names [K], silence first.
          tolerance_ms: largest distance to the truth.
          negatives: audio without words, on which false alarms are counted in place of the streams.
          talk: with negatives, higher thresholds of words where people talk are tried.
        """
        if not streams or len(streams) != len(traces):
            raise ValueError(
                f"expected streams and a trace for each, got {len(streams)} and {len(traces)}"
            )
        self._streams, self._negatives, self._tolerance_ms = streams, negatives, tolerance_ms
        self._talk = TALK if talk else TALK[:1]
        self._truths = [[classes.index(word) for word in stream.words] for stream in streams]
        self._hours = _hours(streams)
        self._groups = traces, negatives.traces if negatives else ()

    def try_all(self, limit: float = inf) -> list[Trial]:
        """Every setting of the grid.

        limit: of false alarms an hour on negatives; what has more is not tried on the streams, and
        gains nothing.
        """
        return [self._trial(*tried, limit) for tried in self._grid()]

    def choose(self, trials: Sequence[Trial], limit: float) -> Trial | None:
        """The best of the grid's trials that keep a limit of alarms an hour, refined, if any do."""
        best = best_trial(trials, limit)
        return best and self._refined(best, limit)

    def _refined(self, best: Trial, limit: float) -> Trial:
        """The best trial, or a better one: thresholds of silence and unknown words, suppression."""
        smoothed = self._smoothed(best.detector)
        for label in reversed(range(len(FIRST_OWN))):
            own = [best.detector.threshold_of(each) for each in range(len(FIRST_OWN))]
            others = ([*own[:label], threshold, *own[label + 1 :]] for threshold in OWN)
            tried = [replace(best.detector, thresholds=tuple(other)) for other in others]
            best = self._better(best, smoothed, tried, limit)
        tried = [replace(best.detector, suppression_ms=each) for each in SUPPRESSIONS_MS]
        return self._better(best, smoothed, tried, limit)

    def _better(
        self,
        best: Trial,
        smoothed: Sequence[Sequence[Smoothed]],
        tried: Sequence[Detector],
        limit: float,
    ) -> Trial:
        """The best of these, all of one window, and the best so far."""
        trials = [best]
        for detector in tried:
            own = (detector.suppression_ms,)
            trials += [self._trial(*each, limit) for each in _found(smoothed, detector, own)]
        return best_trial(trials, limit) or best

    def _grid(self) -> Iterator[tuple[Detector, list[Found]]]:
        """Every setting, and what tells its detections in the streams of each group."""
        every = [trace for group in self._groups for trace in group]
        suppressions = (FIRST_SUPPRESSION_MS,) if self._negatives else SUPPRESSIONS_MS
        for window_ms, least in _windows(every):
            talk = self._talk[-1] if self._negatives else 0.0
            smoothed = self._smoothed(Detector(window_ms, min_count=least, talk_threshold=talk))
            for detector in self._first(window_ms, least):
                yield from _found(smoothed, detector, suppressions)

    def _first(self, window_ms: float, least: int) -> Iterator[Detector]:
        """Detectors of a window, whose suppression comes later."""
        if not self._negatives:
            yield from (Detector(window_ms, each, min_count=least) for each in THRESHOLDS)
            return
        for threshold in STRICT:
            # Firings of unknown words count among those of the streams.
            own = tuple(min(first, threshold) for first in FIRST_OWN)
            words = Detector(window_ms, threshold, min_count=least, thresholds=own)
            for talk in self._talk:
                if not 0 < talk <= threshold:
                    yield replace(words, talk_threshold=talk)

    def _smoothed(self, detector: Detector) -> list[list[Smoothed]]:
        """The streams of each group, smoothed."""
        return [[smooth(t.posteriors, t.times_ms, detector) for t in g] for g in self._groups]

    def _trial(self, detector: Detector, found: Sequence[Found], limit: float) -> Trial:
        """A setting that finds this on the streams and on the negatives."""
        negatives, (on_streams, on_others) = self._negatives, found
        alarms = negatives.rate(on_others()) if negatives else 0.0
        if negatives and alarms > limit:
            return Trial(detector, -inf, alarms, inf, inf)
        counts = [
            score_stream(detections, truth, stream.times_ms, tolerance_ms=self._tolerance_ms)
            for detections, truth, stream in zip(
                on_streams(), self._truths, self._streams, strict=True
            )
        ]
        own = sum(count.false_alarms for count in counts) / self._hours
        gain = float(np.mean([count.correct_pct - count.wrong_pct for count in counts]))
        if not negatives:
            return Trial(detector, gain, own, own, _distance(detector))
        # What is heard later may be more like a word than all that was heard here.
        return Trial(detector, gain, alarms, own, -_strictness(detector))


def best_trial(trials: Sequence[Trial], limit: float) -> Trial | None:
    """The trial with the greatest gain among those that keep a limit of false alarms per hour.

    Ties go to fewer false alarms, then to the setting nearer to the protocol's, or, chosen on
    negatives, to the stricter one. None if none does.
    """
    if not 0 <= limit < inf:
        raise ValueError(f"false alarms per hour: expected a limit of 0 or more, got {limit}")
    kept = [trial for trial in trials if trial.alarms <= limit]
    # Rounded: equal gains of other counts may differ in the last bit of a mean.
    return min(
        kept,
        key=lambda t: (-round(t.gain, 9), t.alarms, t.on_streams, t.rank),
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


def _windows(traces: Sequence[Trace]) -> list[tuple[float, int]]:
    """Windows, and the results that there must be in them.

    Of windows that hold the same steps, as those of 400 and 500 ms where decisions are 200 ms
    apart, that which is nearest to the protocol's.
    """
    found: dict[tuple[bytes, ...], tuple[float, int]] = {}
    for window_ms in sorted(WINDOWS_MS, key=lambda window_ms: abs(window_ms - PROTOCOL.window_ms)):
        least = _min_count(traces, window_ms)
        steps = [inside(trace.times_ms, window_ms, least) for trace in traces]
        held = tuple(array.tobytes() for arrays in steps for array in arrays)
        found.setdefault(held, (window_ms, least))
    return sorted(found.values())


def _found(
    smoothed: Sequence[Sequence[Smoothed]], detector: Detector, suppressions_ms: Sequence[float]
) -> Iterator[tuple[Detector, list[Found]]]:
    """A detector with each suppression, and what tells its detections in each group."""
    firing = [_Firing(group, detector) for group in smoothed]
    for suppression_ms in suppressions_ms:
        found: list[Found] = [partial(each.detections, suppression_ms) for each in firing]
        yield replace(detector, suppression_ms=suppression_ms), found


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


def _distance(detector: Detector) -> float:
    """How far a setting is from the protocol's, as a sum of relative changes."""
    names = ("window_ms", "threshold", "suppression_ms")
    return sum(abs(getattr(detector, name) / getattr(PROTOCOL, name) - 1) for name in names)


def _strictness(detector: Detector) -> float:
    """How much is asked of a word, where people talk and elsewhere."""
    return detector.threshold + max(detector.threshold, detector.talk_threshold)


def _hours(streams: Sequence[Stream]) -> float:
    """Length of all streams together."""
    return sum(len(stream.samples) / stream.rate for stream in streams) / 3600
