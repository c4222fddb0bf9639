"""What `evaluate` keeps of streams in a run's folder: where, and which detector it is of.

evaluations/STREAM.json, .npz              detections of the protocol's detector, and the run
evaluations/calibrated/STREAM.json, .npz   the same of the detector that `calibrate` chose

A network that was told its price has STREAM@PRICE in place of STREAM. Results of before there was
the second folder all lie in the first; what is inside says which detector they are of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data_prep.command.atomic import write_json

T = TypeVar("T")

DETECTORS = ("default", "calibrated")


def result_path(workdir: Path, result: Mapping[str, Any]) -> Path:
    """The JSON of a stream's result; its arrays lie beside it with the suffix .npz."""
    name, price = result["stream"], result["cost_weight"]
    name = name if price is None else f"{name}@{price:.4g}"
    return _folder(workdir, detector_of(result)) / f"{name}.json"


def result_files(workdir: Path) -> dict[str, Path]:
    """The JSONs of a run's streams, by names such as "s@0.5" and "calibrated/s@0.5".

    Of a stream at a price there is one for each detector: one in the folder that is its own stands
    for an older one. ValueError for a damaged file.
    """
    found: dict[str, Path] = {}
    for folder in (_folder(workdir, detector) for detector in DETECTORS):
        for file in sorted(folder.glob("*.json")):
            own = _folder(workdir, parsed(file, detector_of)) / file.name
            found[str(own.relative_to(workdir / "evaluations").with_suffix(""))] = file
    return found


def detector_of(result: Mapping[str, Any]) -> str:
    """One of `DETECTORS`; results of before there was a choice do not say."""
    kind = result["detector"]["kind"] if "detector" in result else "default"
    if kind not in DETECTORS:
        raise ValueError(f"unknown detector {kind!r}")
    return kind


def told(result: Mapping[str, Any]) -> str:
    """What to add to a stream's name, such as " at λ=0.5, calibrated"; "" for neither."""
    price = result.get("cost_weight")
    return ("" if price is None else f" at λ={price:.3g}") + marked(detector_of(result))


def marked(detector: str) -> str:
    """What to add for a detector: ", calibrated", or "" for the protocol's."""
    return "" if detector == "default" else f", {detector}"


def parsed(file: Path, read: Callable[[Any], T]) -> T:
    """What `read` makes of the JSON that `evaluate` wrote."""
    try:
        return read(json.loads(file.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected a result of evaluate, got {error!r}; run it again"
        ) from error


def _folder(workdir: Path, detector: str) -> Path:
    folder = workdir / "evaluations"
    return folder if detector == "default" else folder / detector


def save(workdir: Path, result: dict[str, Any], trace: Trace, to_draw: dict[str, Any]) -> None:
    """Keep a result, its run and what the report draws of its stream, in workdir/evaluations."""
    path = result_path(workdir, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.npz.tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **trace._asdict(), **to_draw)
    temporary.replace(path.with_suffix(".npz"))
    write_json(path, result)


class Trace(NamedTuple):
    """A model's run over a stream, one row per step.

    times_ms [T] start of the window; posteriors [T, K]; live [T, E]; labels [T] its class.
    """

    times_ms: np.ndarray
    posteriors: np.ndarray
    live: np.ndarray
    labels: np.ndarray
