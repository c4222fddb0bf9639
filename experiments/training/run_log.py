"""What a run writes as it trains: lines of metrics, and the best parameters at each cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.command.atomic import write_json
from data_prep.command.reading import naming, read_text
from experiments.machine.multihost import is_first
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics import truncate_metrics
from experiments.training.board import Board


class Journal:
    """metrics.jsonl and TensorBoard events, written line by line by the first process."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        """Open for appending; lines after `resume_step` are dropped first."""
        self._writes = is_first()
        if not self._writes:
            return
        truncate_metrics(folder, resume_step)
        self._file = open(folder / "metrics.jsonl", "a")  # noqa: SIM115  closed in close()
        self._board = Board(folder, resume_step + 1)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """One line."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            scalars = value if isinstance(value, dict) else {"": value}
            for part, scalar in scalars.items():
                if isinstance(scalar, float | int):
                    tag = f"{split}/{name}" + (f"/{part}" if part else "")
                    self._board.add(tag, scalar, step)

    def close(self) -> None:
        """Flush and close both."""
        if not self._writes:
            return
        self._file.close()
        self._board.close()


class Front:
    """Parameters on the validation cost/accuracy front, at most `size` of them."""

    def __init__(self, folder: Path, size: int, resume_step: int) -> None:
        """Open; points after `resume_step` are dropped, the run will find them again."""
        self._checkpoints = Checkpoints(folder / "front")
        self._path = folder / "front.json"
        self._size = size
        points = _read_points(self._path) if self._path.is_file() else []
        on_disk = set(self._checkpoints.steps())
        self.points = [p for p in points if p["step"] <= resume_step and p["step"] in on_disk]
        for step in on_disk - {p["step"] for p in self.points}:
            self._checkpoints.delete(step)

    def offer(self, step: int, cost: float, accuracy: float, params: Any) -> None:
        """Keep the parameters if nothing kept is both cheaper and better."""
        point = {"step": step, "macs_per_frame": cost, "frame_accuracy": accuracy}
        kept = thin_front([*self.points, point], self._size)
        if point in kept:
            self._checkpoints.save(step, params)
        # The list is written before anything is deleted: a kill in between leaves no loose end.
        if is_first():
            write_json(self._path, kept)
        for old in self.points:
            if old not in kept:
                self._checkpoints.delete(old["step"])
        self.points = kept


def _read_points(path: Path) -> list[dict[str, Any]]:
    with naming(path, "the points of a front"):
        points = json.loads(read_text(path))
        for point in points:
            if type(point["step"]) is not int:
                raise ValueError(f"step {point['step']!r}")
            float(point["macs_per_frame"]), float(point["frame_accuracy"])
        return list(points)


def thin_front(points: Sequence[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The points that no other dominates, by cost; beyond `size`, the smallest gains go first."""
    front: list[dict[str, Any]] = []
    # A later step replaces an equal earlier one.
    order = sorted(points, key=lambda p: (p["macs_per_frame"], -p["frame_accuracy"], -p["step"]))
    for point in order:
        if not front or point["frame_accuracy"] > front[-1]["frame_accuracy"]:
            front.append(point)
    while len(front) > size:
        gains = [b["frame_accuracy"] - a["frame_accuracy"] for a, b in pairwise(front)]
        del front[1 + int(np.argmin(gains)) if len(front) > 2 else 0]
    return front
