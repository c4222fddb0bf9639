"""Which clips `prepare` trains, validates and tests on, by the lists that people have."""

import os
import re
from pathlib import Path

import pytest

from data_prep.speech import index, splits
from data_prep.speech.cache import open_cache
from tests.helpers.recordings import prepare, save


def few(root: Path, words: tuple[str, ...] = ("yes", "no")) -> None:
    for word in words:
        for i in range(6):
            save(root / word / f"spk{i}_nohash_0.wav", seconds=0.1)


def splits_of(out: Path) -> dict[str, int]:
    cache = open_cache(out)
    return {split: len(cache.indices(split)) for split in ("training", "validation", "testing")}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("./yes/spk1_nohash_0.wav\n", "utf-8"),
        ("yes\\spk1_nohash_0.wav\r\n", "utf-8"),
        ("yes/spk1_nohash_0.wav\n", "utf-8-sig"),
        ("yes/spk1_nohash_0.flac", "utf-8"),
    ],
)
def test_lists_are_understood_as_people_write_them(tmp_path: Path, text, encoding) -> None:
    few(tmp_path / "corpus")
    (tmp_path / "corpus" / "testing_list.txt").write_text(text, encoding=encoding, newline="")
    assert prepare("--data", tmp_path / "corpus", "--out", tmp_path / "o", "--words", "yes,no") == 0
    assert splits_of(tmp_path / "o")["testing"] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("yes/g\xe9_nohash_0.wav\n".encode("latin1"), "testing_list.txt: expected a text in UTF-8"),
        ("yes/g_nohash_0.wav\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"yes/gone.wav\nno/gone.wav\n", "got 2 others such as no/gone"),
    ],
)
def test_lists_that_would_let_test_clips_train_are_refused(tmp_path, capsys, data, said) -> None:
    few(tmp_path / "corpus")
    (tmp_path / "corpus" / "testing_list.txt").write_bytes(data)
    assert prepare("--data", tmp_path / "corpus", "--out", tmp_path / "o", "--words", "yes,no") == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_entries_that_name_no_clip_are_counted(tmp_path, capsys) -> None:
    few(tmp_path / "corpus")
    text = "yes/gone.wav\nno/gone.wav\nyes/spk1_nohash_0.wav"
    (tmp_path / "corpus" / "testing_list.txt").write_text(text)
    assert prepare("--data", tmp_path / "corpus", "--out", tmp_path / "o", "--words", "yes,no") == 0
    assert "2 entries of testing_list.txt name no clip (no/gone, …)" in capsys.readouterr().out


def test_clips_in_both_lists_are_counted(tmp_path, capsys) -> None:
    few(tmp_path / "corpus")
    for name in ("testing_list.txt", "validation_list.txt"):
        (tmp_path / "corpus" / name).write_text("yes/spk1_nohash_0.wav\n")
    assert prepare("--data", tmp_path / "corpus", "--out", tmp_path / "o", "--words", "yes,no") == 0
    assert "1 clips are in both lists: they are for testing" in capsys.readouterr().out
    assert splits_of(tmp_path / "o")["testing"] == 1


def test_names_compare_however_their_accents_are_written(tmp_path) -> None:
    few(tmp_path / "corpus", ("fu\u0308nf", "no"))
    save(tmp_path / "corpus" / "f\xfcnf" / "spk9_nohash_0.wav")
    out = tmp_path / "o"
    assert prepare("--data", tmp_path / "corpus", "--out", out, "--words", "f\xfcnf,no") == 0
    cache = open_cache(out)
    assert cache.classes[2:] == ("f\xfcnf", "no")
    assert (cache.labels == 2).sum() == 7


def test_what_cannot_be_read_is_named_and_dealt_to_no_split(tmp_path, capsys) -> None:
    root = tmp_path / "corpus"
    few(root)
    os.mkfifo(root / "yes" / "spk10_nohash_0.wav")
    (root / "no" / "spk11_nohash_0.wav").symlink_to("nowhere.wav")
    (root / "no" / "spk12_nohash_0.wav").write_bytes(b"")
    with open(os.fsencode(root / "no") + b"/spk\xe913_nohash_0.wav", "wb") as file:
        file.write(b"RIFF")
    # By the order of their hashes these would be the only ones in validation and in testing.
    _, rule = splits.assign(index.find(root), splits.Choice())
    dealt = [name.rpartition(": ")[2] for name in re.findall(r"\w+: \w+", rule.partition("(")[2])]
    for name in dealt:
        (root / "yes" / f"{name}_nohash_0.wav").write_bytes(b"no audio")
        (root / "no" / f"{name}_nohash_0.wav").write_bytes(b"no audio")
    save(root / "yes" / "a_nohash_0.mp3")
    (root / "yes" / "b_nohash_0.m4a").write_bytes(b"?")
    provenances = []
    for out in (tmp_path / "o", tmp_path / "o2"):
        assert prepare("--data", root, "--out", out, "--words", "yes,no") == 0
        assert all(splits_of(out).values())
        provenances.append((out / "provenance.json").read_bytes())
    assert provenances[0] == provenances[1]
    said = capsys.readouterr()
    assert "files of endings that are not read: 1 of .m4a" in said.out
    for reason in (
        "spk10_nohash_0.wav: a pipe or a device",
        "spk11_nohash_0.wav: No such file",
        "spk12_nohash_0.wav: expected audio",
        "13_nohash_0.wav: its name is no UTF-8",
        f"{dealt[0]}_nohash_0.wav: expected audio, got Format not recognised",
    ):
        assert reason in said.err, reason


def test_a_class_without_training_clips_is_named(tmp_path, capsys) -> None:
    few(tmp_path / "corpus")
    save(tmp_path / "corpus" / "go" / "spk0_nohash_0.wav")
    flags = ("--words", "yes,go", "--testing_speakers", "spk0")
    assert prepare("--data", tmp_path / "corpus", "--out", tmp_path / "o", *flags) == 0
    assert "no training clips of go: record more of it" in capsys.readouterr().out


def test_speakers_are_counted_and_names_that_tell_none_are_said(tmp_path, capsys) -> None:
    for word in ("lumos", "nox"):
        for i in range(25):
            save(tmp_path / "d" / word / f"{'ann' if i % 2 else 'bob'}_{i}.wav", seconds=0.1)
    words = ("--data", tmp_path / "d", "--words", "all", "--out", tmp_path / "o", "--overwrite")
    assert prepare(*words) == 0
    said = capsys.readouterr().out
    assert "50 clips of 2 words by 25 speakers in " in said
    assert "50 of 50 file names tell no speaker: each is taken for a speaker of its own" in said
    pattern = "{word}/{speaker}_{n}.wav"
    assert prepare(*words, "--pattern", pattern) == 0
    said = capsys.readouterr().out
    assert "50 clips of 2 words by 2 speakers in " in said
    assert "tell no speaker" not in said
    assert prepare(*words, "--pattern", "{word}/{n}.wav") == 1, "no such names"
    assert prepare(*words, "--pattern", "{word}/ann_{n}.wav") == 0
    assert "24 of 24 file names tell no speaker" in capsys.readouterr().out
    few(tmp_path / "named")
    named = ("--data", tmp_path / "named", "--words", "all", "--out", tmp_path / "p")
    assert prepare(*named) == 0
    said = capsys.readouterr().out
    assert "by 6 speakers" in said
    assert "tell no speaker" not in said
