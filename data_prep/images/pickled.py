"""Pickles of data sets, read without calling anything that they name."""

import io
import pickle
from typing import Any

import numpy as np


def unpickle(data: bytes, name: str) -> dict[Any, Any]:
    """A dictionary of built-in containers and uint8 arrays; ValueError for any other pickle."""
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle fails in any way
        raise ValueError(f"expected a pickled dictionary in {name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a pickled dictionary in {name}, got {type(content).__name__}")
    return {key: _plain(value) for key, value in content.items()}


class _Unpickler(pickle.Unpickler):
    """Calls nothing that a pickle names, NumPy included, whose arrays trust their bytes."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for what pickled arrays (and bytes, of Python 3) are made of."""
        known = {
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _latin_1,
        }
        if (module, name) not in known:
            raise ValueError(f"arrays and built-in containers only, got {module}.{name}")
        return known[module, name]


class _Dtype:
    """Stands for a dtype while an array is unpickled."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and fields, which uint8 has none of."""


class _Array:
    """Stands for an array while it is unpickled."""

    value: np.ndarray

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Version, shape, dtype, whether in Fortran's order, bytes."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1"):
            raise ValueError("expected arrays of uint8")
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _latin_1(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"expected bytes as latin1, got {encoding!r}")
    return text.encode("latin1")


def _plain(value: Any) -> Any:
    """The array of a stand-in."""
    return getattr(value, "value", None) if isinstance(value, _Array) else value
