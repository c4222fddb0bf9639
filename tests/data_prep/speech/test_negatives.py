"""Negatives: found, split by speaker, labelled by activity, and kept in a cache."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.speech.heard import read_heard
from data_prep.speech.negative_cache import NegativeRow, open_negatives, write_negatives
from data_prep.speech.negatives import (
    BLOCK,
    activity,
    deal,
    find_negatives,
    speakers_found,
)
from data_prep.speech.splits import hash_split

RNG = np.random.default_rng(0)


def save(path: Path, seconds: float = 0.1, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, RNG.normal(0, 0.1, int(seconds * rate)), rate)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    for speaker in range(40):
        for take in range(2):
            save(tmp_path / "speech" / f"a_spk{speaker}_{take}.wav")
    return tmp_path / "speech"


def test_find_negatives_keeps_a_speaker_in_one_split_by_the_hash(talk: Path) -> None:
    found = find_negatives([str(talk)], r"_spk(\d+)_|never(x)")
    assert len(found) == 80
    for each in found:
        assert each.kind == "speech"
        assert each.split == hash_split(each.name.split("_")[1].removeprefix("spk"))
    assert {each.split for each in found} == {0, 1, 2}
    # Without a pattern, or where it does not match, a file is its own speaker.
    alone = find_negatives([str(talk)], r"(none)")
    assert [each.split for each in alone] == [hash_split(each.name) for each in alone]
    more = find_negatives([str(talk)], r"(none)", validation=50)
    assert [each.split for each in more] == [hash_split(each.name, 50) for each in alone]


def test_several_groups_keep_speakers_and_parts_of_recordings_together(
    talk: Path, tmp_path: Path
) -> None:
    parts = [f"{i % 5 + 1}-{211_000 + i}-{take}.wav" for i in range(40) for take in "ABC"]
    for name in [*parts, "hum.wav"]:
        save(tmp_path / "rain" / name)
    sources = [str(talk), str(tmp_path / "rain")]
    found = find_negatives(sources, r"_spk([^_]+)_|(\d-\d+)-[A-Z]")
    splits_of: dict[str, set[int]] = {}
    for each in found:
        splits_of.setdefault(each.name.rpartition("-")[0], set()).add(each.split)
        if each.kind == "speech":
            assert each.split == hash_split(each.name.split("_")[1].removeprefix("spk"))
    recordings = [splits for name, splits in splits_of.items() if name]
    assert len(recordings) == 40
    assert {len(splits) for splits in recordings} == {1}
    assert set.union(*recordings) == {0, 1, 2}
    assert speakers_found(found) == [
        "--negative_speaker: 40 in 120 of 121 rain files; each of the others is taken for its own",
        "--negative_speaker: 40 in 80 of 80 speech files",
    ]
    # One group alone leaves parts of a recording in several splits, and says so.
    alone = find_negatives(sources, r"_spk([^_]+)_")
    assert speakers_found(alone)[0].startswith("--negative_speaker: 0 in 0 of 121 rain files; ")


def test_find_negatives_names_kinds_and_reads_any_format(tmp_path: Path) -> None:
    save(tmp_path / "music" / "deep" / "a.mp3", seconds=1)
    save(tmp_path / "music" / "b.aiff")
    (tmp_path / "music" / "notes.txt").write_text("no audio")
    save(tmp_path / "hour.flac")
    found = find_negatives([str(tmp_path / "music"), f"speech={tmp_path / 'hour.flac'}"])
    assert [(each.kind, each.name) for each in found] == [
        ("music", "b.aiff"),
        ("music", "deep/a.mp3"),
        ("speech", "hour.flac"),
    ]
    assert find_negatives([str(tmp_path / "hour.flac")])[0].kind == "hour"
    (tmp_path / "a=b").mkdir()
    shutil.copy(tmp_path / "hour.flac", tmp_path / "a=b" / "x.flac")
    assert find_negatives([str(tmp_path / "a=b")])[0].kind == "a=b"
    for source in (
        "",
        "talk=",
        f"a\nb={tmp_path}",
        f"../x={tmp_path}",
        f"..={tmp_path}",
        f"={tmp_path}",
    ):
        with pytest.raises(ValueError, match="expected a path or KIND=PATH"):
            find_negatives([source])


def test_find_negatives_refuses(talk: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for sources, speaker, message in (
        ([str(tmp_path / "gone")], None, "--negatives: expected a folder or a file"),
        ([str(tmp_path / "empty")], None, "--negatives: expected audio in"),
        ([str(talk)], "(", "--negative_speaker: expected a regular expression"),
        ([str(talk)], "spk", "--negative_speaker: expected a group"),
        ([f"={talk}"], None, "--negatives: expected a path or KIND=PATH"),
        ([str(talk), str(talk)], None, "--negatives: expected each file once, got"),
    ):
        with pytest.raises(ValueError, match=message):
            find_negatives(sources, speaker)


def test_files_given_one_by_one_are_dealt_as_their_folder_is(talk: Path) -> None:
    names = sorted(path.name for path in talk.iterdir())[:5]
    one_by_one = find_negatives([f"speech={talk / name}" for name in names])
    assert [each.name for each in one_by_one] == names
    assert {each.split for each in one_by_one} == {0, 1, 2}
    assert deal(one_by_one) == one_by_one


def test_a_folder_in_capitals_is_speech(tmp_path: Path) -> None:
    save(tmp_path / "Speech" / "a.wav")
    assert [each.kind for each in find_negatives([str(tmp_path / "Speech")])] == ["speech"]
    assert [each.kind for each in find_negatives([f"SPEECH={tmp_path / 'Speech'}"])] == ["speech"]


@pytest.mark.parametrize("speakers", [1, 2])
def test_few_speakers_are_dealt_out_by_file_and_it_is_said(tmp_path: Path, speakers: int) -> None:
    for speaker in range(speakers):
        for take in range(20):
            save(tmp_path / "speech" / f"a_spk{speaker}_{take}.wav", seconds=0.01)
    sources = [str(tmp_path / "speech")]
    found = find_negatives(sources, r"_spk(\d+)_", validation=50)
    splits = [each.split for each in found]
    count = 20 * speakers
    assert [splits.count(split) for split in range(3)] == [0.4 * count, 0.5 * count, 0.1 * count]
    assert speakers_found(found) == [
        f"--negative_speaker: {speakers} in {count} of {count} speech files; the same are in "
        "several splits"
    ]


def test_heard_of_other_files_is_said(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\na_spk1_0.wav\tyes\nx.wav\tno\ny.wav\t-\n")
    find_negatives([str(talk)], None, table)
    assert capsys.readouterr().out == ("--heard: of 1 lines no words are counted, such as x.wav\n")


def test_heard_marks_files_by_name(talk: Path, tmp_path: Path) -> None:
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\na_spk1_0.wav\tyes no\na_spk2_0.wav\t-\n")
    assert read_heard(table) == {"a_spk1_0.wav": ("yes", "no"), "a_spk2_0.wav": ()}
    found = find_negatives([str(talk)], None, table)
    assert [each.name for each in found if each.heard] == ["a_spk1_0.wav"]
    for text, message in (
        ("name\theard\n", "expected a first line"),
        ("file\theard\na.wav yes\n", r"heard.tsv:2: expected `file<tab>words`"),
        ("file\theard\nother.wav\tyes\n", "expected files of --negatives"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            find_negatives([str(talk)], None, table)
    with pytest.raises(ValueError, match="--heard: expected a file"):
        read_heard(tmp_path / "gone.tsv")


def test_activity_is_where_it_is_loud_and_100_ms_around() -> None:
    samples = RNG.normal(0, 3, 16_000 + 50)
    samples[6_400:9_600] += RNG.normal(0, 3_000, 3_200)
    got = activity(samples.astype(np.int16))
    assert got.shape == (101,)
    assert np.flatnonzero(got).tolist() == list(range(30, 70))
    assert not activity(np.zeros(480, np.int16)).any()
    # A pause in loud speech is found at any level of the recording.
    quiet = activity((samples / 20).astype(np.int16))
    assert np.flatnonzero(quiet).tolist() == list(range(30, 70))


def test_negatives_are_read_back(tmp_path: Path) -> None:
    loud = RNG.integers(-9_000, 9_000, 500).astype(np.int16)
    write_negatives(
        tmp_path,
        iter(
            [
                NegativeRow(loud, "a.wav", "speech", 0, False),
                NegativeRow(loud[:320], "b.wav", "music", 2, True),
            ]
        ),
    )
    got = open_negatives(tmp_path)
    assert got is not None
    assert got.bounds.tolist() == [0, 640, 960]
    np.testing.assert_array_equal(got.file(0), np.pad(loud, (0, 140)))
    assert len(got.active) == 960 // BLOCK
    assert got.active.tolist() == [True] * 4 + [False] * 2, "sounds have no activity"
    assert (got.all_kinds, got.names) == (("music", "speech"), ("a.wav", "b.wav"))
    assert got.is_speech().tolist() == [True, False]
    assert got.heard.tolist() == [False, True]
    assert got.rows("testing").tolist() == [1]
    assert got.table()["speech"]["training"] == (1, 640 / 16_000 / 60)
    assert open_negatives(tmp_path / "elsewhere") is None


def test_damaged_negatives_are_named(tmp_path: Path) -> None:
    write_negatives(tmp_path, [NegativeRow(np.ones(9, np.int16), "a.wav", "music", 0, False)])
    np.save(tmp_path / "negatives" / "kinds.npy", np.zeros(2, np.int32))
    with pytest.raises(ValueError, match=r"expected int32 \[1\] in .*kinds.npy, got int32 \[2\]"):
        open_negatives(tmp_path)
    (tmp_path / "negatives" / "heard.npy").unlink()
    with pytest.raises(ValueError, match="expected negatives as prepare writes them"):
        open_negatives(tmp_path)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("kinds", [0, 9], "expected 0 to 1 in .*kinds.npy, got 0 to 9"),
        ("kinds", [-1, 0], "expected 0 to 1 in .*kinds.npy, got -1 to 0"),
        ("splits", [0, 3], "expected 0 to 2 in .*splits.npy, got 0 to 3"),
        ("bounds", [0, 480, 320], "expected multiples of 160 that rise from 0 to 320 in"),
        ("bounds", [0, 0, 320], "expected multiples of 160 that rise"),
        ("bounds", [0, 80, 320], r"expected multiples .* got \[  0  80 320\]"),
        ("bounds", [160, 240, 320], "expected multiples of 160 that rise"),
        ("bounds", [0, 160, 640], "expected multiples of 160 that rise"),
        ("bounds", [], r"expected int64 \[3\] in .*bounds.npy, got int64 \[0\]"),
        ("active", [True], r"expected bool \[2\] in .*active.npy, got bool \[1\]"),
    ],
)
def test_negatives_that_point_at_nothing_are_refused(tmp_path: Path, name, values, said) -> None:
    ones = np.ones(160, np.int16)
    rows = [NegativeRow(ones, f"{kind}.wav", kind, 0, False) for kind in ("music", "speech")]
    write_negatives(tmp_path, rows)
    path = tmp_path / "negatives" / f"{name}.npy"
    np.save(path, np.array(values, np.load(path).dtype))
    with pytest.raises(ValueError, match=said):
        open_negatives(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"kinds": ["music"]}', "none of 'names'"),
        ('{"kinds": [], "names": ["a"]}', "kinds that are no words"),
        ('{"kinds": ["music"], "names": [5]}', "names that are no words"),
        ('{"kinds": ["music", "music"], "names": ["a"]}', "a kind twice"),
        ("[]", "JSON of another kind"),
    ],
)
def test_other_descriptions_of_negatives_are_refused(tmp_path: Path, text, said) -> None:
    write_negatives(tmp_path, [NegativeRow(np.ones(9, np.int16), "a.wav", "music", 0, False)])
    (tmp_path / "negatives" / "negatives.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        open_negatives(tmp_path)
