"""Folders as a run of `experiments.paper` leaves them, with results that nobody computed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from data_prep.command.atomic import write_json
from experiments.config import Config, TrainConfig, to_json
from experiments.replication.plan import Cell, Setup, clips_file, folder_of
from experiments.runs.stored_results import StreamResult, result_path

FULL = 16_000_000.0


def write_trained(setup: Setup, seed: int, cell: Cell, step: int, of: int) -> Path:
    """A run that has trained so far."""
    folder = folder_of(setup.out, seed, cell)
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(train=dataclasses.replace(TrainConfig(), steps=of, seed=seed))
    write_json(folder / "config.json", {"config": to_json(config)})
    (folder / "metrics.jsonl").write_text(json.dumps({"step": step, "split": "training"}) + "\n")
    return folder


def write_heard(
    setup: Setup, seed: int, cell: Cell, stream: str, step: int, detector: str, **found: Any
) -> None:
    """What `evaluate` leaves of a stream: 70 % correct for 8M MACs, unless it is said otherwise."""
    values: dict[str, Any] = {
        "workdir": cell.network,
        "step": step,
        "static": cell.price is None,
        "cost_weight": cell.told,
        "detector": {"kind": detector},
        "stream": stream,
        "threshold": 0.7,
        "tolerance_ms": 750.0,
        "num_words": 400,
        "seconds": 1200.0,
        "match_pct": 80.0,
        "correct_pct": 70.0,
        "wrong_pct": 10.0,
        "false_alarm_pct": 0.5,
        "false_alarms_per_hour": 3.0,
        "macs_per_frame": FULL / 2,
        "macs_per_frame_with_controller": FULL / 2 + 70_000,
        "full_macs_per_frame": FULL,
        "frame_accuracy": 0.8,
        "gate_usage": {},
        "detections": [],
    }
    result = StreamResult(**(values | found))
    path = result_path(folder_of(setup.out, seed, cell), stream, cell.told, detector)
    write_json(path, result.to_json())


def write_named(setup: Setup, seed: int, cell: Cell, accuracy: float) -> None:
    """What `evaluate_clips` leaves."""
    found = {"benchmark_accuracy_pct": accuracy, "accuracy_pct": accuracy - 1}
    write_json(clips_file(setup, seed, cell), found | {"macs_per_clip": FULL / 4})
