"""The super-network as a graph of layers, each edge as wide as it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from experiments.config.wording import short
from experiments.figures.style import LIGHT, NARROW, WIDE, legend, styled
from sanas_jax.graph import Edge, Net

Place = tuple[float, float]

_LANE = 1.0  # between layers of the same depth
LEVEL = {WIDE: 0.62, NARROW: 0.9}  # between arcs, with room for a label of one line or two
_HIGHEST = 4.5  # of all arcs together; beyond, they move closer
_INCH = 0.52  # of height per unit
_MOST_LABELS = 16
_THIN, _THICK = 0.8, 6.0  # points
_LOOP = 0.3  # half the width of the arc of an edge that reuses its layer's last value
_BULGE = 1.2  # how far the outermost arc leans beyond its ends


class Route(NamedTuple):
    """How an edge is drawn: from its source to its target, past `peak` half-way.

    `level` is 0 for a straight edge, else the arc's rank: 1 is next to the layers, -1 below them.
    `bulge` is how far it leans beyond its ends: outer arcs more, so that they do not merge.
    """

    source: Place
    target: Place
    peak: float
    level: int
    bulge: float


def layer_places(net: Net) -> dict[str, Place]:
    """Layer → (depth, height): depth is the longest path from the input, no two in one place."""
    depth = {net.input: 0}
    for layer in net.layers[1:]:
        depth[layer.name] = 1 + max(depth[edge.source] for edge in net.incoming[layer.name])
    lanes: dict[int, list[str]] = {}
    for name, column in depth.items():
        lanes.setdefault(column, []).append(name)
    return {
        name: (float(column), _LANE * ((len(names) - 1) / 2 - row))
        for column, names in lanes.items()
        for row, name in enumerate(names)
    }


def edge_routes(net: Net, gap: float) -> dict[str, Route]:
    """Edge → its route: straight to the next depth, else an arc, `gap` clear of shorter arcs."""
    places = layer_places(net)
    top = max(height for _, height in places.values())
    levels = _levels(net, places)
    most = max(map(abs, levels.values()))
    gap = min(gap, _HIGHEST / max(most, 1))
    routes = {}
    for edge in net.edges:
        source, target = places[edge.source], places[edge.target]
        if edge.reuses:
            source, target = (source[0] - _LOOP, source[1]), (target[0] + _LOOP, target[1])
        level = levels[edge.name]
        peak = (source[1] + target[1]) / 2
        if level:
            peak = math.copysign(top, level) + gap * level
        routes[edge.name] = Route(
            source, target, peak, level, _BULGE * (abs(level) / max(most, 1) - 0.5)
        )
    return routes


def route_path(route: Route) -> Path:
    """The line or curve of a route."""
    (x0, y0), (x1, y1) = route.source, route.target
    if not route.level:
        return Path([(x0, y0), (x1, y1)])
    # The middle of a cubic curve is an eighth of its ends and three eighths of its handles.
    handle = (route.peak - (y0 + y1) / 8) / 0.75
    curve = [(x0, y0), (x0 - route.bulge, handle), (x1 + route.bulge, handle), (x1, y1)]
    return Path(curve, [Path.MOVETO, *[Path.CURVE4] * 3])


@styled
def network_figure(
    net: Net,
    edge_macs: Mapping[str, int],
    panels: Mapping[str, np.ndarray],
    width: float = WIDE,
) -> Figure:
    """The network once per panel, with an edge as wide and as dense as it is used.

    Args:
      net: any.
      edge_macs: edge → MACs per frame when it runs.
      panels: title → usage [E], shares of the frames in 0..1.
      width: in inches.
    """
    routes = edge_routes(net, LEVEL[width])
    low, high = _extent(routes.values())
    figure = Figure(figsize=(width, len(panels) * (_INCH * (high - low) + 0.4)))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, usage) in zip(grid, panels.items(), strict=True):
        for edge, used in zip(net.edges, usage.tolist(), strict=True):
            _draw_edge(axes, edge, routes[edge.name], used)
            if len(net.edges) <= _MOST_LABELS:
                _write_edge(axes, edge, routes[edge.name], used, edge_macs[edge.name], width)
        _draw_layers(axes, net)
        axes.set_xlim(-0.3, max(place[0] for place in layer_places(net).values()) + 0.35)
        axes.set_ylim(low, high)
        axes.axis("off")
        axes.set_title(title)
    looks = [_look(used, gated) for used, gated in ((1.0, True), (0.3, True), (0.0, True))]
    handles = [Line2D([], [], **look) for look in [*looks, _look(1.0, False)]]
    legend(figure, handles, ["runs always", "in 30 % of the frames", "never", "has no gate"])
    return figure


def _levels(net: Net, places: Mapping[str, Place]) -> dict[str, int]:
    """Edge → 0 if straight, else the first free rank of the arcs whose depths overlap with its."""
    spans = {e.name: (places[e.source][0], places[e.target][0]) for e in net.edges}
    straight: set[tuple[str, str]] = set()
    taken: dict[int, list[tuple[float, float]]] = {}
    levels = {}
    for edge in sorted(net.edges, key=lambda e: spans[e.name][1] - spans[e.name][0]):
        left, right = spans[edge.name]
        ends = (edge.source, edge.target)
        if right - left == 1 and ends not in straight:
            straight.add(ends)
            levels[edge.name] = 0
            continue
        side = -1 if places[edge.source][1] + places[edge.target][1] < 0 else 1
        level = side
        while any(a < right and left < b for a, b in taken.get(level, [])):
            level += side
        taken.setdefault(level, []).append((left, right))
        levels[edge.name] = level
    return levels


def _extent(routes: Iterable[Route]) -> tuple[float, float]:
    """Lowest and highest of what is drawn, with room for labels."""
    heights = [h for r in routes for h in (r.source[1], r.target[1], r.peak)]
    return min(heights) - 1.0, max(heights) + 0.45


def _look(used: float, gated: bool) -> dict[str, Any]:
    if not used:
        return {"color": LIGHT["muted"], "lw": _THIN, "ls": (0, (1, 2))}
    color = LIGHT["cell"] if gated else LIGHT["word"]
    return {"color": color, "lw": _THIN + (_THICK - _THIN) * used, "alpha": 0.45 + 0.55 * used}


def _draw_edge(axes: Axes, edge: Edge, route: Route, used: float) -> None:
    look = _look(used, edge.gated)
    axes.add_patch(PathPatch(route_path(route), fill=False, capstyle="butt", gid=edge.name, **look))


def _write_edge(axes: Axes, edge: Edge, route: Route, used: float, macs: int, width: float) -> None:
    """Name, cost and usage: over an arc, or below one another under a straight edge."""
    middle = (route.source[0] + route.target[0]) / 2
    cost, share = short(macs), f"{100 * used:.0f} %"
    text = f"{edge.name}\n{cost}\n{share}"
    if route.level:
        text = f"{edge.name}{' · ' if width == WIDE else chr(10)}{cost} · {share}"
    above = route.level > 0
    axes.annotate(
        text,
        (middle, route.peak),
        (0, 5 if above else -6),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        size=8,
        zorder=5,
        bbox={"fc": LIGHT["surface"], "ec": "none", "pad": 0.5},
    )


def _draw_layers(axes: Axes, net: Net) -> None:
    box = {"boxstyle": "round,pad=0.3", "fc": LIGHT["surface"], "ec": LIGHT["muted"], "lw": 1}
    for name, (x, y) in layer_places(net).items():
        axes.text(x, y, name, ha="center", va="center", size=8, bbox=box, zorder=6)
