"""Where a model errs on clips: levels, places and groups by hand."""

import numpy as np
import pytest

from experiments.evaluation.clip_errors import (
    accuracy_by,
    error_lines,
    levels,
    places,
    read_groups,
)


def test_levels_are_of_the_whole_second():
    samples = np.zeros((4, 16_000), np.int16)
    for row, rms in enumerate((0.009, 0.02, 0.05, 0.2)):
        samples[row] = round(32_768 * rms)
    samples[3, 800:] = 0  # a twentieth of the second: 0.2 / sqrt(20)
    assert levels(samples) == [
        "RMS below 0.01",
        "RMS 0.01 to 0.03",
        "RMS 0.03 to 0.1",
        "RMS 0.03 to 0.1",
    ]
    assert levels(np.full((1, 16_000), 9_000, np.int16)) == ["RMS 0.1 or more"]


def test_places_are_told_by_what_is_loud():
    samples, lengths = np.full((5, 16_000), 10, np.int16), np.full(5, 16_000)
    for row, (begin, end) in enumerate(((4000, 9000), (700, 9000), (9000, 15_500), (0, 16_000))):
        samples[row, begin:end] = 5000
    samples[4, 4000:8000], lengths[4] = 5000, 8000  # the end of a short clip
    assert places(samples, lengths) == [
        "word within",
        "word at the beginning",
        "word at the end",
        "word at both ends",
        "word at the end",
    ]
    assert places(samples[:1], np.array([20])) == ["word at both ends"]


def test_groups_are_read_by_names_without_endings(tmp_path):
    table = tmp_path / "groups.tsv"
    table.write_text("yes/a.ogg\tboth\nno/b.wav\tlate\n")
    names = ["no/b.flac", "yes/a.wav", "yes/c.wav"]
    assert read_groups(table, names) == ["late", "both", "others"]
    with pytest.raises(ValueError, match="--groups: expected clips of --data in"):
        read_groups(table, ["x.wav"])
    table.write_text("yes/a.ogg both\n")
    with pytest.raises(ValueError, match=r"groups.tsv:1: expected `file<tab>group`"):
        read_groups(table, names)
    with pytest.raises(ValueError, match="--groups: expected a file"):
        read_groups(tmp_path / "gone", names)


def test_accuracy_by_counts_each_name():
    found = accuracy_by(["b", "a", "b", "b"], np.array([True, False, False, True]))
    assert found == {
        "a": {"clips": 1, "accuracy_pct": 0.0},
        "b": {"clips": 3, "accuracy_pct": pytest.approx(200 / 3)},
    }
    assert error_lines({"group": found}) == ["  a: 0.00 % of 1 clips", "  b: 66.67 % of 3 clips"]
