"""The rooms of the project as their imports have it: `python -m tests.helpers.rooms` prints them.

A room is a folder of a package. An arrow leads from a room to one that it imports; a room's floor
is the length of the longest way down. What a room imports stands after it, in its own package by
the name alone; arrows that follow from others are left out.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.places import ROOT

PACKAGES = ("sanas_jax", "data_prep", "experiments")
# A packed model is data; its config.py goes with it.
FILES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "pretrained_models" not in path.parts
)
NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}
Graph = Mapping[str, set[str]]


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; the project's are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(path: Path) -> set[str]:
    """The project's modules that a file imports."""
    names = set(imported(path))
    return (names | {name.rpartition(".")[0] for name in names}) & set(NAMES)


def room_of(path: Path) -> str:
    """The folder of a file, from the root on."""
    return str(path.parent.relative_to(ROOT))


def module_graph() -> dict[str, set[str]]:
    """Each module and the modules that it imports."""
    return {name: modules(path) - {name} for name, path in NAMES.items()}


def room_graph() -> dict[str, set[str]]:
    """Each room and the rooms that it imports."""
    graph: dict[str, set[str]] = {room_of(path): set() for path in FILES}
    for path in FILES:
        rooms = {room_of(NAMES[name]) for name in modules(path) if not _is_a_mark(NAMES[name])}
        graph[room_of(path)] |= rooms - {room_of(path)}
    return graph


def _is_a_mark(path: Path) -> bool:
    """Whether a file only marks a folder as a package."""
    return path.name == "__init__.py" and len(ast.parse(path.read_text("utf-8")).body) <= 1


def circles(graph: Graph) -> list[str]:
    """Names that import themselves by way of others, or stand above such ones; sorted."""
    left = {name: set(others) for name, others in graph.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def floors(graph: Graph) -> dict[str, int]:
    """Floor of each room, from 1; ValueError for a graph with a circle."""
    if found := circles(graph):
        raise ValueError(f"expected no circle, got one among {found}")
    floor: dict[str, int] = {}
    while len(floor) < len(graph):
        ready = {
            name: 1 + max((floor[other] for other in others), default=0)
            for name, others in graph.items()
            if name not in floor and others <= set(floor)
        }
        floor |= ready
    return floor


def arrows(graph: Graph) -> dict[str, list[str]]:
    """Arrows that do not follow from others, sorted."""
    below: dict[str, set[str]] = {}
    for name in sorted(graph, key=floors(graph).__getitem__):
        below[name] = set(graph[name]).union(*(below[other] for other in graph[name]))
    return {
        name: sorted(others - set().union(*(below[other] for other in others)))
        for name, others in graph.items()
    }


def text() -> str:
    """The house: a line a room, top floor first."""
    graph = room_graph()
    floor, arrow = floors(graph), arrows(graph)
    lines = []
    for room in sorted(graph, key=lambda room: (-floor[room], room)):
        others = (other.removeprefix(f"{room.split('/')[0]}/") for other in arrow[room])
        lines.append(f"{floor[room]}  {room:33}{' '.join(others)}".rstrip())
    found = circles(module_graph())
    counts = f"{max(floor.values())} floors, {len(graph)} rooms, {len(FILES)} files"
    return "\n".join([*lines, f"{counts}; circles: {', '.join(found) or 'none'}"])


if __name__ == "__main__":
    print(text())
