"""Which files the lines of a table of heard words mean."""

from pathlib import Path

import pytest

from data_prep.speech.heard import match, read_heard

YES, NONE = ("yes",), ()
FILES = [("speech", "a/1.wav"), ("speech", "b/1.wav"), ("speech", "2.wav"), ("music", "2.wav")]


@pytest.mark.parametrize(
    ("table", "heard"),
    [
        ({"a/1.wav": YES, "b/1.wav": NONE}, [0]),
        ({"a/1.wav": NONE, "b/1.wav": YES}, [1]),
        # A line of a table of more folders, where all files of its name have lines of their own.
        ({"a/1.wav": NONE, "b/1.wav": YES, "elsewhere/1.wav": YES}, [1]),
        ({"speech/2.wav": YES}, [2]),
        ({"speech/2.wav": NONE, "music/2.wav": YES}, [3]),
        # Nothing was heard, whichever file is meant.
        ({"1.wav": NONE, "2.wav": NONE}, []),
    ],
)
def test_lines_mean_files_by_kind_path_or_name(table, heard) -> None:
    assert [i for i, mark in enumerate(match(table, FILES).heard) if mark] == heard


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"1.wav": YES}, "such as speech/a/1.wav, got 1.wav for speech/a/1.wav, speech/b/1.wav"),
        ({"2.wav": YES}, "such as speech/2.wav, got 2.wav for speech/2.wav, music/2.wav"),
        ({"a/1.wav": NONE, "else/1.wav": YES}, "got else/1.wav for speech/a/1.wav, speech/b/1.wav"),
        ({"9.wav": YES}, "--heard: expected files of --negatives in the table, got none"),
    ],
)
def test_lines_that_may_mean_several_files_are_refused(table, said) -> None:
    with pytest.raises(ValueError, match=said):
        match(table, FILES)


def test_lines_of_one_name_for_one_file_are_refused_where_they_differ() -> None:
    one = [("speech", "1.wav")]
    assert match({"a/1.wav": YES, "b/1.wav": ("no",)}, one).heard == [True]
    with pytest.raises(ValueError, match=r"got a/1.wav, b/1.wav for speech/1.wav"):
        match({"a/1.wav": YES, "b/1.wav": NONE}, one)


def test_read_heard_keeps_paths_and_refuses_a_file_twice(tmp_path: Path) -> None:
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\n./a/1.wav\tyes\nb/1.wav\t-\na/1.wav\tno\n")
    assert read_heard(table) == {"a/1.wav": ("yes", "no"), "b/1.wav": ()}
    table.write_text("file\theard\na/1.wav\tyes\na/1.wav\t-\n")
    with pytest.raises(ValueError, match=r"heard.tsv:3: expected each file once, got a/1.wav"):
        read_heard(table)


def test_lines_with_words_that_mean_no_file_are_known() -> None:
    table = {"a/1.wav": YES, "x/9.wav": YES, "y/9.wav": NONE}
    assert match(table, FILES) == ([True, False, False, False], ["x/9.wav"])
    # Of two lines that name a file, the better name counts; if they differ, it is said.
    assert match({"speech/2.wav": YES, "2.wav": YES}, FILES[2:3]) == ([True], [])
    assert match({"speech/2.wav": NONE, "2.wav": YES}, FILES[2:3]) == ([False], ["2.wav"])


def test_letters_with_accents_are_one_however_they_are_written(tmp_path: Path) -> None:
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\ncaf\u00e9.wav\tyes\n")
    assert match(read_heard(table), [("speech", "cafe\u0301.wav")]).heard == [True]


def test_read_heard_takes_tables_of_other_systems(tmp_path: Path) -> None:
    table = tmp_path / "heard.tsv"
    table.write_bytes(b"file\theard\r\na\\1.wav\tyes\r\n\r\n")
    assert read_heard(table) == {"a/1.wav": ("yes",)}
