"""Figures of how a run trained and what it runs: pure functions from data to a `Figure`.

Each takes its width in inches: `WIDE` or `NARROW`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from experiments.config.wording import MILLION, plain, short, shorten
from experiments.figures.style import LIGHT, WIDE, dress, legend, run_look, styled

Lines = Sequence[Mapping[str, Any]]  # of metrics.jsonl
Panel = tuple[str, float, str, str]  # of a line: key, scale, title, unit
Curve = tuple[np.ndarray, np.ndarray]  # steps, values

PANELS = (
    ("loss", 1.0, "Loss of the classifier", "nats per frame"),
    ("frame_accuracy", 100.0, "Frame accuracy", "% of the frames"),
    ("macs_per_frame", 1 / MILLION, "Cost of the network", "M MACs/frame"),
)
IMAGE_PANELS = (
    ("loss", 1.0, "Loss of the classifier", "nats"),
    ("frame_accuracy", 100.0, "Accuracy", "%"),
    ("macs_per_frame", 1 / MILLION, "Cost of the network", "M MACs/image"),
)
# Thick lines of `cost_per_word` → colours; the words are thin.
THICK = {
    "silence": LIGHT["silence"],
    "unknown": LIGHT["unknown"],
    "mean of the words": LIGHT["ink"],
}
_WHOLE: dict[str, Any] = {"color": LIGHT["muted"], "lw": 1, "ls": (0, (4, 3))}
_TRAINING: dict[str, Any] = {"lw": 0.9, "alpha": 0.55}
_VALIDATION: dict[str, Any] = {"lw": 1.8, "marker": "o", "ms": 3.2}


@styled
def training_curves(
    metrics: Mapping[str, Lines], width: float = WIDE, panels: Sequence[Panel] = PANELS
) -> Figure:
    """Loss, accuracy and cost against the step.

    Args:
      metrics: run name → lines of its metrics.
      width: in inches.
      panels: three.
    """
    columns = 3 if width == WIDE else 1
    figure = Figure(figsize=(width, 3.0 if columns == 3 else 6.4))
    grid = figure.subplots(3 // columns, columns, sharex=True, squeeze=False)
    for axes, (key, scale, title, unit) in zip(grid.flat, panels, strict=True):
        for number, lines in enumerate(metrics.values()):
            look = run_look(number)
            axes.plot(*thin(*_series(lines, "training", key, scale)), **_TRAINING, **look)
            axes.plot(*_series(lines, "validation", key, scale), **_VALIDATION, **look)
        dress(axes, title, unit)
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    handles = [Line2D([], [], lw=2.5, **run_look(i)) for i in range(len(metrics))]
    handles += [Line2D([], [], color=LIGHT["ink"], **look) for look in (_TRAINING, _VALIDATION)]
    legend(figure, handles, [*map(shorten, metrics), "training", "validation"])
    return figure


@styled
def cost_per_word(
    metrics: Mapping[str, Lines], full_macs: Mapping[str, float], width: float = WIDE
) -> Figure:
    """MACs per frame of each class against the step, one panel per run (SANAS, figure 6).

    Args:
      metrics: run name → lines of its metrics. Validation if it has at least 5, else training.
      full_macs: run name → MACs of the whole network.
    """
    columns = 2 if width == WIDE and len(metrics) > 1 else 1
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(width, 3.3 * rows))
    for place, (name, lines) in enumerate(metrics.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        # Validation is on fixed batches and so less noisy, but there is little of it at first.
        enough = sum(line["split"] == "validation" for line in lines) >= 5
        split = "validation" if enough else "training"
        _cost_panel(axes, costs_by_class(lines, split))
        axes.axhline(full_macs[name] / MILLION, **_WHOLE)
        dress(axes, f"{shorten(name)} ({split})", "M MACs/frame")
        axes.set_xlabel("training step")
    handles = [Line2D([], [], color=color, lw=2) for color in THICK.values()]
    legend(figure, [*handles, Line2D([], [], **_WHOLE)], [*THICK, "whole network"])
    return figure


@styled
def gate_usage(
    usage: np.ndarray, rows: Sequence[str], edge_macs: Mapping[str, int], width: float = WIDE
) -> Figure:
    """Share of the frames in which each edge runs, in %.

    Args:
      usage: [R, E] in 0..1.
      rows: R names; the first is drawn apart, as the total.
      edge_macs: E names → MACs per frame.
    """
    figure = Figure(figsize=(width, 0.25 * len(rows) + 1.5))
    axes = figure.subplots()
    heights = [0.0, *(i + 0.3 for i in range(1, len(rows)))]
    for y, values in zip(heights, usage.tolist(), strict=True):
        for x, value in enumerate(values):
            cell = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=LIGHT["cell"], ec="none")
            cell.set_alpha(value)
            axes.add_patch(cell)
            color = LIGHT["on-cell" if value > 0.85 else "ink"]
            axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color=color, size=8)
    axes.set_xlim(-0.5, len(edge_macs) - 0.5)
    axes.set_ylim(heights[-1] + 0.55, -0.55)
    axes.set_yticks(heights, rows)
    names = [f"{edge}\n{short(macs)}" for edge, macs in edge_macs.items()]
    upright = len(names) > (12 if width == WIDE else 4)
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("edge, and its MACs per frame when it runs")
    axes.set_title("Frames in which the edge runs (%)")
    return figure


def costs_by_class(lines: Lines, split: str) -> dict[str, Curve]:
    """Class → steps and M MACs per frame; "mean of the words" is the words' plain mean."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        if line["split"] != split:
            continue
        costs = {plain(k): v / MILLION for k, v in line["macs_per_frame_by_label"].items()}
        words = [cost for name, cost in costs.items() if name not in THICK]
        if words:
            costs["mean of the words"] = float(np.mean(words))
        for name, cost in costs.items():
            points.setdefault(name, []).append((line["step"], cost))
    arrays = {name: np.array(pairs, float) for name, pairs in points.items()}
    return {name: (pairs[:, 0], pairs[:, 1]) for name, pairs in arrays.items()}


def thin(steps: np.ndarray, values: np.ndarray, most: int = 400) -> Curve:
    """At most `most` points: means of blocks, for lines that would be a band otherwise."""
    block = max(1, -(-len(steps) // most))
    starts = np.arange(0, len(steps), block)
    count = np.diff([*starts, len(steps)])
    return np.add.reduceat(steps, starts) / count, np.add.reduceat(values, starts) / count


def _series(lines: Lines, split: str, key: str, scale: float) -> Curve:
    kept = [(line["step"], scale * line[key]) for line in lines if line["split"] == split]
    pairs = np.array(kept, float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _cost_panel(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """A line per class; the words that end cheapest and dearest are named."""
    curves = {name: thin(*curve) for name, curve in curves.items()}
    for name, curve in curves.items():
        thick = name in THICK
        color = THICK.get(name, LIGHT["word"])
        axes.plot(*curve, color=color, label=name, lw=2.0 if thick else 0.8, zorder=2 + thick)
    last = {name: costs[-1] for name, (_, costs) in curves.items() if name not in THICK}
    order = sorted(last, key=last.__getitem__)
    for name, side in zip(order[:1] + order[1:][-1:], ("top", "bottom"), strict=False):
        end = (curves[name][0][-1], last[name])
        axes.annotate(name, end, (3, 0), textcoords="offset points", va=side, size=8)
