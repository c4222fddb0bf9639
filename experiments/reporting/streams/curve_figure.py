"""The figure of cost against accuracy (SANAS, figure 5), with the paper's own points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.config.wording import short
from experiments.figures.style import LIGHT, NARROW, WIDE, legend, styled
from experiments.reporting.paper import PAPER, PAPER_WHOLE
from experiments.reporting.streams.points import StreamPoint
from experiments.runs.stored_results import DETECTORS, detector_suffix

# kind → look, name
_KINDS: Mapping[str, tuple[dict[str, Any], str]] = {
    "static": ({"color": LIGHT["ink"], "marker": "s", "ls": "none"}, "static"),
    "adaptive": ({"color": LIGHT["run-0"], "marker": "o", "ls": "-"}, "SANAS"),
    "constant": ({"color": LIGHT["run-1"], "marker": "^", "ls": "-"}, "constant Γ"),
    "conditioned": ({"color": LIGHT["run-2"], "marker": "D", "ls": "-"}, "SANAS told λ"),
}
_PAPER: dict[str, Any] = {"color": LIGHT["word"], "mfc": LIGHT["surface"], "ms": 5.5, "lw": 1}
_MOST_LABELS = {WIDE: 24, NARROW: 10}


@styled
def cost_curve(points: Sequence[StreamPoint], width: float = WIDE) -> Figure:
    """Correct words against MACs per frame, mean and standard deviation over streams.

    A line joins points of one kind and one detector; with both detectors, the protocol's is faint.
    The paper's networks stand where their share of its whole network puts them on the largest
    network here.
    """
    figure = Figure(figsize=(width, 4.6 if width == WIDE else 4.4))
    axes = figure.subplots()
    full = max(point.full_macs_per_frame for point in points)
    handles = [_draw_paper(axes, full / PAPER_WHOLE)]
    names = ["SANAS paper (other data)"]
    labelled = len(points) <= _MOST_LABELS[width]
    kinds = {point.detector for point in points}
    groups: dict[tuple[str, str, float | None], list[StreamPoint]] = {}
    for point in points:
        groups.setdefault((point.kind, point.detector, point.calibrated_for), []).append(point)
    for (kind, detector, rate), same in sorted(groups.items(), key=_order):
        look, name = _KINDS[kind]
        # Not to be compared with the others, where there are others.
        faint = {"alpha": 0.45} if detector == "default" and len(kinds) > 1 else {}
        handles.insert(len(names) - 1, _draw_kind(axes, same, look | faint, labelled))
        names.insert(len(names) - 1, name + detector_suffix(detector, rate))
    static = [p.correct_pct.mean for p in points if p.kind == "static"]
    if static:
        axes.axhline(max(static), color=LIGHT["ink"], lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.set_xscale("log")
    _scale_x(axes, full)
    axes.grid(axis="both")
    axes.set_ylabel("correct, % of the words")
    axes.set_xlabel("MACs per frame")
    legend(figure, handles, names)
    return figure


def _order(group: tuple[tuple[str, str, float | None], Any]) -> tuple[int, int, float]:
    """As in the legend: by kind, then the protocol's detector first, then by rate."""
    kind, detector, rate = group[0]
    return list(_KINDS).index(kind), DETECTORS.index(detector), rate or 0.0


def joined(points: Sequence[StreamPoint]) -> np.ndarray:
    """The line through points of a kind and detector, [N, 2] cost and accuracy, by rising cost.

    Points that were asked for the same (seeds) count as one, their mean.
    """
    groups: dict[tuple[float, float | None], list[tuple[float, float]]] = {}
    for point in points:
        asked = (point.full_macs_per_frame, point.budget or point.cost_weight)
        groups.setdefault(asked, []).append(_place(point))
    means = [np.mean(group, axis=0) for group in groups.values()]
    return np.array(sorted(means, key=lambda mean: mean[0]))


def _draw_kind(
    axes: Axes, points: Sequence[StreamPoint], look: Mapping[str, Any], labelled: bool
) -> Any:
    """A marker with a bar per point, a line through them, and what each was asked for."""
    faint: dict[str, Any] = {"alpha": look.get("alpha")}
    marks = {**look, "ls": "none", "ms": 7, "mec": LIGHT["surface"], "mew": 0.8}
    for point in points:
        x, y = _place(point)
        bar = {"fmt": "none", "color": look["color"], "elinewidth": 1.2, "capsize": 2.5, **faint}
        axes.errorbar(x, y, point.correct_pct.sd, zorder=3, **bar)
        axes.plot(x, y, zorder=4, **marks)
    if look["ls"] != "none":
        axes.plot(*joined(points).T, color=look["color"], lw=1.8, zorder=3, **faint)
    if labelled:
        for text, (x, y) in _labels(points).items():
            axes.annotate(
                text, (x, y), (7, -9), textcoords="offset points", size=8, color=look["color"]
            )
    return axes.plot([], [], **{**marks, "ls": look["ls"], "lw": 1.8})[0]


def _labels(points: Sequence[StreamPoint]) -> dict[str, tuple[float, float]]:
    """What was asked for → where its first point is; static networks need none.

    Of the many prices that one network was told, the lowest and the highest say enough.
    """
    places: dict[str, tuple[float, float]] = {}
    prices = sorted({p.cost_weight for p in points if p.cost_weight is not None})
    for point in points:
        if point.budget:
            places.setdefault(short(point.budget), _place(point))
        elif point.kind == "conditioned" and point.cost_weight in prices[1:-1]:
            continue
        elif point.cost_weight is not None:
            places.setdefault(f"λ={point.cost_weight:.3g}", _place(point))
    return places


def _draw_paper(axes: Axes, scale: float) -> Any:
    """The paper's rows, its SANAS networks joined; `scale` makes MACs here of its millions."""
    sanas = [row for row in PAPER if row.model == "SANAS"]
    static = [row for row in PAPER if row.model != "SANAS"]
    for rows, marker, ls in ((sanas, "o", ":"), (static, "s", "none")):
        x = [row.million_macs * scale for row in rows]
        axes.plot(x, [row.correct for row in rows], marker=marker, ls=ls, zorder=2, **_PAPER)
    return axes.lines[0]


def _scale_x(axes: Axes, full: float) -> None:
    """MACs below, the share of the whole network above, labelled at 1, 2 and 5 of each decade."""
    axes.autoscale_view()
    share = axes.secondary_xaxis("top", functions=(_scaled(100 / full), _scaled(full / 100)))
    share.set_xlabel("share of the whole network, %")
    for axis, text in ((axes.xaxis, short), (share.xaxis, "{:g}".format)):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _, text=text: text(value)))
        axis.set_minor_formatter(NullFormatter())
    for every in (axes, share):
        every.tick_params(which="minor", length=0)


def _scaled(factor: float) -> Any:
    return lambda values: values * factor


def _place(point: StreamPoint) -> tuple[float, float]:
    return point.macs_per_frame.mean, point.correct_pct.mean
