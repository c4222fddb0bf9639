"""The detector of each model at each price, chosen on streams of validation clips."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.speech.cache import SPLITS
from experiments.datasets.streams import Stream
from experiments.evaluation.detector_search import PROTOCOL, choose, mean_scores
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel


def calibrated(
    model: TrainedModel,
    price: float | None,
    streams: Sequence[Stream],
    traces: Sequence[Trace],
    limit: float,
) -> dict[str, Any]:
    """An entry of detector.json: settings for a model at a price, scores beside the protocol's."""
    classes = model.info.classes
    try:
        detector, scores = choose(streams, traces, classes, limit)
    except ValueError as error:
        at = "" if price is None else f" at λ = {price:.3g}"
        raise ValueError(f"{model.workdir}{at}: {error}") from error
    return {
        "cost_weight": price,
        "settings": dataclasses.asdict(detector),
        "scores": scores,
        "scores_of_default": mean_scores(streams, traces, classes, PROTOCOL),
    }


def detector_summary(name: str, entry: dict[str, Any]) -> str:
    """The settings and their scores on a few lines."""
    price, settings = entry["cost_weight"], entry["settings"]
    lines = [
        f"{name}{'' if price is None else f' at λ = {price:.3g}'}: "
        f"threshold {settings['threshold']:g}, window {settings['window_ms']:g} ms, "
        f"suppression {settings['suppression_ms']:g} ms, {settings['min_count']} results or more"
    ]
    for title, scores in (
        ("calibrated", entry["scores"]),
        ("default", entry["scores_of_default"]),
    ):
        lines.append(
            f"  {title:10}  correct {scores['correct_pct']:.1f} %, "
            f"wrong {scores['wrong_pct']:.1f} %, "
            f"{scores['false_alarms_per_hour']:.1f} false alarms per hour"
        )
    if not entry["scores"]["correct_pct"] > 0:
        lines.append("  warning: no setting that keeps the limit finds more words than it mistakes")
    return "\n".join(lines)


def check_split(wav: Path) -> dict[str, Any] | None:
    """What make_stream says of a stream; ValueError if it is of the testing split."""
    path = wav.with_suffix(".json")
    if not path.is_file():
        print(f"{wav}: no {path.name} beside it; make sure that it is not of the testing split")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        split = found["split"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected what make_stream writes, got {error!r}") from error
    if split not in SPLITS:
        raise ValueError(f"{path}: expected a split out of {', '.join(SPLITS)}, got {split!r}")
    if split == "testing":
        raise ValueError(f"--stream: expected a stream of validation clips, got testing: {wav}")
    if split == "training":
        print(f"{wav}: of the training split, on which a model is surer than it will be")
    return found
