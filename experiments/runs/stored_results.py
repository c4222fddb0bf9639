"""What `evaluate` finds of a model and keeps in a run's folder: values, and where they lie.

evaluations/STREAM.json, .npz              detections of the protocol's detector, and the run
evaluations/calibrated/STREAM.json, .npz   the same of the detector that `calibrate` chose
evaluations/calibrated_RATE/…              of the one that it chose for a rate that was asked for
evaluations/SPLIT.json                     of a run on images
evaluations/negatives/                     of audio without words (`stored_negatives`)
evaluations/clips/                         what `evaluate_clips` finds

A network that was told its price has STREAM@PRICE in place of STREAM. Results of before there was
the second folder all lie in the first, and those of a rate in the second; what is inside says which
detector they are of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from data_prep.command.atomic import check_place, json_text, new_files, write_json
from data_prep.command.reading import naming, read_json
from experiments.runs.packed import is_packed
from sanas_jax.streaming.detector import Detector

T = TypeVar("T")

DETECTORS = ("default", "calibrated")
# Splits, the most telling first.
SPLITS = ("testing", "validation", "training")


class Stored:
    """A dataclass whose fields are the keys of a JSON object, in the order in which it has them."""

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The result of a JSON object; keys that are no fields are left out.

        Raises KeyError for a key that all results have, TypeError for what is no object.
        """
        known = fields(cls)  # type: ignore[arg-type]  # subclasses are dataclasses
        names = [f.name for f in known if f.default is MISSING or f.name in found]
        return cls(**{name: found[name] for name in names})

    def to_json(self) -> dict[str, Any]:
        """The JSON object; what only some results have is in it where it is known."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        always = ("cost_weight", "budget")  # null says that there was none
        return {name: v for name, v in values.items() if v is not None or name in always}


class Setting(NamedTuple):
    """How a model was evaluated. What differs in it is of another model, and joined to no mean.

    Fields:
      step: of the checkpoint.
      price: λ that the network was told, if any.
      detector: one of `DETECTORS`.
      rate: false alarms per hour that the detector was asked for, if any was named.
      tuned: what the detector has that is not the protocol's, as a JSON object.
    """

    step: int
    price: float | None
    detector: str
    rate: float | None
    tuned: str


def check_kept(folders: Iterable[Path]) -> None:
    """ValueError where a run's results could not be kept; a packed model's are not."""
    for folder in folders:
        if not is_packed(folder):
            check_place("workdir", str(folder / "evaluations" / "result.json"))


class Detected(Stored):
    """What a detector fired on, at one price."""

    step: int
    cost_weight: float | None
    detector: dict[str, Any] | None

    @property
    def shown(self) -> str:
        """What was heard."""
        raise NotImplementedError

    @property
    def detector_kind(self) -> str:
        """One of `DETECTORS`."""
        return detector_of(self.to_json())

    @property
    def rate(self) -> float | None:
        """False alarms per hour that the detector was asked for; None where none was named."""
        return rate_of(self.to_json())

    @property
    def setting(self) -> Setting:
        """How the model was evaluated."""
        plain = {name: json.dumps(value) for name, value in asdict(Detector()).items()}
        own = {name: json.dumps(value) for name, value in (self.detector or {}).items()}
        tuned = {name: own[name] for name in plain if own.get(name, plain[name]) != plain[name]}
        return Setting(
            self.step, self.cost_weight, self.detector_kind, self.rate, json.dumps(tuned)
        )

    @property
    def suffix(self) -> str:
        """What to add to a name, such as " at λ=0.5, calibrated"; "" for neither."""
        return suffix_of(self.cost_weight, self.detector_kind, self.rate)


@dataclass(frozen=True, kw_only=True)
class StreamResult(Detected):
    """A model on a labelled stream, at one price and with one detector.

    What is None by default is not in results of before it was measured.

    Fields:
      workdir: name of the model's folder, after others above it where names were alike.
      step: of the checkpoint.
      static: whether every edge ran on every frame.
      cost_weight: λ that a conditioned network was told.
      budget: MACs per frame that were asked for.
      ms_per_frame: of the batched run.
      detector: `kind`, one of `DETECTORS`, and its settings.
      stream: its name.
      threshold: of the detector, a mean posterior.
      tolerance_ms: largest distance between a detection and a word.
      num_words: in the stream.
      seconds: its length.
      match_pct, correct_pct, wrong_pct, false_alarm_pct: % of the words, counted by the rule "set";
        those with `_list_rule` by the other.
      false_alarms_per_hour: by the rule "set".
      macs_per_frame: of the live edges, mean over the steps.
      macs_per_frame_with_controller: likewise.
      frontend_macs: of a step's features, as the native engine computes them; in no other field.
      full_macs_per_frame: of the whole network.
      macs_per_frame_by_label: class → mean over its steps.
      frame_accuracy: share of the steps, 0 to 1.
      gate_usage: edge → share of the steps in which it was live.
      roc: scores at several thresholds.
      detections: `word`, `ms`, `score` each, in order of time.
      macs_per_frame_incremental, full_macs_per_frame_incremental: of a runtime that keeps rows.
    """

    workdir: str
    step: int
    static: bool
    cost_weight: float | None = None
    budget: float | None = None
    ms_per_frame: float | None = None
    detector: dict[str, Any] | None = None
    stream: str
    threshold: float
    tolerance_ms: float
    num_words: int
    seconds: float
    match_pct: float
    correct_pct: float
    wrong_pct: float
    false_alarm_pct: float
    false_alarms_per_hour: float
    match_pct_list_rule: float | None = None
    correct_pct_list_rule: float | None = None
    wrong_pct_list_rule: float | None = None
    false_alarm_pct_list_rule: float | None = None
    macs_per_frame: float
    macs_per_frame_with_controller: float
    frontend_macs: int | None = None
    full_macs_per_frame: float
    macs_per_frame_by_label: dict[str, float] | None = None
    frame_accuracy: float
    gate_usage: dict[str, float]
    roc: list[dict[str, float]] | None = None
    detections: list[dict[str, Any]]
    macs_per_frame_incremental: float | None = None
    full_macs_per_frame_incremental: float | None = None

    @property
    def shown(self) -> str:
        """What was heard."""
        return self.stream


@dataclass(frozen=True, kw_only=True)
class ImageResult(Stored):
    """A model on a split of images, at one price: one architecture, the most probable.

    Fields:
      workdir: name of the model's folder, after others above it where names were alike.
      step: of the checkpoint.
      static: whether every edge is on.
      cost_weight: λ that a conditioned network was told.
      budget: asked for in training, in `unit`.
      split: one of `SPLITS`.
      accuracy_pct: of the images, or of their pixels.
      charged: that cost of the architecture, in `unit`; full_charged of the whole network.
      unit: of what was charged.
      costs: name → cost of the architecture; full_costs of the whole network.
      probability: edge → Γ.
      live: names of its edges.
      mean_iou_pct: of pixels; None for images with a label each.
    """

    workdir: str
    step: int
    static: bool
    cost_weight: float | None
    budget: float | None
    split: str
    accuracy_pct: float
    charged: float
    full_charged: float
    unit: str
    costs: dict[str, float]
    full_costs: dict[str, float]
    probability: dict[str, float]
    live: list[str]
    mean_iou_pct: float | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}")


def result_path(
    workdir: Path, stream: str, price: float | None, detector: str, rate: float | None = None
) -> Path:
    """The JSON of a stream's result; its arrays lie beside it with the suffix .npz."""
    return _folder(workdir, detector, rate) / f"{at_price(stream, price)}.json"


def at_price(name: str, price: float | None) -> str:
    """A result's name in its folder."""
    return name if price is None else f"{name}@{price:.4g}"


def result_files(workdir: Path) -> dict[str, Path]:
    """The JSONs of a run's streams, by names such as "s@0.5" and "calibrated_5/s@0.5".

    Of a stream at a price there is one for each detector: one in the folder that is its own stands
    for an older one. ValueError for a damaged file.
    """
    found: dict[str, Path] = {}
    root = workdir / "evaluations"
    for folder in (root, *sorted(root.glob("calibrated*"))):
        for file in sorted(folder.glob("*.json")):
            own = read_result(file, partial(_own_folder, workdir)) / file.name
            name = str(own.relative_to(root).with_suffix(""))
            if file == own or name not in found:
                found[name] = file
    return found


def detector_of(result: Mapping[str, Any]) -> str:
    """One of `DETECTORS`; results of before there was a choice do not say."""
    kind = result["detector"]["kind"] if "detector" in result else "default"
    if kind not in DETECTORS:
        raise ValueError(f"unknown detector {kind!r}")
    return kind


def rate_of(result: Mapping[str, Any]) -> float | None:
    """False alarms per hour that its detector was asked for; None where none was named."""
    rate = result["detector"].get("calibrated_for") if "detector" in result else None
    if rate is not None and (type(rate) not in (int, float) or not 0 <= rate < inf):
        raise ValueError(f"calibrated_for {rate!r}")
    return rate


def detector_folder(detector: str, rate: float | None) -> str:
    """Name of a folder for what one detector fires on, such as "calibrated_5"."""
    return detector if rate is None else f"{detector}_{rate:g}"


def suffix_of(price: float | None, detector: str = "default", rate: float | None = None) -> str:
    """What says a price and a detector, such as " at λ=0.5, calibrated"; "" for neither."""
    return ("" if price is None else f" at λ={price:.3g}") + detector_suffix(detector, rate)


def detector_suffix(detector: str, rate: float | None = None) -> str:
    """What to add for a detector: ", calibrated for 5/h", or "" for the protocol's."""
    named = "" if rate is None else f" for {rate:g}/h"
    return "" if detector == "default" else f", {detector}{named}"


def read_result(file: Path, read: Callable[[Any], T]) -> T:
    """What `read` makes of the JSON that `evaluate` wrote."""
    expected = "a result of evaluate (run it again)"
    found = read_json(file, expected)
    with naming(file, expected):
        return read(found)


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """What `--json` asks for: the result, or a list if there are several."""
    write_json(path, results if len(results) > 1 else results[0])


def _folder(workdir: Path, detector: str, rate: float | None) -> Path:
    folder = workdir / "evaluations"
    return folder if detector == "default" else folder / detector_folder(detector, rate)


def _own_folder(workdir: Path, result: Mapping[str, Any]) -> Path:
    """Where a result is kept now."""
    return _folder(workdir, detector_of(result), rate_of(result))


def save_stream_result(
    workdir: Path, result: StreamResult, trace: Trace, to_draw: dict[str, Any]
) -> None:
    """Keep a result, its run and what the report draws of its stream; a packed model's are not."""
    if is_packed(workdir):
        return
    kind, rate = result.detector_kind, result.rate
    path = result_path(workdir, result.stream, result.cost_weight, kind, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_files(path.with_suffix(".npz"), path) as (arrays, said):
        with open(arrays, "wb") as file:
            np.savez_compressed(file, **trace._asdict(), **to_draw)
        said.write_text(json_text(result.to_json()), encoding="utf-8")


def save_image_result(workdir: Path, result: ImageResult) -> None:
    """Keep a result of images; a packed model's is not."""
    if not is_packed(workdir):
        name = at_price(result.split, result.cost_weight)
        write_json(workdir / "evaluations" / f"{name}.json", result.to_json())


class Trace(NamedTuple):
    """A model's run over a stream, one row per step.

    times_ms [T] start of the window; posteriors [T, K]; live [T, E]; labels [T] its class.
    """

    times_ms: np.ndarray
    posteriors: np.ndarray
    live: np.ndarray
    labels: np.ndarray
