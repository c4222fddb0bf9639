"""Detectors that `calibrate` chose for a run, and which one a model is used with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import inf, log
from pathlib import Path
from typing import Any

from data_prep.command.reading import naming, read_json
from experiments.runs.trained import TrainedModel
from sanas_jax.streaming.detector import Detector

DETECTOR = "detector.json"
# A detector, and the price that it was calibrated at.
Priced = tuple[Detector, float | None]


def chosen_detector(model: TrainedModel, price: float | None, threshold: float | None) -> Detector:
    """The calibrated detector, the protocol's where there is none or a threshold is asked for."""
    return chosen_detectors(model, threshold).at(price)


@dataclasses.dataclass(frozen=True)
class ChosenDetectors:
    """The detectors of a model, as they were when they were read.

    Fields:
      at: price λ, None without one → its detector.
      path: of the file that they may come from.
      seen: what told that file from another; None where there was none.
    """

    at: Callable[[float | None], Detector]
    path: Path
    seen: tuple[int, ...] | None

    def is_another_now(self) -> bool:
        """Whether the file was written anew, or is gone, or has come."""
        return _seen(self.path) != self.seen


def chosen_detectors(model: TrainedModel, threshold: float | None) -> ChosenDetectors:
    """As `chosen_detector`, of all prices: whoever runs for long reads them once."""
    path = model.workdir / DETECTOR
    seen = _seen(path)
    if threshold is not None or seen is None:
        plain = Detector() if threshold is None else Detector(threshold=threshold)
        return ChosenDetectors(lambda price: plain, path, seen)
    read = read_detectors(model.workdir, model.step)
    return ChosenDetectors(lambda price: nearest(read, price)[0], path, seen)


def _seen(path: Path) -> tuple[int, ...] | None:
    """What tells a file from another that takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def has_detector(model: TrainedModel) -> bool:
    """Whether detectors were calibrated for a model."""
    return (model.workdir / DETECTOR).is_file()


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
) -> Priced:
    """The detector calibrated for a checkpoint, and the price that it was calibrated at.

    Args:
      workdir, step, rate: as of `read_detectors`.
      price: as of `nearest`.
    """
    return nearest(read_detectors(workdir, step, rate), price)


def nearest(detectors: Sequence[Priced], price: float | None) -> Priced:
    """The detector of the price nearest to λ that a conditioned network is told; the first of none.

    Near as factors. ValueError where no detector is of a price.
    """
    if price is None:
        return detectors[0]
    of_prices = [(abs(log(own / price)), each) for each in detectors if (own := each[1])]
    if not of_prices:
        raise ValueError("detector.json: expected detectors of several prices, got one of none")
    return min(of_prices, key=lambda pair: pair[0])[1]


def read_detectors(workdir: Path, step: int, rate: float | None = None) -> list[Priced]:
    """The detectors calibrated for a checkpoint, in the order of the file.

    Args:
      workdir, step: the run and its checkpoint.
      rate: false alarms per hour that they were calibrated for; None for what was asked for first.
    """
    path = workdir / DETECTOR
    if not path.is_file():
        raise ValueError(f"{workdir}: expected detector.json, got none: run experiments.calibrate")
    found = read_json(path, "what calibrate writes")
    with naming(path, "what calibrate writes"):
        of_step, entries = found["step"], found["detectors"]
        # Entries of before several rates could be asked for do not say theirs.
        rates = [entry.get("false_alarms_per_hour_limit") for entry in entries]
        wanted = rates[0] if rate is None else rate
        whole = ("min_count", "silence_label", "unknown_label")
        for entry in entries:
            own = entry["cost_weight"]
            if own is not None and not 0 < own < inf:
                raise ValueError(f"cost_weight {own!r}")
            for name, value in entry["settings"].items():
                numbers = value if name == "thresholds" else [value]
                if any(
                    type(n) is not int and (name in whole or type(n) is not float) for n in numbers
                ):
                    raise ValueError(f"{name} {value!r}")
        every = [(Detector(**each["settings"]), each["cost_weight"]) for each in entries]
        chosen = [each for each, own in zip(every, rates, strict=True) if own == wanted]
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
    return chosen
