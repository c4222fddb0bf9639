"""The detector of each model at each price, chosen on streams of validation clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.command.reading import naming, read_json
from data_prep.speech.cache import SPLITS
from experiments.datasets.recordings import NegativeSet
from experiments.datasets.streams import Stream
from experiments.evaluation.alarms import Traced, alarm_counter, poisson_bounds, rate_text
from experiments.evaluation.detector_search import PROTOCOL, Search, fewest_alarms, mean_scores
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel
from sanas_jax.streaming.detector import detect


class Calibrated(NamedTuple):
    """Entries of detector.json for a model at a price, one for each rate, and rates not reached."""

    entries: list[dict[str, Any]]
    unreached: list[str]


def calibrated(
    model: TrainedModel,
    price: float | None,
    streams: Sequence[Stream],
    traces: Sequence[Trace],
    limits: Sequence[float],
    sets: Sequence[Traced] = (),
    *,
    talk: bool = True,
) -> Calibrated:
    """Settings for a model at a price, scores beside the protocol's.

    Args:
      model, price: whose settings.
      streams, traces: labelled, and the model's trace of each.
      limits: false alarms per hour, in the order in which they are asked for.
      sets: audio without words, on which false alarms are counted in place of the streams.
      talk: as of `Search`.
    """
    classes = model.info.classes
    negatives = alarm_counter(sets) if sets else None
    most = max(limits) if sets else inf
    search = Search(streams, traces, classes, negatives=negatives, talk=talk)
    trials = search.try_all(most)
    out = Calibrated([], [])
    for limit in limits:
        best = search.choose(trials, limit)
        if best is None:
            at = "" if price is None else f" at λ = {price:.3g}"
            out.unreached.append(
                f"{model.workdir}{at}: false alarms per hour: {limit:g} could not be reached; the "
                f"fewest are {fewest_alarms(trials):.1f}"
            )
            continue
        entry: dict[str, Any] = {
            "cost_weight": price,
            "false_alarms_per_hour_limit": limit,
            "settings": dataclasses.asdict(best.detector),
            "scores": mean_scores(streams, traces, classes, best.detector),
            "scores_of_default": mean_scores(streams, traces, classes, PROTOCOL),
        }
        if negatives is not None:
            traced = negatives.traces
            found = [detect(each.posteriors, each.times_ms, best.detector) for each in traced]
            counts = list(zip(negatives.alarms_of(found), negatives.hours, strict=True))
            entry["negatives"] = [
                {"name": each.negatives.name, **_rate(*count)}
                for each, count in zip(sets, counts, strict=True)
            ]
        out.entries.append(entry)
    return out


def too_short(sets: Sequence[NegativeSet], limits: Sequence[float]) -> list[str]:
    """A line for each set in which no alarm at all would not show a rate that is asked for."""
    lines = []
    for each in sets:
        hours = each.seconds() / 3600
        least = poisson_bounds(0, hours)[1]
        hidden = [f"{limit:g}" for limit in sorted(limits) if limit < least]
        if hidden:
            lines.append(
                f"{each.name}: {hours:.2f} h cannot show {', '.join(hidden)} false alarms an hour: "
                f"where there is none, the rate is at most {least:.1f} (95 %)"
            )
    return lines


def _rate(alarms: int, hours: float) -> dict[str, float]:
    """False alarms on audio without words, with exact bounds."""
    low, high = poisson_bounds(alarms, hours)
    return {"alarms": alarms, "hours": hours, "per_hour": alarms / hours, "low": low, "high": high}


def detector_summary(name: str, entry: dict[str, Any]) -> str:
    """The settings and their scores on a few lines."""
    price, settings = entry["cost_weight"], entry["settings"]
    lines = [
        f"{name}{'' if price is None else f' at λ = {price:.3g}'}, at most "
        f"{entry['false_alarms_per_hour_limit']:g} false alarms an hour: "
        f"threshold {settings['threshold']:g}, window {settings['window_ms']:g} ms, "
        f"suppression {settings['suppression_ms']:g} ms, {settings['min_count']} results or more"
    ]
    own = ", ".join(f"{threshold:g}" for threshold in settings["thresholds"])
    if own:
        lines.append(f"  thresholds of silence and unknown words: {own}")
    if settings["talk_threshold"]:
        lines.append(f"  threshold of words where people talk: {settings['talk_threshold']:g}")
    for title, scores in (
        ("calibrated", entry["scores"]),
        ("default", entry["scores_of_default"]),
    ):
        found = f"correct {scores['correct_pct']:.1f} %, wrong {scores['wrong_pct']:.1f} %"
        # Over talk, firings of unknown words are right and count as false alarms of the streams.
        if not entry.get("negatives"):
            found += f", {scores['false_alarms_per_hour']:.1f} false alarms per hour"
        lines.append(f"  {title:10}  {found}")
    rates = [
        f"{found['name']} {rate_text(found['alarms'], found['hours'])}"
        for found in entry.get("negatives", ())
    ]
    if rates:
        lines.append(f"  without words: {'; '.join(rates)}")
    if not entry["scores"]["correct_pct"] > 0:
        lines.append("  warning: no setting that keeps the limit finds more words than it mistakes")
    return "\n".join(lines)


def check_split(wav: Path, flag: str = "stream") -> dict[str, Any] | None:
    """What make_stream says of a flag's stream; ValueError if it is of the testing split."""
    path = wav.with_suffix(".json")
    if not path.is_file():
        print(f"{wav}: no {path.name} beside it; make sure that it is not of the testing split")
        return None
    found = read_json(path, "what make_stream writes")
    with naming(path, "what make_stream writes"):
        split = found["split"]
    if split not in SPLITS:
        raise ValueError(f"{path}: expected a split out of {', '.join(SPLITS)}, got {split!r}")
    if split == "testing":
        raise ValueError(f"--{flag}: expected a stream of validation clips, got testing: {wav}")
    if split == "training":
        print(f"{wav}: of the training split, on which a model is surer than it will be")
    return found
