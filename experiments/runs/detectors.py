"""Detectors that `calibrate` chose for a run, and which one a model is used with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

from data_prep.command.reading import naming, read_json
from experiments.runs.trained import TrainedModel
from sanas_jax.streaming.detector import Detector


def chosen_detector(model: TrainedModel, price: float | None, threshold: float | None) -> Detector:
    """The calibrated detector, the protocol's where there is none or a threshold is asked for."""
    if threshold is not None:
        return Detector(threshold=threshold)
    if not has_detector(model):
        return Detector()
    return read_detector(model.workdir, model.step, price)[0]


def has_detector(model: TrainedModel) -> bool:
    """Whether detectors were calibrated for a model."""
    return (model.workdir / "detector.json").is_file()


def detectors_of(
    kind: str, threshold: float, models: Sequence[TrainedModel], rate: float | None = None
) -> dict[tuple[Path, float | None], tuple[Detector, dict[str, Any]]]:
    """The detector of every model at every price, and all that is said of it in results.

    `kind` is "calibrated", for a rate as of `read_detector`, or else the protocol's with
    `threshold`.
    """
    out = {}
    for model in models:
        for price in model.prices if model.info.config.model.conditioned else [None]:
            detector, about = Detector(threshold=threshold), dict[str, Any]()
            if kind == "calibrated":
                detector, at = read_detector(model.workdir, model.step, price, rate)
                about = {"calibrated_at": at}
                if rate is not None:
                    about["calibrated_for"] = rate
            described = {"kind": kind, **dataclasses.asdict(detector), **about}
            out[model.workdir, price] = detector, described
    return out


def read_detector(
    workdir: Path, step: int, price: float | None, rate: float | None = None
) -> tuple[Detector, float | None]:
    """The detector calibrated for a checkpoint, and the price that it was calibrated at.

    Args:
      workdir, step: the run and its checkpoint.
      price: λ that a conditioned network is told; it gets the detector of the nearest one that was
        calibrated.
      rate: false alarms per hour that it was calibrated for; None for what was asked for first.
    """
    path = workdir / "detector.json"
    if not path.is_file():
        raise ValueError(f"{workdir}: expected detector.json, got none: run experiments.calibrate")
    found = read_json(path, "what calibrate writes")
    with naming(path, "what calibrate writes"):
        of_step, entries = found["step"], found["detectors"]
        # Entries of before several rates could be asked for do not say theirs.
        rates = [entry.get("false_alarms_per_hour_limit") for entry in entries]
        wanted = rates[0] if rate is None else rate
        entries = [each for each, own in zip(entries, rates, strict=True) if own == wanted]
        if price is not None:
            entries = sorted(entries, key=lambda entry: abs(log(entry["cost_weight"] / price)))
        whole = ("min_count", "silence_label")
        for entry in entries:
            for name, value in entry["settings"].items():
                numbers = value if name == "thresholds" else [value]
                if name == "look_price" and value is None:
                    continue
                if any(
                    type(n) is not int and (name in whole or type(n) is not float) for n in numbers
                ):
                    raise ValueError(f"{name} {value!r}")
        chosen = [(Detector(**each["settings"]), each["cost_weight"]) for each in entries]
    if of_step != step:
        raise ValueError(
            f"{path}: expected detectors for step {step}, got those for step {of_step}: "
            "run experiments.calibrate again"
        )
    if not chosen:
        known = ", ".join(f"{own:g}" for own in dict.fromkeys(rates) if own is not None)
        raise ValueError(
            f"--false_alarms_per_hour: expected one of the rates that {path} is for, {known}; "
            f"got {rate}"
        )
    return chosen[0]
