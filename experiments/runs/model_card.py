"""The README that goes with a packed model."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.config.model import macs_per_step
from experiments.config.wording import plain
from experiments.runs.folder import RunInfo
from experiments.runs.stored_negatives import read_negative_results
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
    heard = [*stream_lines(workdir), *negative_lines(workdir)]
    if heard:
        heard += ["Rows that are not `calibrated` are of the protocol's detector.", ""]
    figures = [*heard, *clip_lines(workdir), *word_lines(workdir)]
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


def negative_lines(workdir: Path) -> list[str]:
    """A table of the audio without words that the run was evaluated on; bounds are 95 %."""
    rows = [
        f"| {r.negatives}{r.suffix} | {r.seconds / 60:.1f} | {r.alarms} | {r.alarms_per_hour:.1f} "
        f"| {r.alarms_per_hour_low:.1f} to {r.alarms_per_hour_high:.1f} |"
        for r in read_negative_results(workdir)
    ]
    return _table(["without words", "minutes", "false alarms", "an hour", "95 %"], rows)


def clip_lines(workdir: Path) -> list[str]:
    """A table of the clips that the run was evaluated on."""
    rows = [
        f"| {clips_name(r)} | {r['num_clips']} "
        f"| {r['accuracy_pct']:.2f} | {r['benchmark_accuracy_pct']:.2f} "
        f"| {r['macs_per_clip_with_controller'] / 1e6:.3f}M |"
        for r in clip_results(workdir)
    ]
    head = ["clips", "number", "accuracy %", "with few unknown words %"]
    return _table([*head, "MACs/clip with controller"], rows)


def word_lines(workdir: Path) -> list[str]:
    """A table of how many clips of each word were right, in percent."""
    results = [(clips_name(r), r.get("accuracy_pct_by_class", {})) for r in clip_results(workdir)]
    words = list(dict.fromkeys(word for _, of in results for word in of))
    rows = [
        f"| {name} | "
        + " | ".join(f"{of[word]:.1f}" if word in of else "–" for word in words)
        + " |"
        for name, of in results
    ]
    return _table(["clips, accuracy %", *words], rows if words else [])


def clip_results(workdir: Path) -> list[dict[str, Any]]:
    """What `evaluate_clips` left: of rising prices, the least noise first."""
    files = (workdir / "evaluations" / "clips").glob("*.json")
    found = [read_result(file, dict[str, Any]) for file in files]

    def order(r: dict[str, Any]) -> tuple[str, str, float, float]:
        clearness = inf if r.get("snr_db") is None else r["snr_db"]
        return r["data"], r["split"], r["cost_weight"] or 0.0, -clearness

    return sorted(found, key=order)


def clips_name(result: dict[str, Any]) -> str:
    """What was heard, and at which price."""
    noise = "" if result.get("snr_db") is None else f", noise at {result['snr_db']:g} dB"
    return f"{result['data']}, {result['split']}{noise}{suffix_of(result['cost_weight'])}"


def _table(head: list[str], rows: list[str]) -> list[str]:
    """Lines of a table and an empty one; none without rows."""
    if not rows:
        return []
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""]


def count_params(params: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))
