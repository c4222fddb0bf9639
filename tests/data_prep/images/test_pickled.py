"""Pickles that would take time or memory without bound are refused at once."""

import pickle
import time

import numpy as np
import pytest

from data_prep.images.pickled import unpickle


def nested(depth: int) -> tuple:
    value: tuple = ()
    for _ in range(depth):
        value = (value, value)
    return value


def entry(value: object) -> bytes:
    """Instructions that leave a value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


ENCODE = b"c_codecs\nencode\n"
SLOW = {
    "nested tuples as a key": b"}" + entry(nested(60)) + b"K\x01s.",
    "the same, several at once": b"}(" + entry(nested(60)) + b"K\x01u.",
    "the same, at the end": b"(" + entry(nested(60)) + b"K\x01d.",
    "a set": b"\x8f(" + entry(nested(60)) + b"\x90.",
    "one text many times": b"]"
    + entry("x" * 50_000)
    + b"q\x00"
    + b"1" * 0
    + (ENCODE + b"h\x00" + entry("latin1") + b"\x86R0") * 2000
    + b".",
    "room for what does not come": b"\x96" + (2**40).to_bytes(8, "little") + b".",
    "a place in the memo far away": b"Nr\xff\xff\xff\x7f.",
    "a state of a function": ENCODE + b"}b.",
    "a call of something else": b"cos\nsystem\n(S'true'\ntR.",
    "lists in lists": b"]" * 50_000 + b"a" * 49_999 + b".",
}


@pytest.mark.parametrize("name", SLOW)
def test_unpickle_is_quick_to_refuse(name: str) -> None:
    begin = time.monotonic()
    with pytest.raises(ValueError, match="expected a pickled dictionary in it"):
        unpickle(b"\x80\x05" + SLOW[name], "it")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_unpickle_reads_what_data_sets_have(protocol: int) -> None:
    content = {b"labels": [1, 2], "names": ["a", b"b"], b"data": np.arange(6, dtype=np.uint8)}
    if protocol == 5:  # NumPy hands its bytes over in another way
        del content[b"data"]
    found = unpickle(pickle.dumps(content, protocol), "it")
    assert {key: list(value) for key, value in found.items()} == {
        key: list(value) for key, value in content.items()
    }
