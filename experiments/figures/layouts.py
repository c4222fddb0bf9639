"""Where the layers of a network stand in a drawing, and which way its edges go.

Layers of images stand in a grid: a row per size, finest first, in the order in which paths meet
them. All rows run from left to right, as those of a fabric, or to and fro, as the groups of a
ResNet. Other networks, and those in which few layers share a size, are laid out by depth alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path

from experiments.figures.network import LEVEL, Place, edge_routes, layer_places, route_path
from experiments.figures.style import WIDE
from sanas_jax.graph import Net

Size = tuple[int, int]  # height, width

LAYOUTS = ("grid", "layered")

_BEND = 0.2  # rows between parallel edges and the line that they go along, half-way
_AROUND = 0.4  # the same where a layer stands on that line
_NEAR = 0.12  # rows or columns; closer than this an edge seems to end at a layer
_SPREAD = 0.32  # rows and columns between layers of one size and column


class Layout(NamedTuple):
    """The geometry of a drawing, in columns and rows.

    Fields:
      places: layer → (x, y), no two in one place.
      paths: edge → a line or a Bézier curve.
      rows: height → size of the layers there, such as "32×32"; empty where heights say nothing.
    """

    places: dict[str, Place]
    paths: dict[str, Path]
    rows: dict[float, str]

    @property
    def extent(self) -> tuple[Place, Place]:
        """Least and largest (x, y) of layers and edges."""
        boxes = [path.get_extents().get_points() for path in self.paths.values()]
        points = np.concatenate([*boxes, np.array(list(self.places.values()))])
        (left, low), (right, high) = points.min(0).tolist(), points.max(0).tolist()
        return (left, low), (right, high)


def make_layout(net: Net, name: str | None = None, width: float = WIDE) -> Layout:
    """The layout of that name, or the one that suits the network.

    Args:
      net: any.
      name: one of `LAYOUTS`; None for the grid where a size has at least two layers on average.
      width: of the figure, in inches.

    Raises ValueError for another name, or for a grid of a network without layers of images.
    """
    sizes = _sizes(net)
    if name is None:
        name = "grid" if sizes and len(sizes) >= 2 * len(set(sizes.values())) else "layered"
    if name == "layered":
        routes = edge_routes(net, LEVEL[width])
        paths = {edge: route_path(route) for edge, route in routes.items()}
        return Layout(layer_places(net), paths, {})
    if name != "grid":
        raise ValueError(f"layout: expected one of {LAYOUTS}, got {name!r}")
    if not sizes:
        raise ValueError("layout: expected layers of images for a grid, got none")
    return _grid(net, sizes)


def _grid(net: Net, sizes: Mapping[str, Size]) -> Layout:
    order = sorted(set(sizes.values()), key=lambda size: (-math.prod(size), size))
    columns = _columns(net, sizes, order)
    places = {name: (float(columns[name]), -float(order.index(sizes[name]))) for name in sizes}
    for layer in net.layers[1:]:
        if layer.name not in places:
            places[layer.name] = _beyond(places, net.incoming[layer.name][0].source)
    first = next(edge.target for edge in net.edges if edge.source == net.input)
    places[net.input] = (min(columns.values()) - 1.0, places[first][1])
    places = _apart(places)
    rows = {-float(row): "×".join(map(str, size)) for row, size in enumerate(order)}
    return Layout(places, _paths(net, places), rows)


def _sizes(net: Net) -> dict[str, Size]:
    """Layer → height and width of its value, of those after the input that are images."""
    shapes = {layer.name: net.shapes[layer.name] for layer in net.layers[1:]}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 3}


def _columns(net: Net, sizes: Mapping[str, Size], order: Sequence[Size]) -> dict[str, int]:
    """Layer → column: rows run to and fro if edges would run back otherwise."""
    rank = _ranks(net, sizes)
    inner = [edge for edge in net.edges if edge.source in rank and edge.target in rank]
    if all(rank[edge.source] <= rank[edge.target] for edge in inner):
        return rank
    columns: dict[str, int] = {}
    end, way = -1, 1
    for size in order:
        row = {name: rank[name] for name in sizes if sizes[name] == size}
        columns |= {name: end + way * (1 + number) for name, number in row.items()}
        end += way * (1 + max(row.values()))
        way = -way
    return columns


def _ranks(net: Net, sizes: Mapping[str, Size]) -> dict[str, int]:
    """Layer → how many of its size come before it on the path that meets most of them."""
    seen: dict[str, Counter[Size]] = {net.input: Counter()}
    rank = {}
    for layer in net.layers[1:]:
        before: Counter[Size] = Counter()
        for edge in net.incoming[layer.name]:
            before |= seen[edge.source]  # the larger of two counts
        if layer.name in sizes:
            rank[layer.name] = before[sizes[layer.name]]
            before[sizes[layer.name]] += 1
        seen[layer.name] = before
    return rank


def _beyond(places: Mapping[str, Place], source: str) -> Place:
    """Outside of all places, next to the end of the row where the source stands."""
    x, y = places[source]
    row = [a for a, b in places.values() if b == y]
    columns = [a for a, _ in places.values()]
    return (min(columns) - 1 if x == min(row) < max(row) else max(columns) + 1, y)


def _apart(places: Mapping[str, Place]) -> dict[str, Place]:
    """Layers of one place side by side, on a falling diagonal."""
    groups: dict[Place, list[str]] = defaultdict(list)
    for name, place in places.items():
        groups[place].append(name)
    out = {}
    for (x, y), names in groups.items():
        for i, name in enumerate(names):
            shift = min(_SPREAD, 0.8 / len(names)) * (i - (len(names) - 1) / 2)
            out[name] = (x + shift, y - shift)
    return out


def _paths(net: Net, places: Mapping[str, Place]) -> dict[str, Path]:
    """Straight edges, but for parallel ones and those that would cross a layer."""
    parallel: dict[tuple[str, str], list[str]] = defaultdict(list)
    for edge in net.edges:
        parallel[edge.source, edge.target].append(edge.name)
    paths = {}
    for ends, names in parallel.items():
        source, target = (np.array(places[end]) for end in ends)
        if ends[0] == ends[1]:
            paths[names[0]] = _loop(source)
            continue
        others = np.array([place for name, place in places.items() if name not in ends])
        blocked = _passes(source, target, others.reshape(-1, 2))
        bends = np.linspace(1, -1, len(names)) if len(names) > 1 else np.array([float(blocked)])
        for name, bend in zip(names, (_AROUND if blocked else _BEND) * bends, strict=True):
            aside = np.array([bend, 0] if source[0] == target[0] else [0, bend])
            # Half-way a quadratic curve is half as far out as its handle.
            handle = (source + target) / 2 + 2 * aside
            curve = Path([source, handle, target], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
            paths[name] = curve if bend else Path([source, target])
    return {edge.name: paths[edge.name] for edge in net.edges}


def _loop(place: np.ndarray) -> Path:
    """Over a layer and back into it."""
    curve = [place + aside for aside in ((0, 0), (-_AROUND, _AROUND), (_AROUND, _AROUND), (0, 0))]
    return Path(curve, [Path.MOVETO, *[Path.CURVE4] * 3])


def _passes(source: np.ndarray, target: np.ndarray, others: np.ndarray) -> bool:
    """Whether the line from source to target comes near one of the others [N, 2]."""
    way = target - source
    along = np.clip((others - source) @ way / (way @ way), 0, 1)
    distance = np.linalg.norm(source + along[:, None] * way - others, axis=1)
    return bool((distance < _NEAR).any())
