"""Files with bytes changed, given to every reader: each is read, or refused on one line, in time.

    python -m tests.helpers.fuzz --count 1000 --seed 1 [READER ...]

prints what came of them. What is changed follows from reader, seed and number alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECONDS = 20  # for one file
# What numbers in a text are turned into.
NUMBERS = (b"0", b"-1", b"NaN", b"1e999", b"1e30", b"null", b'""', b"[]", b"{}", b"99999999999999")


@dataclass(frozen=True)
class Reader:
    """What is read: `make` fills a folder and says which file is changed, `read` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


@dataclass
class Outcome:
    """Of so many changed files: those read, those refused, and the faults by number."""

    read: int = 0
    refused: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    slowest: float = 0.0


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to four changes: single bits, pieces, numbers of a text, the end."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(out) + 1))
        if rng.random() < 0.3:  # headers are where it matters
            at = int(rng.integers(min(len(out), 200) + 1))
        size = int(rng.integers(1, 9))
        match rng.integers(8):
            case 0 | 1 if at < len(out):
                out[at] ^= 1 << int(rng.integers(8))
            case 2:
                out[at : at + size] = rng.bytes(size)
            case 3:
                out[at : at + size] = bytes([int(rng.choice([0, 255, 127, 128]))]) * size
            case 4:
                del out[at : at + size]
            case 5:
                out[at:at] = out[at : at + 50 * size]
            case 6:
                del out[at:]
            case _:
                numbers = list(re.finditer(rb"-?\d+(\.\d+)?|\"\w*\"|true|false|null", bytes(out)))
                if numbers:
                    one = numbers[int(rng.integers(len(numbers)))]
                    out[one.start() : one.end()] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return bytes(out)


def fuzz(name: str, reader: Reader, count: int, seed: int, folder: Path) -> Outcome:
    """Change and read a file so many times."""
    path = reader.make(folder)
    data, found = path.read_bytes(), Outcome()
    for number in range(count):
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed, number])
        path.write_bytes(changed(data, rng))
        begin = time.monotonic()
        try:
            with _limit():
                reader.read(folder)
            found.read += 1
        except (ValueError, OSError) as error:
            said = str(error)
            if "\n" in said or not said:
                found.faults[number] = f"not one line: {said!r}"
            found.refused += 1
        except BaseException as error:  # whatever it is, it is what is looked for
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            found.faults[number] = (
                f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
            )
        found.slowest = max(found.slowest, time.monotonic() - begin)
    path.write_bytes(data)
    return found


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    """A reader that takes longer is at fault."""

    def late(*_: object) -> None:
        raise RuntimeError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    """The command."""
    from tests.helpers.readers import READERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}; all if none is named")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    faults = 0
    for name in asked.readers or READERS:
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz(name, READERS[name], asked.count, asked.seed, Path(folder))
        print(
            f"{name:16} {found.read:6} read {found.refused:6} refused {len(found.faults):4} faults"
            f"   slowest {found.slowest:.2f} s",
            flush=True,
        )
        for number, fault in list(found.faults.items())[:5]:
            print(f"    {number}: {fault}")
        faults += len(found.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
