"""The README that goes with a packed model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.config.model import macs_per_step
from experiments.config.wording import plain
from experiments.runs.folder import RunInfo
from experiments.runs.stored_results import StreamResult, read_result, result_files, suffix_of
from experiments.runs.trained import model_of


def readme(name: str, info: RunInfo, workdir: Path, step: int, params: Any) -> str:
    """What it is and what it reaches."""
    model = info.config.model
    macs, controller = macs_per_step(model_of(info), model.static)
    kind = "static network" if model.static else "network with a controller (SANAS)"
    kind += ", told its price" if model.conditioned else ""
    front = info.frontend
    lines = [
        f"# {name}",
        "",
        f"{info.config.description or model.family}: {kind}, step {step}.",
        "",
        f"* hears {front.sample_rate} Hz, decides every "
        f"{1000 * model.hop * front.hop / front.sample_rate:.0f} ms",
        f"* knows {', '.join(map(plain, info.classes))}",
        f"* {sum(macs.values()):,} MACs per decision of the whole network"
        + (f", {controller:,} of the controller" if controller else ""),
        f"* {count_params(params):,} parameters and running statistics",
        "",
        "## Figures",
        "",
    ]
    figures = [*stream_lines(workdir), *clip_lines(workdir)]
    return "\n".join([*lines, *(figures or ["Not evaluated."])]) + "\n"


def stream_lines(workdir: Path) -> list[str]:
    """A table of the streams that the run was evaluated on."""
    rows = [
        f"| {r.stream}{r.suffix} | {r.seconds / 60:.0f} | {r.correct_pct:.1f} "
        f"| {r.wrong_pct:.1f} | {r.false_alarms_per_hour:.1f} "
        f"| {r.macs_per_frame_with_controller / 1e6:.3f}M | {100 * r.frame_accuracy:.1f} |"
        for file in result_files(workdir).values()
        for r in [read_result(file, StreamResult.from_json)]
    ]
    head = ["stream", "minutes", "correct %", "wrong %", "false alarms/h"]
    return _table([*head, "MACs/frame with controller", "frames right %"], rows)


def clip_lines(workdir: Path) -> list[str]:
    """A table of the clips that the run was evaluated on."""
    rows = [
        f"| {r['data']}, {r['split']}{suffix_of(r['cost_weight'])} | {r['num_clips']} "
        f"| {r['accuracy_pct']:.2f} | {r['benchmark_accuracy_pct']:.2f} "
        f"| {r['macs_per_clip_with_controller'] / 1e6:.3f}M |"
        for file in sorted((workdir / "evaluations" / "clips").glob("*.json"))
        for r in [read_result(file, dict)]
    ]
    head = ["clips", "number", "accuracy %", "with few unknown words %"]
    return _table([*head, "MACs/clip with controller"], rows)


def _table(head: list[str], rows: list[str]) -> list[str]:
    """Lines of a table and an empty one; none without rows."""
    if not rows:
        return []
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""]


def count_params(params: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))
