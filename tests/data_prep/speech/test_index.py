from pathlib import Path

import pytest

from data_prep.speech.index import Clip, compile_pattern, find


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_find_reads_the_speech_commands_layout(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "yes/0a_nohash_0.wav",
        "yes/0a_nohash_12.FLAC",
        "no/home made.ogg",
        "no/notes.txt",
        "no/.hidden.wav",
        "_background_noise_/tap.wav",
        "_other_/x.wav",
        "loose.wav",
    )
    index = find(tmp_path)
    assert index.clips == (
        Clip("no/home made.ogg", "no", "home made.ogg", None),
        Clip("yes/0a_nohash_0.wav", "yes", "0a", 0),
        Clip("yes/0a_nohash_12.FLAC", "yes", "0a", 12),
    )
    assert index.noise == ("_background_noise_/tap.wav",)
    assert index.ignored == ("_other_/x.wav", "loose.wav")
    assert index.words == ("no", "yes")


def test_find_reads_file_names_by_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "7_ann_lee_3.wav", "8_bob_12.wav", "8_bob_x.wav", "_background_noise_/a.wav")
    index = find(tmp_path, "{word}_{speaker}_{n}.wav")
    assert index.clips == (
        Clip("7_ann_lee_3.wav", "7", "ann_lee", 3),
        Clip("8_bob_12.wav", "8", "bob", 12),
    )
    assert index.ignored == ("8_bob_x.wav",)
    assert index.noise == ("_background_noise_/a.wav",)


def test_find_pattern_fields_are_optional_and_may_be_folders(tmp_path: Path) -> None:
    touch(tmp_path, "ann/go.wav", "bob/stop.wav")
    assert [(c.word, c.speaker, c.take) for c in find(tmp_path, "{speaker}/{word}.wav").clips] == [
        ("go", "ann", None),
        ("stop", "bob", None),
    ]


def test_find_pattern_without_speaker_makes_each_file_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "go-1.wav", "stop-1.wav")
    assert [c.speaker for c in find(tmp_path, "{word}-{n}.wav").clips] == ["go-1", "stop-1"]


def test_find_follows_links_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/yes/a.wav", "data/no/b.wav")
    (tmp_path / "data" / "yes").symlink_to(tmp_path / "store" / "yes")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [clip.name for clip in find(tmp_path / "data").clips] == ["no/b.wav", "yes/a.wav"]


def test_find_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which is not a folder"):
        find(tmp_path / "absent")
    with pytest.raises(ValueError, match="got no audio files"):
        find(tmp_path)
    touch(tmp_path, "loose.wav")
    with pytest.raises(ValueError, match=r"got 1 others such as loose\.wav"):
        find(tmp_path)


@pytest.mark.parametrize(
    "bad", ["{speaker}.wav", "{word}_{word}.wav", "{word}_{take}.wav", "{word"]
)
def test_compile_pattern_rejects_other_fields(bad: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        compile_pattern(bad)


def test_compile_pattern_takes_other_characters_literally() -> None:
    regex = compile_pattern("{word}.[{n}].wav")
    assert regex.fullmatch("go.[3].wav")
    assert not regex.fullmatch("go.3.wav")
    assert not regex.fullmatch("goX[3].wav")


@pytest.mark.parametrize(
    "word", ["new\nline", "tab\t", " before", "after ", "\u2028", "no\xa0break"]
)
def test_words_that_cannot_be_read_back_from_a_line_are_left_out(tmp_path: Path, word: str) -> None:
    touch(tmp_path, f"{word}/a_nohash_0.wav", "yes/a_nohash_0.wav")
    found = find(tmp_path)
    assert found.words == ("yes",)
    ((name, reason),) = found.unusable
    assert name.isprintable()
    assert reason == "its word cannot be written in a line"
