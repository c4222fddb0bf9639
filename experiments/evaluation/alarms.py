"""False alarms on audio without words: how often a model fires there, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaincinv

from experiments.datasets.recordings import NegativeSet, Place, place_at
from experiments.evaluation.detector_search import AlarmCounter
from experiments.evaluation.firing import fired_in
from experiments.evaluation.scoring import ROC_THRESHOLDS, requested_macs
from experiments.evaluation.stream_inference import run_models
from experiments.runs.stored_negatives import NegativeResult, save_negative_result
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detection, Detector

ERROR = 0.05  # what lies outside the bounds


class Traced(NamedTuple):
    """A model at a price over a set: its trace of each lane."""

    model: TrainedModel
    price: float | None
    negatives: NegativeSet
    traces: list[Trace]


def poisson_bounds(count: int, hours: float) -> tuple[float, float]:
    """Exact 95 % bounds of a rate per hour (Garwood, 1936), of which `count` events were seen.

    Of no events the upper bound is one-sided: 0 in 3 hours is at most 1.0 an hour.
    """
    if count < 0 or not hours > 0:
        raise ValueError(f"expected a count of 0 or more in some time, got {count} in {hours} h")
    if count == 0:
        return 0.0, -log(ERROR) / hours
    low, high = gammaincinv([count, count + 1], [ERROR / 2, 1 - ERROR / 2])
    return float(low) / hours, float(high) / hours


def trace_negatives(
    models: Sequence[TrainedModel], sets: Sequence[NegativeSet], budgets_per_step: int | None = None
) -> list[Traced]:
    """Every model at every price over every set."""
    out: list[Traced] = []
    for negatives in sets:
        found: dict[tuple[Path, float | None], Traced] = {}
        for run in run_models(models, negatives.lanes, budgets_per_step):
            new = Traced(run.model, run.price, negatives, [])
            found.setdefault((run.model.workdir, run.price), new).traces.append(run.trace)
        out += found.values()
    return out


def evaluate_negatives(
    traced: Sequence[Traced],
    detectors: Mapping[tuple[Path, float | None], tuple[Detector, dict[str, Any]]],
    budgets: Sequence[float],
) -> list[NegativeResult]:
    """A result for each, kept in the model's folder unless that is packed; as `evaluate_streams`.

    Says which sets' results took the place of others.
    """
    results, replaced = list[NegativeResult](), dict[str, None]()
    for each in traced:
        detector, described = detectors[each.model.workdir, each.price]
        budget = requested_macs(each.model, each.price, budgets)
        result = score_negatives(each, detector, described, budget)
        if save_negative_result(each.model.workdir, result):
            replaced[result.shown] = None
        results.append(result)
    for name in replaced:
        print(f"{name}: results on other audio of that name were replaced")
    return results


def score_negatives(
    traced: Traced, detector: Detector, described: dict[str, Any], budget: float | None
) -> NegativeResult:
    """Words that a model fires, in all and by word, each with its bounds."""
    model, negatives = traced.model, traced.negatives
    classes, hours = model.info.classes, negatives.seconds() / 3600
    found = fired(traced, detector)
    alarms = [detection for detection, place in found if not place.heard]
    low, high = poisson_bounds(len(alarms), hours)
    by_word = {}
    for label, word in enumerate(classes[FIRST_WORD:], FIRST_WORD):
        count = sum(detection.label == label for detection in alarms)
        of_word = poisson_bounds(count, hours)
        by_word[word] = {
            "alarms": count,
            "per_hour": count / hours,
            "low": of_word[0],
            "high": of_word[1],
        }
    heard = None
    if negatives.count(heard=True):
        heard = {
            "recordings": negatives.count(heard=True),
            "seconds": negatives.seconds(heard=True),
            "detections": len(found) - len(alarms),
        }
    edge_macs = np.array(list(model.edge_macs.values()), np.float64)
    macs = float((counted_live(traced) @ edge_macs).mean())
    return NegativeResult(
        workdir=model.name,
        step=model.step,
        static=model.static,
        cost_weight=traced.price,
        budget=budget,
        detector=described,
        negatives=negatives.name,
        split=negatives.split,
        recordings=negatives.count(),
        seconds=negatives.seconds(),
        alarms=len(alarms),
        alarms_per_hour=len(alarms) / hours,
        alarms_per_hour_low=low,
        alarms_per_hour_high=high,
        by_word=by_word,
        heard=heard,
        macs_per_frame=macs,
        macs_per_frame_with_controller=macs + model.controller_macs,
        frontend_macs=model.frontend_macs(),
        full_macs_per_frame=float(edge_macs.sum()),
        roc=_roc(traced, detector, hours),
        detections=[
            {
                "word": classes[detection.label],
                "ms": round(detection.time_ms - place.begin_ms),
                "score": float(detection.score),
                "recording": place.recording,
                "heard": place.heard,
            }
            for detection, place in found
        ],
    )


def counted_live(traced: Traced) -> np.ndarray:
    """Live edges [T, E] of the steps that hear a recording in which no word was heard.

    As of detections, the middle of a step's window says what it hears; silence that only parts
    recordings is no part of what a model costs on them.
    """
    middle, steps = _middle_ms(traced), list[np.ndarray]()
    for trace, places in zip(traced.traces, traced.negatives.places, strict=True):
        heard = [
            not place.heard and 0 <= ms - place.begin_ms < place.length_ms
            for ms in trace.times_ms + middle
            for place in [place_at(places, ms)]
        ]
        steps.append(trace.live[np.array(heard, bool)])
    found = np.concatenate(steps)
    # Recordings that are all shorter than a step may have no middle of a window in them.
    return found if len(found) else np.concatenate([trace.live for trace in traced.traces])


def fired(traced: Traced, detector: Detector) -> list[tuple[Detection, Place]]:
    """The words that a model fires, and the recordings in which it does.

    A detection's time is the beginning of a window, which hears what is at its middle.
    """
    return placed(traced, [fired_in(trace, detector) for trace in traced.traces])


def placed(traced: Traced, found: Sequence[Sequence[Detection]]) -> list[tuple[Detection, Place]]:
    """The words among the detections of each lane, and the recordings in which they are."""
    middle = _middle_ms(traced)
    return [
        (detection, place_at(places, detection.time_ms + middle))
        for detections, places in zip(found, traced.negatives.places, strict=True)
        for detection in detections
        if detection.label >= FIRST_WORD
    ]


def _middle_ms(traced: Traced) -> float:
    """From the beginning of a window to its middle."""
    frontend = traced.model.info.frontend
    window = traced.model.sanas.window - frontend.overlap
    return 500 * window * frontend.hop / frontend.sample_rate


def alarm_counter(sets: Sequence[Traced]) -> AlarmCounter:
    """What limits the choice of a detector, of a model's traces of several sets."""
    hours = [each.negatives.seconds() / 3600 for each in sets]

    def count(found: Sequence[Sequence[Detection]]) -> list[int]:
        """False alarms of each set, among the detections of all lanes."""
        rest, counts = list(found), []
        for each in sets:
            own, rest = rest[: len(each.traces)], rest[len(each.traces) :]
            counts.append(sum(not place.heard for _, place in placed(each, own)))
        return counts

    return AlarmCounter([trace for each in sets for trace in each.traces], count, hours)


def negative_summary(result: NegativeResult) -> str:
    """How often it fires, which words most, and where a word was heard."""
    hours = result.seconds / 3600
    head = (
        f"{result.workdir} step {result.step}{result.suffix} on {result.shown}, "
        f"{hours:.2f} h without words: {rate_text(result.alarms, hours)}"
    )
    words = sorted(result.by_word.items(), key=lambda item: -item[1]["alarms"])
    lines = [head]
    said = [f"{word} {rate_text(int(w['alarms']), hours)}" for word, w in words if w["alarms"]]
    if said:
        lines.append("  " + "; ".join(said))
    if result.heard is not None:
        lines.append(
            f"  {result.heard['detections']:.0f} in {result.heard['seconds'] / 3600:.2f} h where a "
            "word was heard"
        )
    return "\n".join(lines)


def _roc(traced: Traced, detector: Detector, hours: float) -> list[dict[str, float]]:
    """Alarms an hour at other thresholds, from the same posteriors."""
    out = []
    for threshold in sorted({*ROC_THRESHOLDS, detector.threshold}):
        other = dataclasses.replace(detector, threshold=threshold)
        alarms = sum(not place.heard for _, place in fired(traced, other))
        out.append({"threshold": threshold, "alarms_per_hour": alarms / hours})
    return out


def rate_text(count: int, hours: float) -> str:
    """A count with its rate: `3, 1.9/h (0.4 to 5.5)`, or `0, at most 1.0/h`."""
    low, high = poisson_bounds(count, hours)
    if not count:
        return f"0, at most {high:.1f}/h"
    return f"{count}, {count / hours:.1f}/h ({low:.1f} to {high:.1f})"
