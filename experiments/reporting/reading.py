"""Runs' folders read for the report: description, metrics, results."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config.model import macs_per_step
from experiments.config.wording import plain
from experiments.reporting.run_record import (
    Detected,
    Evaluation,
    RunRecord,
    StreamView,
)
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics
from experiments.runs.stored_negatives import read_negative_results
from experiments.runs.stored_results import (
    SPLITS,
    ImageResult,
    StreamResult,
    read_result,
    result_files,
)
from experiments.runs.trained import training_of


def read_runs(paths: Sequence[Path], *, trust: bool = False) -> list[RunRecord]:
    """Runs and the members of sweeps, each folder once.

    They are named as their folders, or by their paths if folders share a name.
    """
    unique = run_folder.expand_sweeps(paths)
    names = [path.resolve().name for path in unique]
    if len(set(names)) < len(names):
        names = list(map(str, unique))
    return [read_run(path, name, trust=trust) for path, name in zip(unique, names, strict=True)]


def read_run(path: Path, name: str, *, trust: bool = False) -> RunRecord:
    """A run and what it was evaluated on; ValueError for what is not one."""
    info = run_folder.read(path, trust=trust)
    training = training_of(info)
    model = training.model
    edge_macs, controller_macs = macs_per_step(model, info.config.model.static)
    evaluations, tested = {}, []
    if info.input_shape is not None:
        tested = sorted(
            (
                read_result(file, ImageResult.from_json)
                for file in (path / "evaluations").glob("*.json")
            ),
            key=lambda result: (SPLITS.index(result.split), result.cost_weight or 0.0),
        )
    else:
        frontend = info.frontend
        window_s = (model.window - frontend.overlap) * frontend.hop / frontend.sample_rate
        evaluations = {
            key: _read_evaluation(file, info.classes, list(edge_macs.values()), window_s)
            for key, file in result_files(path).items()
        }
    return RunRecord(
        name,
        path,
        info,
        model.net,
        edge_macs,
        controller_macs,
        training.charged,
        list(read_metrics(path)),
        evaluations,
        tested,
        read_negative_results(path),
    )


def verdicts(
    detections: Sequence[Mapping[str, Any]],
    truth: Sequence[tuple[str, float]],
    tolerance_ms: float,
) -> list[str]:
    """For each detection "right", "wrong" or "alarm", as `scores.score_stream` counts them.

    Args:
      detections: `word` and `ms`, in order of time.
      truth: (word, start in ms), in order of time.
      tolerance_ms: largest distance between the two.
    """
    starts = [start for _, start in truth]
    out, taken = [], -1
    for found in detections:
        first = bisect_left(starts, found["ms"] - tolerance_ms)
        if first == len(starts) or starts[first] > found["ms"] + tolerance_ms:
            out.append("alarm")
            continue
        out.append("right" if first != taken and truth[first][0] == found["word"] else "wrong")
        taken = first
    return out


def _stream_result(value: Any) -> tuple[StreamResult, list[dict[str, Any]]]:
    """The result, and its detections with their words as shown."""
    result = StreamResult.from_json(value)
    return result, [{**d, "word": plain(d["word"])} for d in result.detections]


def _read_evaluation(
    file: Path, classes: Sequence[str], edge_macs: Sequence[int], window_s: float
) -> Evaluation:
    """What `evaluate` wrote; its times are of windows' starts, shown are their middles."""
    result, found = read_result(file, _stream_result)
    with np.load(file.with_suffix(".npz")) as arrays:
        data = dict(arrays)
    words = [plain(str(word)) for word in data["truth_words"]]
    truth = sorted(zip(words, data["truth_ms"].tolist(), strict=True), key=lambda pair: pair[1])
    outcomes = verdicts(found, truth, result.tolerance_ms)
    view = StreamView(
        classes=[plain(name) for name in classes],
        times_s=data["times_ms"] / 1000 + window_s / 2,
        posteriors=data["posteriors"],
        macs=data["live"] @ np.array(edge_macs, float),
        full_macs=sum(edge_macs),
        envelope=data["envelope"],
        truth=[(word, ms / 1000) for word, ms in truth],
        detections=[
            Detected(d["word"], d["ms"] / 1000 + window_s / 2, outcome)
            for d, outcome in zip(found, outcomes, strict=True)
        ],
    )
    return Evaluation(result, view, data["labels"], data["live"])
