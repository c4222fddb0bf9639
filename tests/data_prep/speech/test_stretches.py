"""Files that are cut where they are too few for the splits."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.speech.negative_cache import open_negatives
from data_prep.speech.negatives import BLOCK, Negative
from data_prep.speech.stretches import kinds_to_cut, stretches
from tests.helpers.recordings import prepare, save

SECOND = 16_000


@pytest.mark.parametrize(
    ("seconds", "validation", "want"),
    [
        (180, 10, [144, 18, 18]),
        (180, 30, [108, 54, 18]),
        (20, 10, [10, 5, 5]),
        (20, 80, [5, 10, 5]),
        (15, 10, [5, 5, 5]),
        (14.9, 10, []),
    ],
)
def test_stretches_are_the_file_again(seconds: float, validation: float, want: list[int]) -> None:
    samples = int(seconds * SECOND)
    found = stretches(samples, validation)
    assert [(where.stop - where.start) / SECOND for _, where in found] == want
    if found:
        assert [split for split, _ in found] == [0, 1, 2]
        whole = np.concatenate([np.arange(samples)[where] for _, where in found])
        np.testing.assert_array_equal(whole, np.arange(samples))


def test_stretches_end_at_whole_blocks_but_the_last() -> None:
    found = stretches(20 * SECOND + 7)
    assert [where.start % BLOCK for _, where in found] == [0, 0, 0]
    assert found[-1][1].stop == 20 * SECOND + 7


def test_kinds_to_cut_leave_a_split_empty() -> None:
    dealt = {"speech": (0, 0), "music": (0, 1, 2), "rain": (0, 1)}
    negatives = [
        Negative(Path(), f"{i}.wav", kind, split, False)
        for kind, splits in dealt.items()
        for i, split in enumerate(splits)
    ]
    assert kinds_to_cut(negatives) == ("rain", "speech")
    assert kinds_to_cut([]) == ()


def test_prepare_cuts_one_long_file_of_talk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for take in range(3):
        save(tmp_path / "words" / "lumos" / f"ann_nohash_{take}.wav", seconds=0.1)
    talk = save(tmp_path / "talk" / "radio.wav", seconds=180.005)
    save(tmp_path / "hum" / "a.wav", seconds=6)
    words = ("--data", tmp_path / "words", "--words", "lumos", "--out", tmp_path / "cache")
    sources = ("--negatives", f"speech={tmp_path / 'talk'}", "--negatives", tmp_path / "hum")
    assert prepare(*words, *sources) == 0
    said = capsys.readouterr().out
    assert "too few files of speech for three splits: 1 cut into a stretch for each" in said
    assert "the same voices" in said
    assert "no hum without words for validation, testing: add files of it, or one longer" in said
    assert "speech without words" not in said
    got = open_negatives(tmp_path / "cache")
    assert got is not None
    names = ("a.wav", "radio.wav", "radio.wav from 144.01 s", "radio.wav from 162.01 s")
    assert got.names == names
    assert got.splits.tolist() == [0, 0, 1, 2]
    whole = np.concatenate([got.file(row) for row in (1, 2, 3)])
    np.testing.assert_array_equal(whole[: len(talk)], talk)
    assert not whole[len(talk) :].any()
    heard = tmp_path / "heard.tsv"
    heard.write_text("file\theard\nradio.wav\tlumos\n")
    assert prepare(*words, *sources, "--heard", heard, "--overwrite") == 0
    said = capsys.readouterr().out
    assert "no speech without words for training, validation, testing" in said
    assert "cut into" not in said
