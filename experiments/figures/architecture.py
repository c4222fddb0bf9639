"""The super-network and the architecture that was found in it."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch

from experiments.config.wording import short
from experiments.figures.layouts import Layout, make_layout
from experiments.figures.style import LIGHT, WIDE, legend, styled
from sanas_jax.graph import Edge, Net

ON = 0.5  # probability from which on an edge is on in the most probable architecture
MOST_COSTS = 18  # that are written
LOOKS = ("in the architecture", "has no gate", "on, but leads nowhere", "off")

_INCH = {"grid": 0.62, "layered": 0.52}  # of height per row
_COLUMN = (0.8, 1.25)  # inches per column: where panels stand side by side, and at most
_SIZES = 0.5  # inches at the left for the sizes of images
_MARGIN = 0.5  # columns and rows around the drawing
_THIN, _THICK = 0.7, 4.5  # points
_LABEL_AT = 0.4  # of the way: two edges that cross half-way keep their labels apart
_DOT = 4.5  # points
_LETTERS = 11  # of a title per inch


class Found(NamedTuple):
    """What is drawn: for each edge, in the network's order.

    Fields:
      probability: that it is on, [E] in 0..1.
      live: whether it is in the architecture, on a path of edges that are on, [E].
    """

    probability: np.ndarray
    live: np.ndarray


@styled
def architecture_figure(
    net: Net,
    panels: Mapping[str, Found],
    edge_costs: Mapping[str, float],
    width: float = WIDE,
    layout: str | None = None,
    looks: Sequence[str] = LOOKS,
) -> Figure:
    """The network once per panel, an edge as wide as it is likely to be on.

    Costs are written on all edges if these are few, else on the live ones if these are.

    Args:
      net: any.
      panels: title → architecture.
      edge_costs: edge → what it costs when it runs; empty to write none.
      width: in inches.
      layout: one of `layouts.LAYOUTS`; None for what suits the network.
      looks: what edges that look like `LOOKS` are; those that are "" do not occur.

    Raises ValueError for another layout.
    """
    geometry = make_layout(net, layout, width)
    (left, low), (right, high) = geometry.extent
    across, down = right - left + 2 * _MARGIN, high - low + 2 * _MARGIN
    margin = _SIZES if geometry.rows else 0.0
    beside = min(len(panels), max(1, int(width / (_COLUMN[0] * across + margin))))
    stacked = -(-len(panels) // beside)
    room = width / beside - margin
    across = max(across, room / _COLUMN[1])
    column = room / across
    inch = _INCH["grid" if geometry.rows else "layered"]
    figure = Figure(figsize=(width, stacked * (inch * down + 0.25)))
    for number, (title, found) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(stacked, beside, number)
        _draw_network(axes, net, geometry, found, column)
        if edge_costs and column >= _COLUMN[0]:
            for edge in _labelled(net, found):
                _write_cost(axes, geometry, edge, edge_costs[edge])
        axes.set_xlim(left - _MARGIN, left - _MARGIN + across)
        axes.set_ylim(low - _MARGIN, high + _MARGIN)
        axes.set_title(textwrap.fill(title, int(_LETTERS * width / beside)))
    kinds = ((1.0, True, True), (1.0, True, False), (1.0, False, True), (0.3, False, True))
    lines = [Line2D([], [], **_look(*kind)) for kind in kinds]
    shown = {name: line for name, line in zip(looks, lines, strict=True) if name}
    legend(figure, list(shown.values()), list(shown))
    return figure


def _draw_network(axes: Axes, net: Net, layout: Layout, found: Found, column: float) -> None:
    """Edges and layers, and the sizes of images at the left; `column` is in inches."""
    values = zip(net.edges, found.probability.tolist(), found.live.tolist(), strict=True)
    for edge, probability, live in values:
        look = _look(probability, bool(live), edge.gated)
        patch = PathPatch(layout.paths[edge.name], fill=False, capstyle="round", gid=edge.name)
        patch.set(**look, zorder=2 + bool(live))
        axes.add_patch(patch)
    reached = {end for e in _live(net, found) for end in (e.source, e.target)}
    _draw_layers(axes, net, layout, reached, column)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks(list(layout.rows), list(layout.rows.values()))


def _look(probability: float, live: bool, gated: bool) -> dict[str, Any]:
    width = _THIN + (_THICK - _THIN) * probability
    if live:
        return {"color": LIGHT["cell" if gated else "ink"], "lw": width if gated else _THICK / 2}
    if probability > ON:
        return {"color": LIGHT["word"], "lw": width, "alpha": 0.55}
    return {"color": LIGHT["muted"], "lw": width, "ls": (0, (1, 2)), "alpha": 0.35 + probability}


def _live(net: Net, found: Found) -> list[Edge]:
    return [edge for edge, on in zip(net.edges, found.live.tolist(), strict=True) if on]


def _labelled(net: Net, found: Found) -> list[str]:
    """Edges whose cost is written."""
    live = [edge.name for edge in _live(net, found)]
    for names in (list(net.index), live):
        if len(names) <= MOST_COSTS:
            return names
    return []


def _write_cost(axes: Axes, layout: Layout, edge: str, cost: float) -> None:
    if not cost:
        return
    x, y = BezierSegment(layout.paths[edge].vertices)(_LABEL_AT)
    box = {"fc": LIGHT["surface"], "ec": "none", "pad": 0.6, "alpha": 0.85}
    axes.text(x, y, short(cost), ha="center", va="center", size=7, bbox=box, zorder=5)


def _draw_layers(
    axes: Axes, net: Net, layout: Layout, reached: Collection[str], column: float
) -> None:
    """Names in boxes where there is room for all, else dots; the reached ones in full ink."""
    named = column > 0.3 + 0.065 * max(map(len, layout.places))
    for name, (x, y) in layout.places.items():
        ink = LIGHT["ink" if name in reached else "word"]
        if named:
            box = {"boxstyle": "round,pad=0.25", "fc": LIGHT["surface"], "ec": ink, "lw": 1}
            look: dict[str, Any] = {"color": ink, "bbox": box, "zorder": 6}
            axes.text(x, y, name, ha="center", va="center", size=7.5, **look)
            continue
        fill = ink if name in reached else LIGHT["surface"]
        axes.plot(x, y, "o", ms=_DOT, mfc=fill, mec=ink, mew=0.9, zorder=6)
        if name in (net.input, net.output):
            place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
            axes.annotate(name, (x, y), (0, -5), size=7, zorder=6, **place)
