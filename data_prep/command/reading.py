"""Files that somebody else wrote: whatever is wrong with one is a ValueError that names it.

`naming` is for readers of any format, `read_json` and `read_npz` for the two that most files have.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# What parsers raise of bytes that are not what they take them for. RuntimeError: of zip archives
# that are encrypted or compressed in a way that Python does not know, and of nesting without end.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# No file that is read whole is larger, packed or not.
MOST_BYTES = 1 << 30


@contextlib.contextmanager
def naming(path: Path | str, expected: str) -> Iterator[None]:
    """Turn what is raised of a file's content into `PATH: expected EXPECTED, got …`.

    An OSError that names its file goes through: it says what happened better than this would.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(f"{path}: expected {expected}, got {error.strerror or error}") from error
    except DAMAGE as error:
        raise ValueError(f"{path}: expected {expected}, got {_cause(error)}") from error


def read_bytes(path: Path | str, most: int = MOST_BYTES) -> bytes:
    """A file's bytes; ValueError for one that is no regular file, or too large to be read whole."""
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: expected a file, got a folder, a pipe or a device")
    if found.st_size > most:
        raise ValueError(f"{path}: expected at most {most:,} bytes, got {found.st_size:,}")
    return Path(path).read_bytes()


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """A text in UTF-8, with or without a byte order mark; ValueError for any other."""
    with naming(path, "a text in UTF-8"):
        return decoded(read_bytes(path, most))


def decoded(data: bytes) -> str:
    """Bytes in UTF-8 as text; ValueError that says what they seem to be."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("a text in UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} is {data[error.start]:#04x}, as of Latin-1: save it as UTF-8"
        ) from None


def read_json(path: Path | str, expected: str = "a JSON object") -> dict[str, Any]:
    """The JSON object in a file; ValueError that names it for anything else."""
    with naming(path, expected):
        value = json.loads(decoded(read_bytes(path, 1 << 28)))
        if not isinstance(value, dict):
            raise ValueError(f"JSON of another kind: {str(value)[:40]!r}")
        return value


def read_npz(path: Path | str, expected: str = "arrays in a .npz file") -> dict[str, np.ndarray]:
    """All arrays of a .npz file; ValueError that names it for anything else, bombs included."""
    with naming(path, expected):
        data = io.BytesIO(read_bytes(path))
        with zipfile.ZipFile(data) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked: more than {MOST_BYTES:,}")
        with np.load(data) as file:
            arrays = dict(file)
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name}, which is no array")
        return arrays


def read_array(path: Path | str, *, mapped: bool = False) -> np.ndarray:
    """The array of a .npy file, on disk until it is read if `mapped`; ValueError that names it."""
    with naming(path, "an array"), open(path, "rb") as file:
        # As NumPy does it, but nothing is set aside for what the file is too short to hold.
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("an array of objects")
        there = Path(path).stat().st_size - file.tell()
        count: int = math.prod(shape)
        if count * dtype.itemsize > there:
            raise ValueError(f"{there:,} bytes for {dtype} {list(shape)}: is it cut off?")
        # An empty array cannot be mapped.
        mode: Any = "r" if mapped and count else None
        array: np.ndarray = np.load(path, mmap_mode=mode)
        return array


def _cause(error: BaseException) -> str:
    """What was found instead, on one line."""
    text = " ".join(str(error).split())[:200]
    if isinstance(error, KeyError):
        return f"none of {text}"
    if isinstance(error, MemoryError):
        return f"more than fits into memory ({text or 'it is damaged'})"
    if type(error) is ValueError and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
