"""Several processes that train one job together, one per host or per group of devices.

All run the same commands in the same order; the first one writes. Folders and data must be the same
for all: a shared file system.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_prep.command.cli import one_line

# A process that is lost is missed after so many seconds, and the others end.
HEARTBEAT_SECONDS = 30
GRACE_SECONDS = 3
# How long a file system may hide a new file from other hosts.
SHARED_SECONDS = 90
# A process that is told to end has so many seconds to come out of a computation.
ENDING_SECONDS = 10
ENDING_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
GOES_ON = "the same command in all processes goes on from the last checkpoint"


def join(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Join the other processes; before anything is computed. ValueError if that cannot work.

    Arguments as the flags of those names.
    """
    by_hand = (coordinator, num_processes, process_id)
    given = [value is not None for value in by_hand]
    if not (distributed or any(given)):
        return
    if any(given) and not all(given):
        raise ValueError(
            "expected --coordinator, --num_processes and --process_id together, or --distributed "
            f"alone, got {by_hand}"
        )
    if process_id is not None and num_processes is not None and process_id >= num_processes:
        raise ValueError(
            f"--process_id: expected less than --num_processes={num_processes}, got {process_id}"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ValueError(f"--coordinator: expected host:port, got {coordinator}")
    # Its handler of SIGTERM takes the place of the commands' own and ends nothing.
    jax.config.update("jax_enable_preemption_service", False)
    options: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    if all(given):
        options |= dict(
            zip(("coordinator_address", "num_processes", "process_id"), by_hand, strict=True)
        )
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"--distributed: could not join the other processes: {error}") from error


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """Among several processes one that fails ends with a line, and does not wait for the others.

    Waiting, as jax does at exit, would keep them waiting for this one.
    """
    ending = threading.Event()
    try:
        if jax.process_count() > 1:
            _end_when_told(ending)
        yield
    except BaseException as error:  # whatever it is, Ctrl-C too: the others must not wait
        if jax.process_count() == 1:
            raise
        ending.set()
        status = 1
        if isinstance(error, KeyboardInterrupt):
            line, status = f"interrupted: {GOES_ON}", 130
        elif isinstance(error, jax.errors.JaxRuntimeError):
            line = f"error: another process was lost, or a device failed; {GOES_ON}: "
            line += one_line(error)[:300]
        elif isinstance(error, ValueError | OSError):
            line = f"error: {one_line(error)}"
        else:
            line = traceback.format_exc()
        print(line, file=sys.stderr, flush=True)
        if is_first():  # without it jax aborts the others, who may have a line of their own to say
            time.sleep(GRACE_SECONDS)
        os._exit(status)


def _end_when_told(ending: threading.Event) -> None:
    """Have a signal end this process even where it waits, in a computation, for one that has ended.

    Python answers signals between two of its own instructions only; until then there would be none.
    One that has answered by then, `ending`, is left to end by itself.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(heard, 1)[0] not in ENDING_SIGNALS:
            pass
        if ending.wait(ENDING_SECONDS):
            return
        print(f"interrupted: {GOES_ON}", file=sys.stderr, flush=True)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def say(line: str) -> None:
    """Print a line, once for all processes."""
    if is_first():
        print(line)
        sys.stdout.flush()


def wait_for_all(what: str) -> None:
    """Go on when all processes have come here; `what` has been done names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def wait_for_file(path: Path) -> None:
    """Wait until a file is seen that the first process has written: a network may show it late.

    Raises ValueError if it is not seen.
    """
    seconds = SHARED_SECONDS if jax.process_count() > 1 else 0
    deadline = time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() >= deadline:
            raise ValueError(f"expected the run's file {path}, got none after {seconds} s")
        time.sleep(0.2)


def least(value: float) -> float:
    """The least of all processes'"""
    if jax.process_count() == 1:
        return value
    return float(np.min(multihost_utils.process_allgather(np.float64(value))))
