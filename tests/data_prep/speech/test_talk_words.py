"""Pieces of talk that stand for unknown words: where they are of, how many, who gets them."""

import json
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
from experiments.datasets.clips import read_clips
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
    for split in SPLITS:
        pieces = list(cut_out(negatives, split))
        whole = negatives.file(negatives.names.index(split))
        for piece in pieces:
            assert negatives.names[piece.row] == split
            assert 0.25 * RATE <= len(piece.samples) <= RATE
            first = round(piece.seconds * RATE)
            own = whole[first : first + len(piece.samples)]
            np.testing.assert_array_equal(piece.samples[FADE:-FADE], own[FADE:-FADE])
            assert piece.samples[0] == piece.samples[-1] == 0
            # But for the 100 ms beside what is said, no pause is within.
            assert (own == 0).sum() <= 0.25 * RATE
        # All of 16 s in pieces of 0.625 s on average, and nothing twice.
        lengths = [len(piece.samples) / RATE for piece in pieces]
        assert 14 < sum(lengths) < 16.5
        assert 0.45 < np.mean(lengths) < 0.8
        assert max(lengths) - min(lengths) > 0.5
        again = [piece.seconds for piece in cut_out(negatives, split)]
        assert again == [piece.seconds for piece in pieces]


def test_no_more_than_so_many_evenly_out_of_all(tmp_path: Path) -> None:
    negatives = stored(tmp_path / "cache")
    every = {piece.seconds for piece in cut_out(negatives, "training")}
    few = [piece.seconds for piece in cut_out(negatives, "training", 4)]
    assert set(few) < every
    assert len(few) == 4
    assert few == sorted(few)
    assert few[0] < 1
    assert few[-1] > 18
    assert list(cut_out(negatives, "training", 0)) == []


def write_words_and_talk(root: Path, words: tuple[str, ...]) -> tuple[str | Path, ...]:
    """Recordings of these words, and a minute of talk in many files; the flags for them."""
    for word in words:
        for i in range(30):
            save(root / "own" / word / f"s{i}.wav", seconds=0.5)
    for i in range(30):
        save(root / "speech" / f"s{i}.wav", seconds=2)
    return "--data", root / "own", "--negatives", root / "speech"


def test_data_without_unknown_words_get_them_of_the_talk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write_words_and_talk(tmp_path, ("lamp",))
    odd = "two\nlines.wav"
    save(tmp_path / "speech" / odd, seconds=2)
    assert prepare(*flags, "--words", "lamp", "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    of_talk = np.flatnonzero(cache.labels == 1)
    counted = {split: int((cache.splits[of_talk] == s).sum()) for s, split in enumerate(SPLITS)}
    assert counted == cache.counts["_unknown_"]
    assert counted.pop("testing") == 0  # nothing is tested on them
    assert all(counted.values())
    numbers = ", ".join(f"{number} for {split}" for split, number in counted.items())
    assert f"pieces of the talk are unknown ones, {numbers}" in capsys.readouterr().out
    provenance = json.loads((tmp_path / "cache" / "provenance.json").read_text())
    assert provenance["negatives"]["talk_words"] == counted
    assert cache.all_words == ("lamp", TALK)
    assert {cache.all_words[word] for word in cache.words[of_talk]} == {TALK}
    negatives = open_negatives(tmp_path / "cache")
    assert negatives is not None
    assert cache.speakers is not None
    split_of = dict(zip(negatives.names, negatives.splits, strict=True))
    split_of[ascii(odd)[1:-1]] = split_of[odd]
    for row in of_talk:
        speaker = cache.all_speakers[cache.speakers[row]]
        assert cache.names[row].startswith(f"{speaker} at ")
        assert split_of[speaker.removeprefix("negatives/")] == cache.splits[row]
    own = {cache.all_speakers[s] for s in cache.speakers[cache.labels == 2]}
    assert not own & {cache.all_speakers[s] for s in cache.speakers[of_talk]}
    # Neither a stream nor a test asks for them.
    assert not len(pool_of_cache(cache, "validation").unknown)
    assert set(read_clips(cache, "validation").labels) == {2}
    with pytest.raises(ValueError, match=r"out of those in .* \(lamp\), got _talk_"):
        pool_of_cache(cache, "validation", [TALK])


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (("lamp", "door"), (), ""),  # unknown words are there
        (("lamp",), ("--talk_words", "0"), ""),
        (("lamp",), ("--heard", "heard.tsv"), "no speech among the negatives for unknown ones"),
    ],
)
def test_only_what_is_lacking_is_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    more: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = write_words_and_talk(tmp_path, words)
    lines = "".join(f"s{i}.wav\tlamp\n" for i in range(30))
    Path("heard.tsv").write_text(f"file\theard\n{lines}")
    assert prepare(*flags, "--words", "lamp", *more, "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    assert (cache.labels == 1).any() == (len(words) > 1)
    assert not any(name.startswith("negatives/") for name in cache.names)
    assert TALK not in cache.all_words
    assert said in capsys.readouterr().out


def test_unknown_words_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    flags = write_words_and_talk(tmp_path, ("lamp",))
    (tmp_path / "own" / "door").mkdir()
    (tmp_path / "own" / "door" / "s0.wav").write_bytes(b"RIFF of nothing")
    assert prepare(*flags, "--words", "lamp", "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    assert {cache.all_words[word] for word in cache.words[cache.labels == 1]} == {TALK}


def test_a_split_without_words_has_no_pieces(tmp_path: Path) -> None:
    flags = write_words_and_talk(tmp_path, ("lamp",))
    for name in ("validation", "testing"):
        (tmp_path / "own" / f"{name}_list.txt").write_text("")
    assert prepare(*flags, "--words", "lamp", "--out", tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    assert (cache.labels == 1).any()
    assert set(cache.splits) == {0}


def test_no_word_is_called_as_pieces_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "own" / "_talk_-ann-0.wav")
    save(tmp_path / "own" / "lamp-ann-0.wav")
    flags = ("--data", tmp_path / "own", "--pattern", "{word}-{speaker}-{n}.wav")
    assert prepare(*flags, "--words", "lamp", "--out", tmp_path / "cache") == 1
    assert "expected no word _talk_ in " in capsys.readouterr().err
