"""C, compiled for this machine and kept for later processes."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from data_prep.command.atomic import new_files
from experiments.machine.host import cpu_kind, user_cache

# Loops of fixed length are vectorised, those that add up into registers unrolled for it. -O3 would
# unroll them too early to vectorise them (gcc 12: a matrix product 25 times slower).
FLAGS = (
    *("-std=gnu99", "-O2", "-ftree-vectorize", "-funroll-loops"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
THIS_CPU = ("-march=native",)  # which not every compiler knows for every CPU
SECONDS = 300  # more than any compilation takes


class NoCompilerError(Exception):
    """Nothing here compiles C; says what does not."""


def find_compiler() -> list[str]:
    """$CC, the system's `cc`, or that of the ziglang wheel, as a command.

    Raises NoCompilerError where there is none.
    """
    asked = os.environ.get("CC", "").split()
    if asked and shutil.which(asked[0]):
        return asked
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NoCompilerError("no C compiler here; cc, or pip install 'sanas-jax[native]'")


def compiled(
    source: str | Callable[[], str], folder: Path | None = None, follows_from: str = ""
) -> Path:
    """A shared library of a C file, compiled now or by an earlier process.

    Args:
      source: the file, or what writes it, which is asked where no library is kept.
      folder: where libraries are kept; None: the user's cache.
      follows_from: all that the file follows from, as a text that tells two files apart; "": the
        file itself does.

    Raises NoCompilerError where there is no compiler, it fails, or the library can't be kept or
    loaded.
    """
    command = find_compiler()
    told = repr((command, FLAGS, THIS_CPU, cpu_kind(), sys.platform))
    if callable(source) and not follows_from:
        source = source()
    apart = source if isinstance(source, str) else follows_from
    key = hashlib.sha256((told + apart).encode()).hexdigest()[:24]
    place = (user_cache() / "native" if folder is None else folder) / f"{key}.so"
    try:
        if place.is_file():
            with contextlib.suppress(OSError):  # damaged: it is compiled again
                ctypes.CDLL(str(place))
                return place
        source = source() if callable(source) else source
        try:
            _compile([*command, *FLAGS, *THIS_CPU], source, place)
        except NoCompilerError:
            _compile([*command, *FLAGS], source, place)
        ctypes.CDLL(str(place))
    except OSError as error:
        raise NoCompilerError(str(error)) from error
    return place


def _compile(command: list[str], source: str, place: Path) -> None:
    """Write the library; complete or not at all, since others may do the same."""
    with tempfile.TemporaryDirectory(prefix="sanas-jax-") as folder, new_files(place) as (library,):
        c = Path(folder) / "network.c"
        c.write_text(source, encoding="ascii")
        call = [*command, "-shared", "-fPIC", str(c), "-o", str(library), "-lm"]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NoCompilerError(f"{command[0]} took more than {SECONDS} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it failed"]
            told = next((line for line in lines if "error" in line), lines[0])
            raise NoCompilerError(f"{command[0]}: {told}")
