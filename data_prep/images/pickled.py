"""Pickles of data sets, read without calling anything that they name, in time that is bounded.

Python's own reader, not the one in C: what an instruction does can be looked at before it is done.
Each then takes time in proportion to the bytes that it came in, or is refused.
"""

import io
import pickle
from typing import Any, ClassVar

import numpy as np

from data_prep.command.reading import DAMAGE


def unpickle(data: bytes, name: str) -> dict[Any, Any]:
    """A dictionary of built-in containers and uint8 arrays; ValueError for any other pickle."""
    try:
        content = _Unpickler(data).load()
    except (pickle.UnpicklingError, *DAMAGE) as error:
        reason = " ".join(str(error).split())[:200] or "it is truncated"
        raise ValueError(f"expected a pickled dictionary in {name}: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a pickled dictionary in {name}, got {type(content).__name__}")
    return {key: _plain(value) for key, value in content.items()}


# Its type is known to nobody: the type stubs describe the one in C.
_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):
    """Calls nothing that a pickle names, NumPy included, whose arrays trust their bytes."""

    # Objects of other kinds, sets of what is hashed, and room for what does not come.
    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in _InPython.dispatch.items()
        if bytes([code])
        not in (
            *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ),
            *(pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.EMPTY_SET),
            *(pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.NEXT_BUFFER),
        )
    }

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = 8 * len(data)  # of bytes that strings may be turned into

    def load_setitem(self) -> None:
        """One key and its value."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Keys and values since the mark."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        """A dictionary of what came since the mark."""
        _check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def load_build(self) -> None:
        """What an array or its type is like."""
        if not isinstance(self.stack[-2], _Array | _Dtype):
            raise ValueError("a state of something that has none")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def load_reduce(self) -> None:
        """A call of one of the stand-ins."""
        self._left -= sum(len(part) for part in self.stack[-1] if isinstance(part, str | bytes))
        if self._left < 0:
            raise ValueError("the same text again and again")
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

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


def _check_keys(keys: list[Any]) -> None:
    """Tuples in one another are hashed from the bottom each time, in time without bound."""
    if not all(isinstance(key, bytes | str | int) for key in keys):
        raise ValueError("keys that are no words")


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
