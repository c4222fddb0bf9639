"""The architecture: which room may import which, and which library stands in which room.

A room is a folder. It imports only rooms of earlier floors. Doors, the command modules, import no
doors: what two of them need stands in a room below.
"""

from pathlib import Path

import pytest

from tests.helpers import rooms
from tests.helpers.places import ROOT
from tests.helpers.rooms import FILES, NAMES, imported, modules, room_of

# Rooms of one floor do not import each other.
FLOORS = (
    ("sanas_jax/graph", "sanas_jax/kernels", "sanas_jax/data", "data_prep/command"),
    ("sanas_jax", "sanas_jax/costs", "sanas_jax/blocks", "data_prep/speech"),
    (
        "sanas_jax/spaces",
        "sanas_jax/streaming",
        "sanas_jax/training",
        "data_prep/images",
        "data_prep/voices",
        "data_prep/flags",
        "experiments/machine",
    ),
    ("sanas_jax/export", "data_prep", "experiments/config"),
    (
        "sanas_jax/export/c",
        "experiments/configs",
        "experiments/datasets",
        "experiments/figures",
        "experiments/runs",
        "experiments/benchmarks/harness",
    ),
    (
        "experiments/evaluation",
        "experiments/live",
        "experiments/reporting",
        "experiments/training",
        "experiments/benchmarks/peers",
    ),
    (
        "experiments/flags",
        "experiments/live/page",
        "experiments/replication",
        "experiments/reporting/images",
        "experiments/reporting/streams",
        "experiments/search",
        "experiments/benchmarks/decisions",
        "experiments/benchmarks/day",
    ),
    ("experiments", "experiments/benchmarks"),
)
FLOOR = {room: i for i, floor in enumerate(FLOORS) for room in floor}
DOORS = ("data_prep", "experiments", "experiments/benchmarks")

# Where a library may be imported, and nowhere else.
STANDS_IN = {
    "absl": (
        *(*DOORS, "data_prep/command", "data_prep/flags", "experiments/flags"),
        "experiments/benchmarks/harness",
    ),
    "aiohttp": ("experiments/live/page",),
    "matplotlib": (
        *("experiments/figures", "experiments/reporting"),
        *("experiments/reporting/images", "experiments/reporting/streams"),
    ),
    "onnx": ("sanas_jax/export",),
    "orbax": ("experiments/runs/checkpoints.py",),
    "sounddevice": ("experiments/live",),
    "tensorboardX": ("experiments/training",),
    "torch": (
        *("experiments/benchmarks", "experiments/benchmarks/harness"),
        *("experiments/benchmarks/peers", "experiments/benchmarks/decisions"),
    ),
}
# What a room may not import.
BARRED = {
    "sanas_jax": (
        *("experiments", "data_prep", "tests"),
        *("librosa", "soundfile", "soxr", "tqdm"),
        *("argparse", "os", "pathlib", "shutil", "time", "datetime", "random", "logging"),
    ),
    "data_prep": ("jax", "jaxlib", "flax", "optax", "experiments", "sanas_jax", "tests"),
    "experiments/config/schema.py": ("jax", "flax", "optax", "numpy"),
    "experiments/config/reading.py": ("jax", "flax", "optax", "numpy"),
}


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def stands_under(path: Path, place: str) -> bool:
    return (ROOT / place) in (path, *path.parents)


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOOR), "a room is new or gone: mend FLOORS"
    assert len(FLOORS) <= 8


@pytest.mark.parametrize("path", FILES, ids=relative(FILES))
def test_a_room_imports_only_rooms_below(path):
    room = room_of(path)
    for name in modules(path):
        other = room_of(NAMES[name])
        if other == room or (NAMES[name].name == "__init__.py" and not NAMES[name].read_text()):
            continue
        assert FLOOR[other] < FLOOR[room], f"{path.relative_to(ROOT)} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    assert rooms.circles(rooms.module_graph()) == []


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert rooms.circles(graph) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="expected no circle"):
        rooms.floors(graph)


def test_floors_and_arrows_are_those_of_a_small_house():
    graph = {"cellar": set(), "hall": {"cellar"}, "shed": set(), "roof": {"hall", "cellar", "shed"}}
    assert rooms.floors(graph) == {"cellar": 1, "shed": 1, "hall": 2, "roof": 3}
    assert rooms.arrows(graph)["roof"] == ["hall", "shed"]


def test_the_house_as_printed_agrees_with_the_order_of_rooms():
    floor = rooms.floors(rooms.room_graph())
    assert max(floor.values()) <= len(FLOORS)
    for room, others in rooms.room_graph().items():
        assert all(floor[other] < floor[room] for other in others)


@pytest.mark.parametrize("room", DOORS)
def test_doors_import_no_doors(room):
    doors = {name: p for name, p in NAMES.items() if room_of(p) == room and p.name != "__init__.py"}
    assert doors
    for name, path in doors.items():
        assert not modules(path) & set(doors), name


@pytest.mark.parametrize("path", FILES, ids=relative(FILES))
def test_libraries_stand_where_they_belong(path):
    for library in {name.split(".")[0] for name in imported(path)} & set(STANDS_IN):
        here = (room_of(path), str(path.relative_to(ROOT)))
        assert set(here) & set(STANDS_IN[library]), library


@pytest.mark.parametrize("place", BARRED)
def test_rooms_stay_free_of(place):
    files = [path for path in FILES if stands_under(path, place)]
    assert files
    for path in files:
        found = {name.split(".")[0] for name in imported(path)} & set(BARRED[place])
        assert not found, path.relative_to(ROOT)
