"""The host: its processor, its cores, the user's cache."""

from __future__ import annotations

import gc
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def processor() -> str:
    """Model of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_kind() -> str:
    """The same for CPUs that run each other's programs: of the name and the instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    kinds = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256(repr((platform.machine(), kinds)).encode()).hexdigest()[:12]


def num_cores() -> int:
    """Cores that this process may use: as many threads compute."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def without_pauses() -> Iterator[None]:
    """Python's collector leaves alone what there is: to look through all that jax has loaded takes
    it a tenth of a second, in the midst of a stream."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def user_cache() -> Path:
    """The project's folder in the user's cache; OSError where nobody says where that is."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "sanas-jax"
    except RuntimeError:
        raise OSError("expected a home folder, got none: set HOME or XDG_CACHE_HOME") from None
