"""The commands that make a run and its results again, as the report shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.config import flatten
from experiments.reporting.run_record import RunRecord
from experiments.runs.stored_results import StreamResult


def launch(run: RunRecord) -> list[list[str]]:
    """The command that trains the run again: the config file it kept, and what was overridden.

    Where nobody wrote down what the file says, every field is; it is not run to find out. There is
    no command without a config file.
    """
    config_file = run.path / "config.py"
    if not config_file.is_file():
        return []
    made_of = run.info.made_of
    before = {} if made_of is None else flatten(dataclasses.asdict(made_of))
    words = ["python", "-m", "experiments.launch", "--config", str(config_file)]
    words += ["--data", run.info.config.data.cache, "--workdir", f"{run.path}_again"]
    for key, value in flatten(dataclasses.asdict(run.info.config)).items():
        if key != "data.cache" and (key not in before or value != before[key]):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            words += ["--set", f"{key}={text}"]
    return [words]


def evaluations(run: RunRecord) -> list[list[str]]:
    """The commands that evaluate the run again, one per stream and detector, or per split."""
    groups: dict[tuple[Any, ...], list[StreamResult]] = {}
    for result, *_ in run.evaluations.values():
        kind, rate = result.detector_kind, result.rate
        threshold = result.threshold if kind == "default" else None
        key = (result.stream, result.step, kind, rate, threshold, result.tolerance_ms)
        groups.setdefault(key, []).append(result)
    out = []
    for (stream, *_), results in groups.items():
        result = results[0]
        detector, rate = result.detector_kind, result.rate
        settings: list[object] = ["--checkpoint", result.step]
        settings += (
            ["--threshold", result.threshold] if detector == "default" else ["--detector", detector]
        )
        settings += [] if rate is None else ["--false_alarms_per_hour", f"{rate:g}"]
        settings += ["--tolerance_ms", result.tolerance_ms]
        if run.kind == "conditioned":
            settings += _prices(results)
        out.append([*evaluate(run, stream), *map(str, settings)])
    splits = {result.split: result.step for result in run.tested}
    for split, step in splits.items():
        out.append([*evaluate_images(run, split), "--checkpoint", str(step)])
    return out


def _prices(results: Sequence[StreamResult]) -> list[str]:
    """What was asked of a conditioned run: budgets, or prices."""
    budgets = [f"{result.budget:.0f}" for result in results if result.budget]
    if budgets:
        return ["--budgets", ",".join(budgets)]
    return ["--cost_weights", ",".join(f"{result.cost_weight:.6g}" for result in results)]


def evaluate(run: RunRecord, stream: str) -> list[str]:
    """The command that runs a stream through the run."""
    words = ["python", "-m", "experiments.evaluate", "--workdir", str(run.path)]
    return [*words, "--stream", f"{stream}.wav", "--labels", f"{stream}_labels.txt"]


def evaluate_images(run: RunRecord, split: str) -> list[str]:
    """The command that evaluates the run on a split of its images."""
    words = ["python", "-m", "experiments.evaluate", "--workdir", str(run.path)]
    return [*words, "--split", split]
