"""Files and folders that appear complete or not at all: write to a sibling, then rename."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `out`; on success it takes the place of `out`.

    An `out` that exists is replaced: callers decide beforehand whether that is allowed.
    """
    out = Path(os.path.abspath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    # A folder around the new one also holds the old one while the two are exchanged.
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.", suffix=".partial", dir=out.parent, ignore_cleanup_errors=True
    ) as around:
        new = Path(around) / "new"
        new.mkdir()
        yield new
        if out.exists():
            out.rename(Path(around) / "old")
        new.rename(out)


@contextlib.contextmanager
def new_files(*outs: Path) -> Iterator[tuple[Path, ...]]:
    """Yield one temporary path for each of `outs`, on the same disk, renamed on success.

    The last of `outs` appears last, so its presence says that the others are there.
    """
    targets = [Path(os.path.abspath(out)) for out in outs]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    parent = targets[0].parent
    around = Path(tempfile.mkdtemp(prefix=f".{targets[0].name}.", suffix=".partial", dir=parent))
    try:
        new = tuple(around / target.name for target in targets)
        yield new
        for path, target in zip(new, targets, strict=True):
            path.replace(target)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, in the place of what was there or not at all."""
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(value, indent=1) + "\n"
