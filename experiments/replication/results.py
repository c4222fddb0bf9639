"""What runs of a plan have found so far, over seeds and streams: the cells of the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.command.reading import naming, read_json
from experiments.config import from_json
from experiments.replication.plan import (
    NETWORKS,
    Cell,
    Setup,
    cells,
    clips_file,
    folder_of,
    test_streams,
)
from experiments.runs.folder import is_run
from experiments.runs.metrics import read_metrics
from experiments.runs.stored_results import (
    DETECTORS,
    StreamResult,
    read_result,
    result_path,
    suffix_of,
)

METRICS = (
    *("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct"),
    *("macs_per_frame", "macs_per_frame_with_controller", "full_macs_per_frame"),
)
CLIP_METRICS = ("benchmark_accuracy_pct", "accuracy_pct", "macs_per_clip")


class Trained(NamedTuple):
    """How far a run is: steps made, of so many."""

    step: int
    of: int


class Spread(NamedTuple):
    """A mean over seeds; its standard deviation over seeds, or over streams where there is one."""

    mean: float
    sd: float | None


class Row(NamedTuple):
    """A row of the table, with one detector.

    Fields:
      cell: network and price.
      label: as shown.
      detector: one of `DETECTORS`.
      trained: seed → how far it is; seeds that have begun.
      evaluated: seed → step of the checkpoint that was evaluated on streams.
      streams: seed → name of a stream → metric → value.
      clips: seed → metric → value.
    """

    cell: Cell
    label: str
    detector: str
    trained: dict[int, Trained]
    evaluated: dict[int, int]
    streams: dict[int, dict[str, dict[str, float]]]
    clips: dict[int, dict[str, float]]

    def on_streams(self, metric: str) -> Spread | None:
        """A metric over seeds of the means over streams; None where there is nothing yet."""
        by_seed = [[found[metric] for found in own.values()] for own in self.streams.values()]
        if not by_seed:
            return None
        return _spread([float(np.mean(own)) for own in by_seed], by_seed[0])

    def on_clips(self, metric: str) -> Spread | None:
        """A metric over seeds."""
        values = [own[metric] for own in self.clips.values()]
        return _spread(values, []) if values else None


def read_rows(setup: Setup) -> list[Row]:
    """All rows, also of what is not there yet, the protocol's detector first."""
    return [_row(setup, cell, detector) for detector in DETECTORS for cell in cells()]


def seeds_begun(setup: Setup) -> list[int]:
    """Seeds of which there is a run."""
    return [
        seed
        for seed in range(setup.seeds)
        if any(is_run(folder_of(setup.out, seed, cell)) for cell in cells())
    ]


def _row(setup: Setup, cell: Cell, detector: str) -> Row:
    label = NETWORKS[cell.network].shown + suffix_of(cell.price)
    row = Row(cell, label, detector, {}, {}, {}, {})
    for seed in range(setup.seeds):
        folder = folder_of(setup.out, seed, cell)
        if not is_run(folder):
            continue
        row.trained[seed] = _trained(folder)
        for wav in test_streams(setup):
            file = result_path(folder, wav.stem, cell.told, detector)
            if file.is_file():
                result = read_result(file, StreamResult.from_json)
                row.evaluated[seed] = result.step
                own = row.streams.setdefault(seed, {})
                own[wav.stem] = {name: getattr(result, name) for name in METRICS}
        file = clips_file(setup, seed, cell)
        if file.is_file():
            with naming(file, "what evaluate_clips writes"):
                clip = read_json(file, "what evaluate_clips writes")
                row.clips[seed] = {name: float(clip[name]) for name in CLIP_METRICS}
    return row


def _trained(folder: Path) -> Trained:
    description = read_json(folder / "config.json", "the description of a run")
    with naming(folder / "config.json", "the description of a run"):
        steps = from_json(description["config"]).train.steps
    return Trained(max((line["step"] for line in read_metrics(folder)), default=0), steps)


def _spread(over_seeds: Sequence[float], over_streams: Sequence[float]) -> Spread:
    values = over_seeds if len(over_seeds) > 1 else over_streams
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(over_seeds)), sd)


def row_to_json(row: Row) -> dict[str, Any]:
    """Means with their spread, and what they are made of."""

    def means(names: Sequence[str], of: Any) -> dict[str, Any]:
        found = {name: of(name) for name in names}
        return {name: value and value._asdict() for name, value in found.items()}

    return {
        "network": row.cell.network,
        "price": row.cell.price,
        "detector": row.detector,
        "label": row.label,
        "trained": {seed: t._asdict() for seed, t in row.trained.items()},
        "evaluated_at": row.evaluated,
        "on_streams": means(METRICS, row.on_streams),
        "on_clips": means(CLIP_METRICS, row.on_clips),
        "spread_over": "seeds" if len(row.streams) > 1 else "streams",
        "streams": row.streams,
        "clips": row.clips,
    }
