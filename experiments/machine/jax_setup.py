"""Settings of the machine that must hold before jax is used. Imports nothing of jax by itself."""

import ctypes
import errno
import os
import sys
from pathlib import Path

from experiments.machine.host import cpu_kind, user_cache

# Convolutions on CPU are 2-5x faster with it; other devices ignore it.
_XLA_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_XLA_VALUE = "-individual_convolution"
_CACHE_DIR = "jax_compilation_cache_dir"

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def prepare_platform() -> None:
    """Add what CPU convolutions need to XLA_FLAGS; a value that the user gave stays as it is."""
    text = os.environ.get("XLA_FLAGS", "")
    # What is no flag is the name of a file with flags, to which none can be added.
    if text.strip() and not text.strip().startswith("-"):
        if not Path(text).is_file():
            return  # XLA says so
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    given = text.split()
    if not any(flag.partition("=")[0] == _XLA_FLAG for flag in given):
        os.environ["XLA_FLAGS"] = " ".join([*given, f"{_XLA_FLAG}={_XLA_VALUE}"])


def prepare_streaming() -> None:
    """For small programs one after the other; too late where jax has computed something already.

    One stream keeps no accelerator busy, so it is heard on the CPU unless JAX_PLATFORMS asks for
    another device. There jax hands a program to another thread, to go on meanwhile; but a step of a
    stream is waited for, and the hand-over takes a quarter of a small network's.
    """
    import jax

    if not os.environ.get("JAX_PLATFORMS"):
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    keep_programs()


def keep_programs(asked: str | None = None) -> None:
    """Keep all compiled programs for later processes, in the user's cache or a folder of theirs.

    Args:
      asked: a folder, "none", or None for the user's cache, which may be impossible to make.

    Raises:
      ValueError for a folder that was asked for and cannot be made.
    """
    check_platform()
    if asked == "none":
        return
    try:
        cache_programs(Path(asked) if asked else user_cache() / "programs")
    except OSError as error:
        if asked:
            raise ValueError(
                f"--compilation_cache: expected a folder or 'none', got {asked}: {error.strerror}"
            ) from error


def check_platform() -> None:
    """ValueError where jax finds none of the devices that JAX_PLATFORMS asks for."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or "nothing"
        reason = " ".join(str(error).split())[:200] or "no such device is here"
        raise ValueError(
            f"JAX_PLATFORMS: expected a platform that jax finds here, got {asked}: {reason}"
        ) from error


def cache_programs(folder: Path) -> None:
    """Keep compiled programs in `folder` for later processes; a folder of jax's own goes first.

    Programs for a CPU are of its instruction set, so each kind of CPU has a folder of its own: a
    home folder may be shared by machines that differ. Raises OSError where it cannot be made.
    """
    import jax

    if getattr(jax.config, _CACHE_DIR):
        return
    kind = cpu_kind()
    (folder / kind).mkdir(parents=True, exist_ok=True)
    if not os.access(folder / kind, os.W_OK):  # jax would say so of every program
        raise PermissionError(errno.EACCES, "may not be written", str(folder / kind))
    jax.config.update(_CACHE_DIR, str(folder / kind))
    # As it comes, jax keeps those that took a second; a command that starts waits for all.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def kept_programs() -> Path | None:
    """The folder of `cache_programs`; None if there is none, or it is not on a disk."""
    import jax

    folder = str(getattr(jax.config, _CACHE_DIR) or "")
    return None if not folder or "://" in folder else Path(folder)


def keep_memory() -> None:
    """Let malloc keep large arrays that are freed, for those of the next step of a training.

    As it comes, glibc returns each to the system, which then clears a step's gigabyte anew, page by
    page: a quarter of the time of a training step on a CPU. Only its main arena can hold arrays of
    any size, so call it before jax starts threads. Does nothing where the C library is another, or
    the user has set malloc up by its environment variables.
    """
    if sys.platform != "linux":
        return
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
            mallopt(parameter, value)
