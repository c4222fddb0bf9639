"""A part of a day in a process of its own, which is ended when its time is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE_SECONDS = 10.0  # to write what there is to be written


def run(
    command: Sequence[str], log: Path, seconds: float, environment: Mapping[str, str]
) -> int | None:
    """Run a command, its output appended to a file.

    Args:
      command: with its arguments.
      log: file for stdout and stderr.
      seconds: after which it is told to end, and ended `GRACE_SECONDS` later.
      environment: in addition to this process's.

    Returns:
      Its exit status, None if its time was over.
    """
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # what it starts in turn ends with it
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """Tell a process and its children to end, then end them."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path, start: int) -> str:
    """The last line that says something in a log from a position on."""
    text = log.read_bytes()[start:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1][:300] if lines else ""
