"""The README that goes with a packed model."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config.model import macs_per_step
from experiments.config.wording import plain
from experiments.runs.folder import RunInfo
from experiments.runs.stored_negatives import NegativeResult, read_negative_results
from experiments.runs.stored_results import StreamResult, read_result, result_files, suffix_of
from experiments.runs.trained import model_of


class Found(NamedTuple):
    """What the run's evaluations found of one checkpoint.

    Fields:
      streams, negatives: of `evaluate`.
      clips: of `evaluate_clips`, of rising prices, the least noise first.
      left_out: number of results that are of another checkpoint.
    """

    streams: Sequence[StreamResult]
    negatives: Sequence[NegativeResult]
    clips: Sequence[dict[str, Any]]
    left_out: int


def read_found(workdir: Path, step: int) -> Found:
    """What was found of the checkpoint of a step."""
    files = result_files(workdir).values()
    streams = [read_result(file, StreamResult.from_json) for file in files]
    negatives, clips = read_negative_results(workdir), _clip_results(workdir)
    own = Found(
        [r for r in streams if r.step == step],
        [r for r in negatives if r.step == step],
        [r for r in clips if r["step"] == step],
        0,
    )
    every, kept = (sum(map(len, kinds)) for kinds in ((streams, negatives, clips), own[:3]))
    return own._replace(left_out=every - kept)


def readme(name: str, info: RunInfo, found: Found, step: int, params: Any) -> str:
    """What it is and what it reaches, of what was found at this step."""
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
    heard = [*stream_lines(found.streams), *negative_lines(found.negatives)]
    if heard:
        heard += ["Rows that are not `calibrated` are of the protocol's detector.", ""]
    figures = [*heard, *clip_lines(found.clips), *word_lines(found.clips)]
    figures = figures or ["Not evaluated."]
    if found.left_out:
        figures += [f"Results of other steps, which are left out: {found.left_out}."]
    return "\n".join([*lines, *figures]) + "\n"


def stream_lines(results: Sequence[StreamResult]) -> list[str]:
    """A table of the streams that the run was evaluated on."""
    rows = [
        f"| {r.stream}{r.suffix} | {r.seconds / 60:.0f} | {r.correct_pct:.1f} "
        f"| {r.wrong_pct:.1f} | {r.false_alarms_per_hour:.1f} "
        f"| {r.macs_per_frame_with_controller / 1e6:.3f}M | {100 * r.frame_accuracy:.1f} |"
        for r in results
    ]
    head = ["stream", "minutes", "correct %", "wrong %", "false alarms/h"]
    return _table([*head, "MACs/frame with controller", "frames right %"], rows)


def negative_lines(results: Sequence[NegativeResult]) -> list[str]:
    """A table of the audio without words that the run was evaluated on; bounds are 95 %."""
    rows = [
        f"| {r.shown}{r.suffix} | {r.seconds / 60:.1f} | {r.alarms} | {r.alarms_per_hour:.1f} "
        f"| {_bounds(r)} |"
        for r in results
    ]
    return _table(["without words", "minutes", "false alarms", "an hour", "95 %"], rows)


def _bounds(r: NegativeResult) -> str:
    """What a rate lies within; of no events there is one bound."""
    low = f"{r.alarms_per_hour_low:.1f} to" if r.alarms else "at most"
    return f"{low} {r.alarms_per_hour_high:.1f}"


def clip_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """A table of the clips that the run was evaluated on."""
    rows = [
        f"| {clips_name(r)} | {r['num_clips']} "
        f"| {r['accuracy_pct']:.2f} | {r['benchmark_accuracy_pct']:.2f} "
        f"| {r['macs_per_clip_with_controller'] / 1e6:.3f}M |"
        for r in results
    ]
    head = ["clips", "number", "accuracy %", "with few unknown words %"]
    return _table([*head, "MACs/clip with controller"], rows)


def word_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """A table of how many clips of each word were right, in percent."""
    by_name = [(clips_name(r), r.get("accuracy_pct_by_class", {})) for r in results]
    words = list(dict.fromkeys(word for _, of in by_name for word in of))
    rows = [
        f"| {name} | "
        + " | ".join(f"{of[word]:.1f}" if word in of else "–" for word in words)
        + " |"
        for name, of in by_name
    ]
    return _table(["clips, accuracy %", *words], rows if words else [])


def clips_name(result: dict[str, Any]) -> str:
    """What was heard, and at which price."""
    noise = "" if result.get("snr_db") is None else f", noise at {result['snr_db']:g} dB"
    return f"{result['data']}, {result['split']}{noise}{suffix_of(result['cost_weight'])}"


def _clip_results(workdir: Path) -> list[dict[str, Any]]:
    """What `evaluate_clips` left: of rising prices, the least noise first."""
    files = (workdir / "evaluations" / "clips").glob("*.json")
    found = [read_result(file, dict[str, Any]) for file in files]

    def order(r: dict[str, Any]) -> tuple[str, str, float, float]:
        clearness = inf if r.get("snr_db") is None else r["snr_db"]
        return r["data"], r["split"], r["cost_weight"] or 0.0, -clearness

    return sorted(found, key=order)


def _table(head: list[str], rows: list[str]) -> list[str]:
    """Lines of a table and an empty one; none without rows."""
    if not rows:
        return []
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""]


def count_params(params: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))
