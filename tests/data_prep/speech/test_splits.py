import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_prep.speech.cache import SPLITS
from data_prep.speech.index import Clip, Index, find
from data_prep.speech.splits import Choice, assign, hash_split, parse_takes

DIGITS = ("zero", "one")


def index_of(root: Path, speakers: int | tuple[str, ...], takes: int = 10) -> Index:
    names = [f"s{i}" for i in range(speakers)] if isinstance(speakers, int) else speakers
    clips = [
        Clip(f"{word}_{speaker}_{take}.wav", word, speaker, take)
        for word in DIGITS
        for speaker in names
        for take in range(takes)
    ]
    return Index(root, tuple(sorted(clips)), (), ())


def by_speaker(index: Index, splits: list[int]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for clip, split in zip(index.clips, splits, strict=True):
        found.setdefault(clip.speaker, set()).add(split)
    return found


def test_hash_split_matches_the_reference(reference: Path) -> None:
    golden = np.load(reference / "golden_features.npz")
    names, want = golden["splitter/names"], golden["splitter/split"]
    letters = ("TRAIN", "VAL", "TEST")
    got = [letters[hash_split(str(name).partition("_nohash_")[0])] for name in names]
    assert got == want.tolist()
    assert set(got) == set(letters)


def test_hash_split_gives_a_tenth_each() -> None:
    shares = np.bincount([hash_split(f"{i:08x}") for i in range(5_000)]) / 5_000
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_more_validation_comes_from_training_alone() -> None:
    names = [f"{i:08x}" for i in range(5_000)]
    before, after = (
        np.array([hash_split(name, percent) for name in names]) for percent in (10, 30)
    )
    np.testing.assert_allclose(np.bincount(after) / 5_000, [0.6, 0.3, 0.1], atol=0.02)
    assert ((after == 2) == (before == 2)).all()
    assert (after[before == 1] == 1).all()


def test_more_validation_comes_from_training_also_where_speakers_are_few() -> None:
    clips = tuple(Clip(f"{i}.wav", "speech", f"{i}", None) for i in range(2, 7))
    plain, more, most = (
        np.array(assign(Index(Path(), clips, (), ()), Choice(), percent)[0])
        for percent in (10, 40, 80)
    )
    assert np.bincount(plain, minlength=3).tolist() == [3, 1, 1]
    assert np.bincount(more, minlength=3).tolist() == [2, 2, 1]
    assert np.bincount(most, minlength=3).tolist() == [1, 3, 1]
    for each in (more, most):
        assert ((each == 2) == (plain == 2)).all()


def test_assign_follows_the_lists_of_real_data(speech_commands: Path) -> None:
    index = find(speech_commands)
    splits, rule = assign(index, Choice())
    assert rule == "by validation_list.txt and testing_list.txt"
    for split, name in ((1, "validation_list.txt"), (2, "testing_list.txt")):
        listed = set((speech_commands / name).read_text().split())
        got = {c.name for c, s in zip(index.clips, splits, strict=True) if s == split}
        assert got == listed & {clip.name for clip in index.clips}
        assert len(got) > 900
    assert all(len(found) == 1 for found in by_speaker(index, splits).values())


def test_assign_lists_win_whatever_the_ending(tmp_path: Path) -> None:
    clips = tuple(Clip(f"yes/{i:x}_nohash_0.flac", "yes", f"{i:x}", 0) for i in range(200))
    (tmp_path / "testing_list.txt").write_text("yes/0_nohash_0.wav\nyes/1_nohash_0.wav\n")
    index = Index(tmp_path, clips, (), ())
    splits, rule = assign(index, Choice())
    assert rule == "by testing_list.txt"
    assert [c.speaker for c, s in zip(clips, splits, strict=True) if s == 2] == ["0", "1"]
    # Validation has no list, so there the hash decides.
    want = {clip.name for clip in clips[2:] if hash_split(clip.speaker) == 1}
    assert {c.name for c, s in zip(clips, splits, strict=True) if s == 1} == want
    assert want


def test_assign_hash_for_many_speakers(tmp_path: Path) -> None:
    index = index_of(tmp_path, speakers=100, takes=1)
    splits, rule = assign(index, Choice())
    assert rule == "by the SHA-1 hash of the speaker"
    assert splits == [hash_split(clip.speaker) for clip in index.clips]


def test_assign_pattern_with_few_speakers_goes_by_quota(tmp_path: Path) -> None:
    names = ("ann", "bob", "cid", "dan")
    index = index_of(tmp_path, names)
    hashed = [hash_split(clip.speaker) for clip in index.clips]
    assert np.bincount(hashed).tolist() == [20, 20, 40]
    assert assign(index, Choice())[0] == hashed
    splits, _ = assign(dataclasses.replace(index, pattern="{word}_{speaker}.wav"), Choice())
    assert np.bincount(splits).tolist() == [40, 20, 20]


@pytest.mark.parametrize("speakers", [3, 4, 6])
def test_assign_few_speakers_fill_every_split(tmp_path: Path, speakers: int) -> None:
    names = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")[:speakers]
    index = index_of(tmp_path, names)
    assert len(set(map(hash_split, names))) < len(SPLITS)
    splits, rule = assign(index, Choice())
    assert rule.startswith(f"by quota, as {speakers} speakers")
    found = by_speaker(index, splits)
    assert sorted(split for kinds in found.values() for split in kinds) == sorted(
        [0] * (speakers - 2) + [1, 2]
    )
    assert assign(index, Choice()) == (splits, rule)


def test_assign_two_speakers_are_split_by_file(tmp_path: Path) -> None:
    index = index_of(tmp_path, speakers=2)
    splits, rule = assign(index, Choice())
    assert "2 speaker(s) are too few to be kept apart" in rule
    for word in DIGITS:
        of_word = [s for c, s in zip(index.clips, splits, strict=True) if c.word == word]
        assert np.bincount(of_word).tolist() == [16, 2, 2]


def test_assign_by_names_of_speakers(tmp_path: Path) -> None:
    index = index_of(tmp_path, speakers=6)
    splits, rule = assign(index, Choice(testing_speakers=("s4", "s5")))
    found = by_speaker(index, splits)
    assert rule == "by the names of speakers"
    assert found["s4"] == found["s5"] == {2}
    assert sorted(split for kinds in found.values() for split in kinds) == [0, 0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"expected speakers out of s0.*got s9"):
        assign(index, Choice(testing_speakers=("s9",)))
    with pytest.raises(ValueError, match="each speaker in one split"):
        assign(index, Choice(testing_speakers=("s1",), validation_speakers=("s1",)))


def test_assign_by_takes(tmp_path: Path) -> None:
    index = index_of(tmp_path, speakers=6)
    splits, rule = assign(index, Choice(testing_takes=parse_takes("0-4")))
    assert "number of the take" in rule
    for clip, split in zip(index.clips, splits, strict=True):
        assert clip.take is not None
        assert (split == 2) == (clip.take < 5)
    assert splits.count(1) == 6  # a tenth of each word's 30 other files
    with pytest.raises(ValueError, match="none of them"):
        assign(index, Choice(testing_takes=frozenset({77})))
    with pytest.raises(ValueError, match="in one split each"):
        assign(index, Choice(testing_takes=frozenset({1}), validation_takes=frozenset({1})))
    with pytest.raises(ValueError, match="got both"):
        assign(index, Choice(testing_takes=frozenset({1}), testing_speakers=("s1",)))


def test_assign_by_speakers_for_testing_and_takes_for_validation(tmp_path: Path) -> None:
    index = index_of(tmp_path, speakers=3)
    takes, names = frozenset({0, 9}), ("s1",)
    splits, rule = assign(index, Choice(validation_takes=takes, testing_speakers=names))
    assert rule == "testing by names of speakers, validation by number of the take"
    for clip, split in zip(index.clips, splits, strict=True):
        assert split == (2 if clip.speaker == "s1" else 1 if clip.take in takes else 0)
    swapped, _ = assign(index, Choice(testing_takes=takes, validation_speakers=names))
    assert swapped == [{0: 0, 1: 2, 2: 1}[split] for split in splits]
    with pytest.raises(ValueError, match="expected speakers out of s0, s1, s2, got s7"):
        assign(index, Choice(validation_takes=takes, testing_speakers=("s7",)))
    with pytest.raises(ValueError, match="expected clips for validation from other speakers"):
        assign(index, Choice(validation_takes=frozenset({77}), testing_speakers=names))


def test_parse_takes_reads_ranges() -> None:
    assert parse_takes("0-2, 7") == {0, 1, 2, 7}
    assert parse_takes("") == frozenset()
    assert parse_takes("3-3") == {3}
    for bad in ("a", "1-", "-1", "4-2", "0-9999999", "1234567"):
        with pytest.raises(ValueError, match="expected take numbers"):
            parse_takes(bad)
