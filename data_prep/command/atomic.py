"""Files and folders that appear complete or not at all: write to a sibling, then rename.

What is new is on the disk before it gets its name, and what was there before comes back where that
fails. What a process leaves behind that was killed is swept by the next that writes anything into
the same folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.command.interrupts import held_back

# How names end of what is not complete.
PARTIAL = ".partial"
# What was put in its place, for a command that is interrupted to say.
WRITTEN: list[Path] = []
_OLD = "old"  # what a folder replaces, while the two are exchanged
_LONGEST = 255  # bytes of a name, on what people use
_LEFT = re.compile(r"\.(.+)\.\w{8}" + re.escape(PARTIAL))  # as `_held_folder` names them


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `out`; on success it takes the place of `out`.

    An `out` that exists is replaced: callers decide beforehand whether that is allowed. It is back
    where the exchange fails, or, should the process be killed in the middle, when this is called
    again. An interrupt waits for the exchange.
    """
    out = Path(os.path.realpath(out))  # a link stays one
    with _sibling(out) as around:
        new, old = around / "new", around / _OLD
        new.mkdir()
        yield new
        sync_tree(new)
        with held_back():
            _exchange(out, new, old)
            WRITTEN.append(out)


def _exchange(out: Path, new: Path, old: Path) -> None:
    """Give `new` the name `out`, and what has it `old`; all as it was where that fails."""
    try:
        if out.exists():
            out.rename(old)
        new.rename(out)
        _sync(out.parent)
    except BaseException:  # a second Ctrl-C too: it goes on, with what was there back in its place
        if not new.exists():
            out.rename(new)
        if old.exists():
            old.rename(out)
        raise


@contextlib.contextmanager
def new_files(*outs: Path) -> Iterator[tuple[Path, ...]]:
    """Yield one temporary path for each of `outs`, on the same disk, renamed on success.

    The last of `outs` appears last, so its presence says that the others are there. Where one
    cannot be renamed, all are what they were. ValueError where one is a folder, a pipe or a device:
    that is no place for a file.
    """
    targets = [Path(os.path.abspath(out)) for out in outs]
    for target in targets:
        if target.exists() and not target.is_file():
            raise ValueError(f"expected the name of a file, got a folder or a device: {target}")
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    with _sibling(targets[0]) as around:
        # Numbered, for two folders may get files of one name; the ends of names stay.
        new = tuple(around / f"{number}_{target.name}" for number, target in enumerate(targets))
        yield new
        for path in new:
            _sync(path)
        # Where a file system has no links, those that were replaced do not come back.
        old = [around / f"{number}{_OLD}" for number in range(len(targets))]
        for target, kept in zip(targets, old, strict=True):
            with contextlib.suppress(OSError):
                os.link(target, kept)
        replaced: list[int] = []
        try:
            for number, (path, target) in enumerate(zip(new, targets, strict=True)):
                path.replace(target)
                replaced.append(number)
            for parent in {target.parent for target in targets}:
                _sync(parent)
        except BaseException:  # Ctrl-C too, as above
            for number in replaced:
                if old[number].exists():
                    old[number].replace(targets[number])
                else:
                    targets[number].unlink(missing_ok=True)
            raise
        WRITTEN.extend(targets)


def check_place(flag: str, out: str | None, others: Iterable[str | Path | None] = ()) -> None:
    """ValueError where a file that a flag names could not be written: before the work, not after.

    Args:
      flag: its name, without dashes.
      out: the file; None if the flag is not given.
      others: what is read or written besides, which it may neither be nor lie in.
    """
    if out is None:
        return
    if not out:
        raise ValueError(f"--{flag}: expected the name of a file, got {out!r}")
    real = Path(os.path.realpath(out))
    for other in others:
        if other and Path(os.path.realpath(other)) in (real, *real.parents):
            raise ValueError(
                f"--{flag}: expected a file of its own, got {out}, where {other} is read or written"
            )
    path = Path(os.path.abspath(out))
    _check_around(flag, path)
    if path.exists() and not path.is_file():
        raise ValueError(f"--{flag}: expected the name of a file, got a folder or a device: {out}")


def check_new_folder(flag: str, out: Path) -> None:
    """ValueError where a folder that a flag names could not be put in its place, as `check_place`.

    Args:
      flag: its name, without dashes.
      out: the folder, or what it replaces.
    """
    path = Path(os.path.realpath(out))
    if path.is_symlink():
        raise ValueError(f"--{flag}: expected a folder, got a link that leads to itself: {out}")
    if path.is_mount():
        raise ValueError(f"--{flag}: expected a folder to be replaced, got a mount point: {out}")
    _check_around(flag, path)


def _check_around(flag: str, path: Path) -> None:
    """ValueError where nothing could be written beside what a flag names."""
    around = f".{path.name}.{'x' * 8}{PARTIAL}"  # as `_held_folder` names it
    if len(os.fsencode(around)) > _LONGEST:
        raise ValueError(f"--{flag}: expected a shorter name, got {path.name}")
    try:
        parent = next(each for each in path.parents if each.exists())
    except OSError as error:
        raise ValueError(f"--{flag}: expected the name of a file, got {error}") from error
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise ValueError(f"--{flag}: expected a folder that can be written, got {parent}")


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one."""
    with new_files(path) as (new,):
        new.write_text(text, encoding="utf-8")


def sync_tree(folder: Path) -> None:
    """Have all that lies in a folder, and the folder, on the disk."""
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent, name))
        _sync(Path(parent))


@contextlib.contextmanager
def _sibling(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target` that is held while it is used, and gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    around, held = _held_folder(target)
    try:
        yield around
    finally:
        with held_back():
            shutil.rmtree(around, ignore_errors=True)
            os.close(held)


def _held_folder(target: Path) -> tuple[Path, int]:
    """A new folder and the descriptor whose lock says that somebody uses it."""
    while True:
        made = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
        try:
            held = os.open(made, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was held
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nothing is swept either
            fcntl.flock(held, fcntl.LOCK_EX)
        if os.path.isdir(made):
            return Path(made), held
        os.close(held)


def sweep(folder: Path) -> None:
    """Remove what processes left here that ended while they wrote, and put back what was away."""
    for entry in list(folder.iterdir()):
        left = _LEFT.fullmatch(entry.name)
        if left is None:
            continue
        target = folder / left[1]
        with contextlib.suppress(OSError):  # somebody else sweeps it, uses it, or owns it
            found = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (entry / _OLD).is_dir() and not target.exists():
                    (entry / _OLD).rename(target)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(found)


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, in the place of what was there or not at all."""
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(value, indent=1) + "\n"
