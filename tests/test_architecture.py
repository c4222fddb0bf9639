"""The architecture: which room may import which, and which library stands in which room.

A room is a folder. It imports only rooms of earlier floors. Doors, the command modules, import no
doors: what two of them need stands in a room below.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sanas_jax", "data_prep", "experiments")
# A packed model is data; its config.py goes with it.
FILES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "pretrained_models" not in path.parts
)
NAMES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES
}

# Rooms of one floor do not import each other.
FLOORS: tuple[tuple[str, ...], ...] = ()
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}


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
    found = {n if n in NAMES else n.rpartition(".")[0] for n in imported(path)}
    return found & set(NAMES)


def room_of(path: Path) -> str:
    return str(path.parent.relative_to(ROOT))


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_the_files_are_found():
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=relative(FILES))
def test_a_room_imports_only_rooms_below(path):
    room = room_of(path)
    assert room in FLOOR, f"{room}: a new room; give it a floor in FLOORS"
    for name in modules(path):
        other = room_of(NAMES[name])
        assert other == room or FLOOR[other] < FLOOR[room], f"{relative([path])} imports {name}"
