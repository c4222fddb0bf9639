"""Faults of a disk, injected where a program writes, syncs and renames.

What is patched is Python's own: `os.fsync`, `os.rename`, `os.replace`, `os.mkdir`, and what `open`
returns for writing. A fault is an error (ENOSPC, EIO) or the death of the process.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

DIE = 0


@dataclass
class Fault:
    """What happens at the point of number `at`; -1: nothing, points are counted.

    Fields:
      error: errno, or `DIE`.
      at: from 0 on.
      count: points that were passed so far.
      seen: what they were.
    """

    error: int
    at: int
    count: int = 0
    seen: list[str] = field(default_factory=list)

    def pass_point(self, what: str) -> None:
        """A point is reached; it may not be left."""
        number, self.count = self.count, self.count + 1
        self.seen.append(what)
        if number != self.at:
            return
        if self.error == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, "injected")


def points(fault: Fault) -> list[str]:
    """What was reached, in order."""
    return fault.seen


@contextmanager
def failing(fault: Fault) -> Iterator[Fault]:
    """Let a fault happen."""
    kept = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "mkdir")}
    opens = builtins.open

    def patched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            fault.pass_point(name)
            return kept[name](*args, **options)

        return call

    def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        opened = opens(file, mode, *args, **options)
        if not set(mode) & set("wax+"):
            return opened
        write = opened.write

        def writing(data: Any) -> int:
            fault.pass_point("write")
            return write(data)

        try:
            opened.write = writing
        except AttributeError:  # a raw or a buffered file
            return _Writing(opened, fault)
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

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file, self._fault = file, fault

    def write(self, data: Any) -> int:
        """As of the file."""
        self._fault.pass_point("write")
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
