"""The figure of how a step's time grows, one panel for each thing that grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from experiments.figures.style import LIGHT, WIDE, styled

NAMES = {
    "batch": "streams in a batch",
    "steps": "steps of a stream",
    "edges": "edges",
    "budgets": "budgets in one program",
    "devices": "devices, one batch",
}


@styled
def growth_figure(rows: Mapping[str, Any]) -> Figure:
    """Time of a step over the first point's, both axes logarithmic.

    The dashed line is in proportion; for devices, which share the work, it is level.

    Args:
      rows: of a result of `growth`: "batch 64" → seconds and more.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for name, row in rows.items():
        axis, _, count = name.rpartition(" ")
        series.setdefault(axis, []).append((int(count), row["seconds"]))
    figure = Figure(figsize=(WIDE, 2.7), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (axis, points) in zip(panels, series.items(), strict=True):
        counts, seconds = zip(*points, strict=True)
        grown = [value / seconds[0] for value in seconds]
        level = axis == "devices"
        ideal = [1.0 if level else count / counts[0] for count in counts]
        axes.plot(counts, ideal, color=LIGHT["muted"], ls=(0, (4, 3)), lw=0.9)
        axes.plot(counts, grown, color=LIGHT["run-0"], marker="o", ms=4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_major_formatter(FixedFormatter([str(count) for count in counts]))
        axes.xaxis.set_minor_locator(NullLocator())
        highest = max(*grown, *ideal)
        ticks = [value for value in (1, 2, 4, 8, 16, 32, 64) if value <= 1.5 * highest]
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FixedFormatter([f"{tick}×" for tick in ticks]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0.7 * min(*grown, 1.0), 1.5 * max(highest, 2))
        axes.tick_params(labelsize=7.5)
        axes.grid(axis="both")
        axes.set_title(f"{1000 * seconds[0]:.3g} ms at {counts[0]}", fontsize=8.5)
        axes.set_xlabel(NAMES.get(axis, axis), fontsize=8.5)
    return figure
