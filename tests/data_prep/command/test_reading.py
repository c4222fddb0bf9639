"""Files that cannot be what they should be are refused by name, on one line."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.command import reading


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"[1]", "JSON of another kind"),
        (b'{"a": 1', "Expecting"),
        (b"[" * 100_000, "recursion"),
        ('{"a": "fünf"}'.encode("latin1"), "byte 8 is 0xfc, as of Latin-1: save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "a text in UTF-16: save it as UTF-8"),
    ],
)
def test_read_json_names_the_file(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said) as caught:
        reading.read_json(path, "words")
    assert str(caught.value).startswith(f"{path}: expected words, got ")
    assert "\n" not in str(caught.value)


def test_read_json_takes_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert reading.read_json(tmp_path / "a.json") == {"a": 1}


def test_read_json_does_not_hide_why_a_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reading.read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="expected a file, got a folder"):
        reading.read_json(tmp_path)


def archive(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return out.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


GOOD = {"descr": "<f4", "fortran_order": False, "shape": (2,)}


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        archive("a.npy", b"no array"),
        archive("a.npy", header("{'descr': '<f4', (")),
        archive("a.npy", header(str(GOOD | {"shape": (2**60,)}))),
        archive("a.npy", header(str(GOOD | {"shape": "x"}))),
        archive("a.npy", header(str(GOOD | {"descr": "|O"})) + b"cos\nsystem\n(S'true'\ntR."),
        archive("a.npy", header(str(GOOD)) + b"1234567"),
    ],
)
def test_read_npz_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected weights, got") as caught:
        reading.read_npz(path, "weights")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_read_npz_refuses_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(100_000))
    assert reading.read_npz(path)["a"].shape == (100_000,)
    monkeypatch.setattr(reading, "MOST_BYTES", 700_000)
    with pytest.raises(ValueError, match="800,128 bytes unpacked: more than 700,000"):
        reading.read_npz(path)
