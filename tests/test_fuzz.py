"""Readers of files with changed bytes; `tests/helpers/fuzz.py` is the same as a command."""

import numpy as np
import pytest

from tests.helpers.fuzz import Reader, changed, fuzz
from tests.helpers.readers import READERS


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused_on_one_line(name, tmp_path):
    found = fuzz(name, READERS[name], 300, 0, tmp_path)
    assert found.faults == {}
    assert found.read + found.refused == 300
    assert found.refused > 10


@pytest.mark.parametrize("name", READERS)
def test_files_as_they_are_are_read(name, tmp_path):
    READERS[name].make(tmp_path)
    READERS[name].read(tmp_path)


def test_what_escapes_is_a_fault(tmp_path):
    def make(folder):
        (folder / "a").write_bytes(b"0123456789")
        return folder / "a"

    found = fuzz("a", Reader(make, lambda folder: {}[0]), 20, 0, tmp_path)
    assert len(found.faults) == 20
    assert found.faults[0].startswith("KeyError: 0")


def test_changes_follow_from_the_seed():
    first, again, other = (changed(b"abc" * 99, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other
