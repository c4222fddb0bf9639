"""What `evaluate --negatives` finds of a model, kept beside its results on streams.

evaluations/negatives/DETECTOR/NAME.json    NAME@PRICE of a network that was told its price
evaluations/negatives/DETECTOR/SPLIT/       the same of a cache's split that is not testing

DETECTOR is "default", "calibrated", or "calibrated_RATE" of a rate that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.command.atomic import write_json
from experiments.runs.packed import is_packed
from experiments.runs.stored_results import (
    DETECTORS,
    SPLITS,
    Detected,
    at_price,
    detector_folder,
    read_result,
)

# What is heard unless something else is said.
USUAL = (None, "testing")


@dataclass(frozen=True, kw_only=True)
class NegativeResult(Detected):
    """A model on audio without its words, at one price and with one detector.

    Bounds are exact 95 % bounds of a Poisson rate.

    Fields:
      workdir: name of the model's folder, after others above it where names were alike.
      step: of the checkpoint.
      static: whether every edge ran on every frame.
      cost_weight: λ that a conditioned network was told.
      budget: MACs per frame that were asked for.
      detector: `kind`, one of `DETECTORS`, and its settings.
      negatives: name of the set.
      split: of the cache that it is from; None for other audio, and in results of before.
      recordings, seconds: of it, without those in which a word was heard.
      alarms: words fired there; alarms_per_hour, _low and _high: their rate and its bounds.
      by_word: word → the same for each word, `alarms`, `per_hour`, `low`, `high`.
      heard: `recordings`, `seconds`, `detections` where a word was heard; None if none was.
      macs_per_frame, macs_per_frame_with_controller: of the live edges, mean over the steps
        whose window's middle is in a recording without a word (of before: over all steps).
      frontend_macs: as of `StreamResult`.
      full_macs_per_frame: of the whole network.
      roc: `threshold`, `alarms_per_hour` at several thresholds.
      detections: `word`, `ms` from the recording's start, `score`, `recording`, `heard` each.
    """

    workdir: str
    step: int
    static: bool
    cost_weight: float | None
    budget: float | None
    detector: dict[str, Any]
    negatives: str
    split: str | None = None
    recordings: int
    seconds: float
    alarms: int
    alarms_per_hour: float
    alarms_per_hour_low: float
    alarms_per_hour_high: float
    by_word: dict[str, dict[str, float]]
    heard: dict[str, float] | None = None
    macs_per_frame: float
    macs_per_frame_with_controller: float
    frontend_macs: int | None = None
    full_macs_per_frame: float
    roc: list[dict[str, float]]
    detections: list[dict[str, Any]]

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS):
            raise ValueError(f"unknown split {self.split!r}")

    @property
    def shown(self) -> str:
        """What was heard, with a split that is not testing."""
        return self.negatives if self.split in USUAL else f"{self.negatives}, {self.split}"


def save_negative_result(workdir: Path, result: NegativeResult) -> bool:
    """Keep a result, a packed model's not; whether one on audio of another size was replaced."""
    if is_packed(workdir):
        return False
    path = _path(workdir, result)
    old = result
    with suppress(ValueError):  # of a damaged one nothing is lost
        old = read_result(path, NegativeResult.from_json) if path.is_file() else result
    write_json(path, result.to_json())
    (count, seconds), (now, lasting) = _size(old), _size(result)
    return count != now or abs(seconds - lasting) > 0.001


def read_negative_results(workdir: Path) -> Sequence[NegativeResult]:
    """What was kept, by detector, name and rising price; ValueError for a damaged file.

    One that lies where it is kept now stands for an older one.
    """
    found: dict[Path, NegativeResult] = {}
    for file in sorted((workdir / "evaluations" / "negatives").rglob("*.json")):
        result = read_result(file, NegativeResult.from_json)
        own = _path(workdir, result)
        if file == own or own not in found:
            found[own] = result

    def order(r: NegativeResult) -> tuple[int, float, str, float]:
        return DETECTORS.index(r.detector_kind), r.rate or 0.0, r.shown, r.cost_weight or 0.0

    return sorted(found.values(), key=order)


def _size(result: NegativeResult) -> tuple[float, float]:
    """Recordings and seconds of the whole set: in which words were heard may be known by now."""
    heard = result.heard or {"recordings": 0, "seconds": 0.0}
    return result.recordings + heard["recordings"], result.seconds + heard["seconds"]


def _path(workdir: Path, result: NegativeResult) -> Path:
    folder = workdir / "evaluations" / "negatives"
    folder /= detector_folder(result.detector_kind, result.rate)
    if result.split not in USUAL:
        folder /= str(result.split)
    return folder / f"{at_price(result.negatives, result.cost_weight)}.json"
