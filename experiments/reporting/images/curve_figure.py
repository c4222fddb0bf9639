"""The figure of accuracy for cost of runs on images, a panel per cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.config.wording import short
from experiments.figures.style import LIGHT, NARROW, WIDE, legend, run_look, styled
from experiments.reporting.images.points import ImagePoint

# kind → marker, whether its points are joined, name
_KINDS = {
    "static": ("s", False, "whole network"),
    "extracted": ("D", False, "extracted"),
    "constant": ("o", True, "BSN"),
    "adaptive": ("o", True, "BSN"),
    "conditioned": ("^", True, "BSN told λ"),
}
_MOST_LABELS = {WIDE: 24, NARROW: 10}
_WHOLE: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 3)), "zorder": 1}


@styled
def image_curve(
    points: Sequence[ImagePoint], units: Mapping[str, str], width: float = WIDE
) -> Figure:
    """Accuracy against each cost; whole networks, trained static, are squares with a dashed line.

    Args:
      points: at least one.
      units: cost → its unit; a panel each, of the points that have it.
      width: in inches.
    """
    columns = min(3 if width == WIDE else 1, len(units))
    rows = -(-len(units) // columns)
    figure = Figure(figsize=(width, (3.4 if columns > 1 else 3.0) * rows))
    series: dict[tuple[str, str], list[ImagePoint]] = {}
    for point in points:
        series.setdefault((point.family, point.kind), []).append(point)
    families = list(dict.fromkeys(family for family, _ in series))
    handles: dict[str, Any] = {}
    for number, (cost, unit) in enumerate(units.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        for (family, kind), same in series.items():
            look = {"color": run_look(families.index(family))["color"], "marker": _KINDS[kind][0]}
            name = _KINDS[kind][2] + (f", {family}" if len(families) > 1 else "")
            placed = [point for point in same if cost in point.costs]
            if placed:
                handles[name] = _draw(axes, placed, cost, look, _KINDS[kind][1])
                if len(points) <= _MOST_LABELS[width]:
                    _label(axes, placed, cost)
        full = max(point.full_costs.get(cost, 0.0) for point in points)
        _scale(axes, cost, unit, full, left=(number - 1) % columns == 0)
    legend(figure, list(handles.values()), list(handles))
    return figure


def _draw(
    axes: Axes, points: Sequence[ImagePoint], cost: str, look: Mapping[str, Any], joined: bool
) -> Any:
    """A marker per point; whole networks with a line across; a line through the others."""
    places = np.array([(point.costs[cost], point.accuracy_pct) for point in points])
    if points[0].kind == "static":
        axes.axhline(places[:, 1].max(), color=look["color"], **_WHOLE)
    if joined:
        axes.plot(*places[places[:, 0].argsort()].T, color=look["color"], lw=1.6, zorder=3)
    marks = {**look, "ls": "none", "ms": 7, "mec": LIGHT["surface"], "mew": 0.8}
    axes.plot(*places.T, zorder=4, **marks)
    return axes.plot([], [], **{**marks, "ls": "-" if joined else "none", "lw": 1.6})[0]


def _label(axes: Axes, points: Sequence[ImagePoint], cost: str) -> None:
    """What was asked for, once per budget, or the price told, of the cheapest and the dearest."""
    texts: dict[str, ImagePoint] = {}
    for point in points:
        if point.budget:
            texts.setdefault(short(point.budget), point)
    told = sorted((p for p in points if p.cost_weight is not None), key=lambda p: p.costs[cost])
    for point in told[:1] + told[1:][-1:]:
        texts[f"λ={point.cost_weight:.3g}"] = point
    for text, point in texts.items():
        place = (point.costs[cost], point.accuracy_pct)
        axes.annotate(text, place, (6, -9), textcoords="offset points", size=8, zorder=5)


def _scale(axes: Axes, cost: str, unit: str, full: float, left: bool) -> None:
    """From 0 to the whole network, or logarithmic where that is over 20 times what was found."""
    axes.set_title(cost)
    axes.set_xlabel(unit)
    low, high = axes.dataLim.intervalx
    high = max(high, full)
    if low > 0 and high > 20 * low:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.08 * high or 1.0)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.margins(y=0.15)
    axes.set_ylim(top=min(axes.get_ylim()[1], 100.5))
    axes.grid(axis="both")
    if left:
        axes.set_ylabel("accuracy, %")
