"""Folders as `launch` and `evaluate` leave them, without training anything."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.config import Config, Hooks, ModelConfig, TrainConfig
from experiments.config.build import build_training
from experiments.config.model import macs_per_step
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.stored_results import detector_of, rate_of, result_path
from sanas_jax.data.features import Frontend

CALIBRATED = {"detector": {"kind": "calibrated"}}
CLASSES = ("_silence_", "_unknown_", "yes", "no")
STEPS = (50, 100, 150)
SECONDS = 60
CONFIG_FILE = """
from experiments.config import Config, ModelConfig, TrainConfig


def get_config():
    return Config(model=ModelConfig(maps=(4, 4)), train=TrainConfig(steps=200))
"""


def write_run(
    folder: Path,
    *,
    static: bool = False,
    cell: str = "gru",
    conditioned: bool = False,
    budget: float | None = None,
    cost_weight: float = 0.25,
    seed: int = 0,
) -> dict[str, int]:
    """A run that trained to step 150 of 200; returns its edges' MACs."""
    model = ModelConfig(maps=(4, 4), static=static, cell=cell, conditioned=conditioned)
    train = TrainConfig(steps=200, cost_weight=cost_weight, budget=budget, seed=seed)
    config = Config(description="<made> by a test", model=model, train=train)
    frontend = Frontend.create(
        np.ones((40, 241), np.float32), mean=np.zeros(40), std=np.ones(40), sample_rate=16_000
    )
    info = RunInfo(config, Hooks(), CLASSES, "ab" * 32, frontend, jnp.ones(len(CLASSES)))
    config_file = folder.parent / "made_config.py"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(CONFIG_FILE)
    run_folder.create(folder, info, str(config_file))
    edge_macs, _ = macs_per_step(build_training(config, len(CLASSES), Hooks()).model, static)
    lines = metrics(STEPS, "training", edge_macs) + metrics(STEPS, "validation", edge_macs)
    lines.sort(key=lambda line: line["step"])
    write_lines(folder, lines)
    return edge_macs


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Add lines to a run's metrics."""
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def write_sweep(folder: Path) -> list[str]:
    """Two budgets that were evaluated, one that diverged; returns the names."""
    names = ["budget_200k", "budget_500k", "budget_700k"]
    for name, budget in zip(names, (2e5, 5e5, 7e5), strict=True):
        edge_macs = write_run(folder / name, budget=budget)
        if budget < 7e5:
            write_evaluation(folder / name, edge_macs, macs_per_frame=1.1 * budget)
    write_lines(folder / names[-1], [{"step": 160, "split": "diverged", "reason": "got <nan>"}])
    run_folder.write_sweep(folder, names)
    return names


def metrics(steps: Any, split: str, edge_macs: dict[str, int]) -> list[dict[str, Any]]:
    """Lines as the train loop writes them: cost and loss fall with the step."""
    full = sum(edge_macs.values())
    lines = []
    for step in steps:
        share = 1 - step / 400
        by_label = dict(zip(CLASSES, np.array([0.5, 0.8, 0.7, 0.9]) * share * full, strict=True))
        lines.append(
            {
                "step": step,
                "split": split,
                "loss": 2.0 * share,
                "frame_accuracy": 0.5 + step / 500,
                "cost_weight": 0.25 * share,
                "macs_per_frame": share * full,
                "macs_per_frame_with_controller": share * full + 1000,
                "macs_per_frame_by_label": by_label,
                "gate_usage": dict.fromkeys(edge_macs, share),
            }
        )
    return lines


def write_evaluation(folder: Path, edge_macs: dict[str, int], **changes: Any) -> dict[str, Any]:
    """A stream of a minute with a yes at 20 s and a no at 30 s: one found, one taken for a yes.

    With a `cost_weight` among the changes, the network was told that price; with `CALIBRATED`
    among them, the detector is the calibrated one.
    """
    times = np.arange(0, 1000 * SECONDS - 1000, 200)
    truth = [("yes", 20_000), ("no", 30_000)]
    labels = np.zeros(len(times), np.int32)
    posteriors = np.tile(np.array([0.97, 0.01, 0.01, 0.01], np.float32), (len(times), 1))
    for label, (_, start) in zip((2, 3), truth, strict=True):
        near = np.abs(times - start) < 500
        labels[near] = label
        posteriors[near] = [0.05, 0.0, 0.9, 0.05]
    live = np.ones((len(times), len(edge_macs)), np.float32)
    live[labels == 0, 0] = 0  # silence leaves out the first edge
    macs = live @ np.array(list(edge_macs.values()), float)
    result = {
        "workdir": folder.name,
        "step": 150,
        "static": False,
        "stream": "town",
        "threshold": 0.7,
        "tolerance_ms": 750.0,
        "num_words": 2,
        "seconds": SECONDS,
        "match_pct": 100.0,
        "correct_pct": 50.0,
        "wrong_pct": 50.0,
        "false_alarm_pct": 50.0,
        "false_alarms_per_hour": 60.0,
        "macs_per_frame": float(macs.mean()),
        "macs_per_frame_with_controller": float(macs.mean()) + 1000,
        "full_macs_per_frame": sum(edge_macs.values()),
        "frame_accuracy": 0.8761,
        "gate_usage": dict(zip(edge_macs, map(float, live.mean(0)), strict=True)),
        "cost_weight": None,
        "budget": None,
        "roc": roc((0.9, 0.7, 0.3)),
        "detections": [
            {"word": "yes", "ms": 20_200, "score": 0.9},
            {"word": "yes", "ms": 30_200, "score": 0.8},
            {"word": "no", "ms": 45_000, "score": 0.75},
        ],
    } | changes
    detector, rate = detector_of(result), rate_of(result)
    path = result_path(folder, result["stream"], result["cost_weight"], detector, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path.with_suffix(".npz"),
        times_ms=times,
        posteriors=posteriors,
        live=live,
        labels=labels,
        envelope=np.linspace(0, 1, SECONDS * 100).astype(np.float16),
        truth_words=np.array([word for word, _ in truth]),
        truth_ms=np.array([start for _, start in truth]),
    )
    path.write_text(json.dumps(result))
    return result


def roc(thresholds: tuple[float, ...]) -> list[dict[str, float]]:
    """As evaluate writes it: the lower the threshold, the more words and the more errors."""
    return [
        {
            "threshold": threshold,
            "correct_pct": 100 * (1 - threshold),
            "wrong_pct": 50 * (1 - threshold),
            "match_pct": 100.0,
            "false_alarm_pct": 10 * (1 - threshold),
            "false_alarms_per_hour": 200 * (1 - threshold),
        }
        for threshold in sorted(thresholds)
    ]
