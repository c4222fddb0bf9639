"""Which package may import what, and in which order the library is built."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "sanas_jax").rglob("*.py"))
DATA_PREP = sorted((ROOT / "data_prep").rglob("*.py"))

# A module imports only from earlier rows; modules of one row do not import each other.
ROWS = (
    ("graph", "decoding", "features", "schedule", "shifts", "sharding", "sliding", "spectral"),
    ("recipe", "spec_augment", "augment_speech", "depthwise", "convolution"),
    ("mix_settings", "clips"),
    ("labelling",),
    ("gates", "blocks", "blocks_bc", "blocks_separable", "blocks_tc"),
    ("augment", "augment_images", "metrics", "optimizer"),
    ("costs",),
    ("forward", "incremental"),
    ("spaces",),
    ("controller",),
    ("objectives",),
    ("estimators",),
    ("rollout",),
    ("training",),
    ("budgets",),
    ("rings",),
    ("streaming", "layout"),
    ("runtime",),
    ("session",),
    ("export",),
)
ROW = {name: i for i, row in enumerate(ROWS) for name in row}


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; the project's are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_the_packages_are_found():
    assert len(LIBRARY) > 10
    assert len(DATA_PREP) > 5


@pytest.mark.parametrize("path", LIBRARY, ids=relative(LIBRARY))
def test_library_imports_no_commands_files_or_flags(path):
    forbidden = {
        *("experiments", "data_prep", "tests"),
        *("librosa", "soundfile", "soxr", "absl", "orbax", "tqdm", "matplotlib", "tensorboardX"),
        *("argparse", "os", "pathlib", "shutil", "time", "datetime", "random", "logging"),
    }
    found = {name.split(".")[0] for name in imported(path)} & forbidden
    assert not found


@pytest.mark.parametrize("path", DATA_PREP, ids=relative(DATA_PREP))
def test_data_prep_imports_no_jax_and_no_commands(path):
    forbidden = {"jax", "jaxlib", "flax", "optax", "orbax", "experiments", "tests"}
    names = list(imported(path))
    assert not {name.split(".")[0] for name in names} & forbidden
    # Of the library only what needs no jax either, and that is nothing.
    assert not [name for name in names if name.split(".")[0] == "sanas_jax"]


@pytest.mark.parametrize("path", LIBRARY, ids=relative(LIBRARY))
def test_library_is_built_from_the_ground_up(path):
    parts = path.relative_to(ROOT / "sanas_jax").with_suffix("").parts
    names = [name for name in imported(path) if name.split(".")[0] == "sanas_jax"]
    if parts == ("__init__",):
        assert not names
        return
    assert parts[0] in ROW, f"{parts[0]}: a new module; give it a row in ROWS"
    for name in names:
        other = name.split(".")[1]
        same_package = len(parts) > 1 and other == parts[0]
        assert same_package or ROW[other] < ROW[parts[0]], f"{'.'.join(parts)} imports {name}"
