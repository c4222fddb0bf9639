"""Pieces of talk that stand for unknown words: where they are of, how many, who gets them."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.speech.cache import SPLITS, open_cache
from data_prep.speech.negative_cache import (
    NegativeRow,
    StoredNegatives,
    open_negatives,
    write_negatives,
)
from data_prep.speech.pools import pool_of_cache
from data_prep.speech.talk_words import FADE, TALK, cut_out
from tests.helpers.recordings import prepare, save

RATE = 16_000


def stored(folder: Path) -> StoredNegatives:
    """Talk in every split, 20 s with a pause of 4 s; some in which a word was heard; a sound."""
    rng = np.random.default_rng(0)
    rows = []
    for split, name in enumerate(SPLITS):
        talk = rng.integers(-9000, 9000, 20 * RATE).astype(np.int16)
        talk[8 * RATE : 12 * RATE] = 0
        rows.append(NegativeRow(talk, name, "speech", split, False))
    rows.append(NegativeRow(rows[0].samples[::-1], "heard", "speech", 0, True))
    rows.append(NegativeRow(rows[0].samples[::-1], "rain", "noise", 0, False))
    folder.mkdir()
    write_negatives(folder, rows)
    found = open_negatives(folder)
    assert found is not None
    return found


def test_pieces_are_what_is_said_somewhere(tmp_path: Path) -> None:
    negatives = stored(tmp_path / "cache")
    pieces = list(cut_out(negatives))
    assert {piece.source for piece in pieces} == set(SPLITS)
    for piece in pieces:
        assert piece.split == SPLITS.index(piece.source)
        assert 0.25 * RATE <= len(piece.samples) <= RATE
        text, begins = piece.name.removesuffix(" s").split(" from ")
        assert text == f"negatives/{piece.source}"
        first = round(float(begins) * RATE)
        whole = negatives.file(negatives.names.index(piece.source))
        own = whole[first : first + len(piece.samples)]
        np.testing.assert_array_equal(piece.samples[FADE:-FADE], own[FADE:-FADE])
        assert piece.samples[0] == piece.samples[-1] == 0
        # But for the 100 ms beside what is said, no pause is within.
        assert (own == 0).sum() <= 0.25 * RATE
    # All of 16 s in pieces of 0.625 s on average, and nothing twice.
    for name in SPLITS:
        seconds = [len(piece.samples) / RATE for piece in pieces if piece.source == name]
        assert 14 < sum(seconds) < 16.5
        assert 0.45 < np.mean(seconds) < 0.8
        assert max(seconds) - min(seconds) > 0.5
    again = list(cut_out(negatives))
    assert [piece.name for piece in again] == [piece.name for piece in pieces]


def test_no_more_than_so_many_evenly_out_of_all(tmp_path: Path) -> None:
    negatives = stored(tmp_path / "cache")
    every = {piece.name for piece in cut_out(negatives)}
    few = list(cut_out(negatives, 4))
    assert {piece.name for piece in few} < every
    for split in range(len(SPLITS)):
        begins = [float(p.name.split()[-2]) for p in few if p.split == split]
        assert len(begins) == 4
        assert begins == sorted(begins)
        assert begins[0] < 1 < 18 < begins[-1]
    assert list(cut_out(negatives, 0)) == []


def words_and_talk(root: Path, words: tuple[str, ...]) -> tuple[str | Path, ...]:
    """Flags for recordings of these words, and a minute of talk in many files."""
    for word in words:
        for i in range(30):
            save(root / "own" / word / f"s{i}_nohash_0.wav", seconds=0.5)
    for i in range(30):
        save(root / "speech" / f"{i}.wav", seconds=2)
    return "--data", root / "own", "--negatives", root / "speech"


def test_data_without_unknown_words_get_them_of_the_talk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = words_and_talk(tmp_path, ("lamp",))
    assert prepare(*flags, "--words", "lamp", "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    of_talk = cache.labels == 1
    counted = {split: int((of_talk & (cache.splits == s)).sum()) for s, split in enumerate(SPLITS)}
    assert counted == cache.counts["_unknown_"]
    assert all(counted.values())
    numbers = ", ".join(f"{number} for {split}" for split, number in counted.items())
    assert f"pieces of the talk are unknown ones, {numbers}" in capsys.readouterr().out
    assert cache.all_words == ("lamp", TALK)
    assert {cache.all_words[word] for word in cache.words[of_talk]} == {TALK}
    negatives = open_negatives(tmp_path / "cache")
    assert negatives is not None
    assert cache.speakers is not None
    split_of = dict(zip(negatives.names, negatives.splits, strict=True))
    for row in np.flatnonzero(of_talk):
        speaker = cache.all_speakers[cache.speakers[row]]
        assert cache.names[row].startswith(f"negatives/{speaker} from ")
        assert split_of[speaker] == cache.splits[row]
    # A stream asks for words.
    assert not len(pool_of_cache(cache, "validation").unknown)


@pytest.mark.parametrize(
    ("words", "more", "left"),
    [
        (("lamp", "door"), (), (1,)),  # unknown words are there
        (("lamp",), ("--talk_words", "0"), ()),
        (("lamp",), ("--validation_speakers", "s0,s1"), (1,)),
    ],
)
def test_only_what_is_lacking_is_cut(
    tmp_path: Path, words: tuple[str, ...], more: tuple[str, ...], left: tuple[int, ...]
) -> None:
    flags = words_and_talk(tmp_path, words)
    assert prepare(*flags, "--words", "lamp", *more, "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    assert tuple(set(cache.labels) - {2}) == left
    assert (TALK in cache.all_words) == bool(len(words) == 1 and left)
    # A split without words gets none of the talk either.
    with_words = set(cache.splits[cache.labels == 2])
    assert set(cache.splits) == with_words
