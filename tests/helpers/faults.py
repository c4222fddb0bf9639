"""Faults of a disk, injected where a program writes, syncs and renames.

What is patched is Python's own: `os.fsync`, `os.rename`, `os.replace`, `os.mkdir`, and what `open`
returns for writing. A fault is an error (ENOSPC, EIO) or the death of the process.
"""

from __future__ import annotations

import builtins
import io
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIE = 0


@dataclass
class Fault:
    """What happens at the point `at`; -1: nothing, points are counted.

    Fields:
      error: errno, or `DIE`.
      at: number of a point, from 0 on; or its kind, and how often it was passed before.
      root: only what lies in this folder is a point.
      before: called with its kind and its number among them, before anything happens at a point.
      count: points that were passed so far.
      seen: what they were.
      kinds: how often each kind was passed: what is done, to a file without what chance is in its
        name.
      happened: whether it did.
    """

    error: int
    at: int | tuple[str, int]
    root: Path | None = None
    before: Callable[[str, int], None] | None = None
    count: int = 0
    seen: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    happened: bool = False
    _lock: Any = field(default_factory=threading.RLock)

    def pass_point(self, what: str, place: Any = None) -> None:
        """A point is reached; it may not be left."""
        kind = what
        if self.root is not None:
            name = _name(place)
            if name is None or not name.is_relative_to(self.root):
                return
            kind = f"{what} {_without_chance(str(name.relative_to(self.root)))}"
        with self._lock:
            number, self.count = self.count, self.count + 1
            self.seen.append(what)
            again = self.kinds[kind]
            self.kinds[kind] += 1
            if self.before is not None:
                self.before(kind, again)
            if self.at not in (number, (kind, again)):
                return
            self.happened = True
        if self.error == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, "injected")


def _name(place: Any) -> Path | None:
    """Of a path or a descriptor."""
    try:
        if isinstance(place, int):
            place = os.readlink(f"/proc/self/fd/{place}")
        return Path(os.path.abspath(os.fsdecode(place)))
    except (OSError, TypeError):
        return None


def _without_chance(name: str) -> str:
    """Random parts of temporary names, times and processes are all one."""
    name = re.sub(r"\.\w{8}\.partial", ".partial", name)
    name = re.sub(r"tfevents\.[^/]*", "tfevents", name)
    return re.sub(r"(tmp|process_)[-_.\w]*", r"\1", name)


@contextmanager
def failing(fault: Fault) -> Iterator[Fault]:
    """Let a fault happen."""
    kept = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "mkdir")}
    opens = builtins.open

    def patched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            fault.pass_point(name, args[-1] if name in ("rename", "replace") else args[0])
            return kept[name](*args, **options)

        return call

    def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        opened = opens(file, mode, *args, **options)
        if not set(mode) & set("wax+"):
            return opened
        write = opened.write

        def writing(data: Any) -> int:
            fault.pass_point("write", file)
            return write(data)

        try:
            opened.write = writing
        except AttributeError:  # a raw or a buffered file
            return _Writing(opened, fault, file)
        return opened

    for name in kept:
        setattr(os, name, patched(name))
    builtins.open, io.open = open_, open_
    try:
        yield fault
    finally:
        for name, function in kept.items():
            setattr(os, name, function)
        builtins.open, io.open = opens, opens


class _Writing:
    """A file whose writes are points."""

    def __init__(self, file: Any, fault: Fault, place: Any) -> None:
        self._file, self._fault, self._place = file, fault, place

    def write(self, data: Any) -> int:
        """As of the file."""
        self._fault.pass_point("write", self._place)
        written: int = self._file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)
