"""From posteriors to detections: the streaming detector of TensorFlow's speech_commands.

Posteriors are averaged over a short window. A label is fired where its mean is over its threshold,
it is not the label fired last, and enough time has passed since then. Runs on the host in NumPy,
one step at a time: `detector_init` and `detector_step` are the online form, `detect` the loop.

Ours alone: where people talk, more may be asked of a word. Most of what is like one there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Result = tuple[float, np.ndarray]


@dataclass(frozen=True)
class Detector:
    """Settings; the defaults are those of the C++ tool with which the SANAS paper was measured.

    window_ms: results up to this old, this age included, are averaged
    threshold: a mean posterior must be greater than this to fire
    suppression_ms: more than this must have passed since the last firing, unless it was silence
    min_count: results there must be in the window, spanning a quarter of it or more
    silence_label: fired as any other label, but not a detection
    thresholds: of the labels 0, 1, ... in place of `threshold`, which is that of the labels beyond
    talk_threshold: of a word where people talk, unless its own is higher; 0: they change nothing
    talk_share: people talk while the mean posterior of other words in the past is over this
    talk_ms: time constant of that mean, which forgets exponentially; a step is judged before its
        own result comes into it
    unknown_label: of other words; words are the labels that are neither this nor silence
    """

    window_ms: float = 500
    threshold: float = 0.7
    suppression_ms: float = 1500
    min_count: int = 3
    silence_label: int = 0
    thresholds: tuple[float, ...] = ()
    talk_threshold: float = 0
    talk_share: float = 0.2
    talk_ms: float = 4000
    unknown_label: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(self.thresholds))  # files hold a list
        for name in ("window_ms", "suppression_ms", "threshold", "talk_threshold", "talk_share"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 < self.talk_ms < inf:
            raise ValueError(f"talk_ms: expected more than 0, got {self.talk_ms}")
        for name in ("silence_label", "unknown_label"):
            label = getattr(self, name)
            if not isinstance(label, Integral) or label < 0:
                raise ValueError(f"{name}: expected a label, 0 or more, got {label!r}")
        if not all(0 <= own < inf for own in self.thresholds):
            raise ValueError(f"thresholds: expected 0 or more, got {self.thresholds}")
        if self.min_count < 1:
            raise ValueError(f"min_count: expected 1 or more, got {self.min_count}")

    def threshold_of(self, label: int, talking: bool = False) -> float:
        """What the mean posterior of a label must be greater than; `talking`: where people talk."""
        own = self.thresholds[label] if label < len(self.thresholds) else self.threshold
        is_word = label not in (self.silence_label, self.unknown_label)
        return max(own, self.talk_threshold) if talking and is_word else own

    def talk_after(self, talk: float, unknown: float, ms: float) -> float:
        """The mean posterior of other words, `ms` after it was `talk`, when it is `unknown`."""
        return talk + (1 - exp(-ms / self.talk_ms)) * (unknown - talk)


class DetectorState(NamedTuple):
    """What the detector remembers: the results in its window, its last firing, and past talk."""

    results: tuple[Result, ...] = ()
    fired_label: int = 0
    fired_ms: float = -inf
    talk: float = 0.0


class Step(NamedTuple):
    """Outcome of a step: label with the highest mean posterior, that mean, whether it was fired.

    While there are too few results the label is the one fired last and the score 0.
    """

    label: int
    score: float
    fired: bool


@dataclass(frozen=True)
class Detection:
    """A word fired at `time_ms`, the time of the posterior that made it fire."""

    label: int
    time_ms: float
    score: float


def detector_init(detector: Detector) -> DetectorState:
    """The state before the first step: as if silence had been fired long ago."""
    return DetectorState(fired_label=detector.silence_label)


def detector_step(
    detector: Detector, state: DetectorState, posterior: ArrayLike, time_ms: float
) -> tuple[DetectorState, Step]:
    """Take one posterior [K] at `time_ms`; times never decrease."""
    posterior = np.asarray(posterior)
    knows_others = posterior.ndim == 1 and detector.unknown_label < len(posterior)
    if (
        posterior.ndim != 1
        or detector.silence_label >= len(posterior)
        or (detector.talk_threshold and not knows_others)
    ):
        raise ValueError(
            f"posterior: expected [K], K > silence_label = {detector.silence_label}, and with "
            f"talk_threshold K > unknown_label = {detector.unknown_label}, got {posterior.shape}"
        )
    if state.results and (
        time_ms < state.results[-1][0] or posterior.shape != state.results[-1][1].shape
    ):
        raise ValueError(
            f"expected {state.results[-1][1].shape} at {state.results[-1][0]} ms or later, "
            f"got {posterior.shape} at {time_ms} ms"
        )
    oldest = time_ms - detector.window_ms
    kept = [result for result in state.results if result[0] >= oldest]
    kept.append((time_ms, posterior))
    talk = state.talk
    talking = talk > detector.talk_share
    if knows_others and state.results:
        unknown = float(posterior[detector.unknown_label])
        talk = detector.talk_after(talk, unknown, time_ms - state.results[-1][0])
    state = DetectorState(tuple(kept), state.fired_label, state.fired_ms, talk)
    count = len(kept)
    if count < detector.min_count or time_ms - kept[0][0] < detector.window_ms / 4:
        return state, Step(state.fired_label, 0.0, False)
    # Divided before summing, in the posterior's own precision, and summed in order: bit for bit as
    # in the TF tool.
    shares = np.array([scores for _, scores in kept]) / count
    mean = np.add.reduce(shares, 0, np.float64)
    label = int(mean.argmax())
    score = float(mean[label])
    waited = (
        state.fired_label == detector.silence_label
        or time_ms - state.fired_ms > detector.suppression_ms
    )
    over = score > detector.threshold_of(label, talking)
    fired = over and label != state.fired_label and waited
    if fired:
        state = DetectorState(state.results, label, time_ms, talk)
    return state, Step(label, score, fired)


def detect_steps(
    posteriors: ArrayLike, times_ms: ArrayLike, detector: Detector | None = None
) -> list[Step]:
    """Outcome of every step: posteriors [T, K] at times [T] (ms, never decreasing)."""
    detector = Detector() if detector is None else detector
    rows, times = np.asarray(posteriors), np.asarray(times_ms)
    if rows.ndim != 2 or times.shape != rows.shape[:1]:
        raise ValueError(
            f"expected posteriors [T, K] and times [T], got {rows.shape} and {times.shape}"
        )
    if not np.isfinite(rows).all():
        raise ValueError("posteriors: expected finite numbers")
    state, steps = detector_init(detector), []
    for row, time in zip(rows, times.tolist(), strict=True):
        state, step = detector_step(detector, state, row, time)
        steps.append(step)
    return steps


def detect(
    posteriors: ArrayLike, times_ms: ArrayLike, detector: Detector | None = None
) -> list[Detection]:
    """The words detected in a stream, in order: firings other than silence."""
    detector = Detector() if detector is None else detector
    steps = detect_steps(posteriors, times_ms, detector)
    return [
        Detection(step.label, time, step.score)
        for step, time in zip(steps, np.asarray(times_ms).tolist(), strict=True)
        if step.fired and step.label != detector.silence_label
    ]
