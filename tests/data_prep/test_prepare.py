"""From folders of audio to a cache: the command, what it refuses, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.speech import cache as cache_module
from data_prep.speech import decode, files
from data_prep.speech.cache import open_cache
from data_prep.speech.negative_cache import open_negatives
from tests.helpers.recordings import prepare, save


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for word in ("yes", "no", "bed"):
        for i in range(30):
            save(root / word / f"{i:08x}_nohash_0.flac", seconds=0.1)
    save(root / "_background_noise_" / "tap.wav", seconds=2)
    return root


def test_prepare_writes_classes_splits_and_provenance(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    want = save(corpus / "yes" / "0a_nohash_3.flac", seconds=0.5)
    assert prepare("--data", corpus, "--out", tmp_path / "cache", "--words", "yes,no") == 0
    cache = open_cache(tmp_path / "cache")
    assert cache.classes == ("_silence_", "_unknown_", "yes", "no")
    assert cache.all_words == ("bed", "no", "yes")
    names = np.array(cache.all_words)[cache.words]
    assert {(str(n), int(la)) for n, la in zip(names, cache.labels, strict=True)} == {
        ("bed", 1),
        ("yes", 2),
        ("no", 3),
    }
    row = int(np.flatnonzero(cache.lengths == 8_000)[0])
    assert cache.names[row] == "yes/0a_nohash_3.flac"
    np.testing.assert_array_equal(cache.samples[row, :8_000], want)
    assert not cache.samples[row, 8_000:].any()
    assert [len(track) for track in cache.noise_tracks()] == [32_000]
    assert all(len(cache.indices(split)) for split in ("training", "validation", "testing"))
    provenance = json.loads((tmp_path / "cache" / "provenance.json").read_text())
    assert provenance["source"] == "corpus"
    assert provenance["skipped"] == {}
    assert sum(provenance["counts"]["yes"].values()) == 31
    assert str(tmp_path) not in json.dumps(provenance)
    table = capsys.readouterr().out
    assert f"{'total':9}" in table
    assert "by the SHA-1 hash of the speaker" in table


def test_prepare_keeps_the_upper_band_edge(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for max_hz in (4_000, 7_600):
        out = tmp_path / str(max_hz)
        flags = () if max_hz == 4_000 else ("--max_hz", str(max_hz))
        assert prepare("--data", corpus, "--out", out, "--words", "all", *flags) == 0
        cache = open_cache(out)
        assert cache.frontend["fmax"] == max_hz
        # Bins are 16000 / 480 Hz apart, and the last below the edge has weight in the last band.
        assert np.flatnonzero(cache.mel.any(axis=0))[-1] == (max_hz * 480 - 1) // 16_000
    for bad in ("1999", "8001"):
        assert prepare("--data", corpus, "--out", tmp_path / bad, "--max_hz", bad) == 1
        assert f"--max_hz: expected 2000 to 8000 Hz, got {bad}" in capsys.readouterr().err
        assert not (tmp_path / bad).exists()


def test_prepare_keeps_negatives_beside_the_clips(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sha256(out: Path) -> str:
        return json.loads((out / "provenance.json").read_text())["sha256"]

    for i in range(30):
        save(tmp_path / "speech" / f"{i}.ogg", seconds=0.3, rate=22_050)
    long = save(tmp_path / "noise" / "rain.wav", seconds=3)
    (tmp_path / "noise" / "bad.wav").write_bytes(b"RIFF of nothing")
    heard = tmp_path / "heard.tsv"
    heard.write_text("file\theard\n3.ogg\tyes\n")
    words = ("--data", corpus, "--words", "all")
    speech, hum = tmp_path / "speech", f"hum={tmp_path / 'noise'}"
    negatives = ("--negatives", speech, "--negatives", hum, "--talk_words", "0")
    plain, out = tmp_path / "plain", tmp_path / "with"
    assert prepare(*words, "--out", plain) == 0
    assert prepare(*words, "--out", out, *negatives, "--heard", heard) == 0
    printed = capsys.readouterr()
    assert "a word was heard in 1 of them" in printed.out
    assert "skipped negatives/hum/bad.wav" in printed.err
    got = open_negatives(out)
    assert got is not None
    assert got.all_kinds == ("hum", "speech")
    assert len(got.names) == 31
    assert {got.names[row] for row in np.flatnonzero(got.heard)} == {"3.ogg"}
    np.testing.assert_array_equal(got.file(got.names.index("rain.wav")), long)
    for name in ("samples", "splits", "noise"):
        assert (plain / f"{name}.npy").read_bytes() == (out / f"{name}.npy").read_bytes()
    assert sha256(plain) != sha256(out)
    assert open_negatives(plain) is None
    single = [save(tmp_path / "one" / "yes" / f"{i}.wav", seconds=0.5) for i in range(30)]
    one = ("--data", tmp_path / "one", "--words", "yes", "--out", tmp_path / "alone")
    assert prepare(*one, *negatives) == 0
    assert open_cache(tmp_path / "alone").classes[2:] == ("yes",)
    half = tmp_path / "half"
    by = ("--negative_validation", "50", "--negative_speaker", r"(\d+\.ogg)")
    assert prepare(*words, "--out", half, *negatives, *by) == 0
    assert "--negative_speaker: 30 in 30 of 30 speech files" in capsys.readouterr().out
    more = open_negatives(half)
    assert more is not None
    assert len(more.rows("validation")) > len(got.rows("validation"))
    np.testing.assert_array_equal(more.rows("testing"), got.rows("testing"))
    assert len(open_cache(tmp_path / "alone").samples) == len(single)
    capsys.readouterr()
    lone = ("--heard", heard, "--negative_validation", "30")
    assert prepare(*words, "--out", tmp_path / "bad", *lone) == 1
    message = "--negative_validation, --heard: expected --negatives with it, got none"
    assert message in capsys.readouterr().err
    assert prepare(*words, "--out", tmp_path / "bad", "--negatives", tmp_path / "gone") == 1
    assert not (tmp_path / "bad").exists()


def test_negatives_that_cannot_be_read_are_named_and_take_no_split(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        save(tmp_path / "talk" / f"{name}.wav", seconds=30)
    words = ("--data", corpus, "--words", "yes", "--negatives", f"speech={tmp_path / 'talk'}")
    assert prepare(*words, "--out", tmp_path / "whole") == 0
    whole = open_negatives(tmp_path / "whole")
    assert whole is not None
    (tmp_path / "talk" / "bad.wav").write_bytes(b"RIFF of nothing")
    (tmp_path / "talk" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "talk" / "long.webm").write_bytes(b"of another kind")
    capsys.readouterr()
    assert prepare(*words, "--out", tmp_path / "rest") == 0
    said, err = capsys.readouterr()
    assert "speech: files of endings that are not read: 1 of .webm" in said
    assert "skipped negatives/speech/gone.wav: No such file or directory" in err
    assert err.count("skipped negatives/speech/bad.wav") == 1
    rest = open_negatives(tmp_path / "rest")
    assert rest is not None
    assert rest.names == whole.names
    np.testing.assert_array_equal(rest.splits, whole.splits)
    np.testing.assert_array_equal(rest.samples, whole.samples)
    made = json.loads((tmp_path / "rest" / "provenance.json").read_text())
    assert set(made["skipped"]) == {f"negatives/speech/{name}.wav" for name in ("bad", "gone")}
    assert made["negatives"]["in_stretches"] == {"speech": 2}
    (tmp_path / "talk" / "bad.wav").unlink()
    assert prepare(*words, "--out", tmp_path / "strict", "--strict") == 1
    assert "cannot read negatives/speech/gone.wav" in capsys.readouterr().err


def test_a_name_of_two_lines_is_skipped(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(corpus / "yes" / "a\nb_nohash_0.flac", seconds=0.1)
    assert prepare("--data", corpus, "--words", "yes", "--out", tmp_path / "cache") == 0
    assert "skipped yes/a\\nb_nohash_0.flac: its name has more" in capsys.readouterr().err
    assert len(open_cache(tmp_path / "cache").names) == 90


def test_negatives_are_neither_clips_nor_silence(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, seconds in enumerate((6, 6, 1)):
        save(tmp_path / "hum" / f"{i}.wav", seconds=seconds)
    for silent in (tmp_path / "hum" / "off.wav", corpus / "_background_noise_" / "off.wav"):
        soundfile.write(silent, np.zeros(160_000), 16_000)
    words = ("--data", corpus, "--out", tmp_path / "cache", "--words", "yes")
    hum = ("--negatives", tmp_path / "hum")
    assert prepare(*words, *hum) == 0
    said, err = capsys.readouterr()
    assert said.count(" s of hum without words for ") == 1
    assert said.count("no hum without words") == 0
    for name in ("negatives/hum/off.wav", "_background_noise_/off.wav"):
        assert f"skipped {name}: silent: every sample of it is zero\n" in err
    got = open_negatives(tmp_path / "cache")
    assert got is not None
    assert got.names == ("0.wav", "1.wav", "2.wav")
    assert prepare(*words, "--overwrite", "--strict", *hum) == 0  # it can be read
    twice = ("--negatives", f"more={tmp_path / 'hum' / '0.wav'}")
    assert prepare(*words, "--overwrite", *hum, *twice) == 1
    assert "expected each file once, got" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(corpus / "bed")
    for clips in (corpus / "bed", tmp_path / "link"):
        assert prepare(*words, "--overwrite", *hum, "--negatives", clips) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: --negatives: expected other audio than --data's clips, got")
        assert said.count("\n") == 1
    assert prepare(*words, "--overwrite", *hum, "--heard", "") == 1
    assert "--heard: expected a file, got ." in capsys.readouterr().err


def test_prepare_is_the_same_for_any_number_of_jobs(corpus: Path, tmp_path: Path) -> None:
    for jobs in (1, 3):
        out = tmp_path / f"cache{jobs}"
        assert prepare("--data", corpus, "--out", out, "--words", "all", "--jobs", str(jobs)) == 0
    for path in (tmp_path / "cache1").iterdir():
        assert path.read_bytes() == (tmp_path / "cache3" / path.name).read_bytes(), path.name


def test_prepare_starts_no_more_threads_than_files_in_flight(corpus, tmp_path, monkeypatch) -> None:
    started = []
    pool = files.ThreadPool
    monkeypatch.setattr(files, "ThreadPool", lambda n: (started.append(n), pool(2))[1])
    out = ("--out", tmp_path / "many", "--words", "yes,no")
    assert prepare("--data", corpus, *out, "--jobs", 1_000_000) == 0
    assert max(started) <= 256


def test_prepare_sha256_follows_the_contents(corpus: Path, tmp_path: Path) -> None:
    def digest(name: str) -> str:
        assert prepare("--data", corpus, "--out", tmp_path / name, "--words", "all") == 0
        return json.loads((tmp_path / name / "provenance.json").read_text())["sha256"]

    before = digest("a")
    assert digest("b") == before
    save(corpus / "yes" / "00000001_nohash_0.flac", seconds=0.1)
    assert digest("c") != before


def test_prepare_takes_any_rate_and_channel_count(tmp_path: Path) -> None:
    for i, word in enumerate(("yes", "no")):
        save(tmp_path / "d" / word / "a.wav", seconds=0.5, rate=8_000, channels=1 + i)
        save(tmp_path / "d" / word / "b.wav", seconds=1.5, rate=44_100)
        save(tmp_path / "d" / word / "c.wav")
    assert prepare("--data", tmp_path / "d", "--out", tmp_path / "c", "--words", "yes") == 0
    cache = open_cache(tmp_path / "c")
    assert sorted(cache.lengths.tolist()) == [8_000, 8_000, 16_000, 16_000, 16_000, 16_000]
    provenance = json.loads((tmp_path / "c" / "provenance.json").read_text())
    assert provenance["cut_to_1_s"] == ["no/b.wav", "yes/b.wav"]


def test_prepare_reads_file_names_by_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in "01":
        for speaker in ("ann", "bob", "cid", "dan"):
            for n in range(3):
                save(tmp_path / "d" / f"{word}_{speaker}_{n}.wav", seconds=0.1, rate=8_000)
    pattern = ("--pattern", "{word}_{speaker}_{n}.wav")
    assert prepare("--data", tmp_path / "d", "--out", tmp_path / "c", *pattern) == 0
    cache = open_cache(tmp_path / "c")
    assert cache.classes == ("_silence_", "_unknown_", "0", "1")
    assert cache.all_speakers == ("ann", "bob", "cid", "dan")
    # By name of the file: word, then speaker.
    assert cache.speakers.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] * 2
    assert np.bincount(cache.splits).tolist() == [12, 6, 6]
    assert len(cache.noise) == 0
    out = capsys.readouterr().out
    assert "by quota, as 4 speakers" in out
    assert "no background tracks" in out
    takes = ("--testing_takes", "0-1", "--overwrite")
    assert prepare("--data", tmp_path / "d", "--out", tmp_path / "c", *pattern, *takes) == 0
    assert np.bincount(open_cache(tmp_path / "c").splits)[2] == 16


def test_prepare_skips_unreadable_files_by_name(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "no" / "bad_nohash_0.wav").write_bytes(b"RIFF of nothing")
    (corpus / "_background_noise_" / "empty.wav").touch()
    arguments = ("--data", corpus, "--out", tmp_path / "cache", "--words", "yes,no")
    assert prepare(*arguments, "--strict") == 1
    assert "error: cannot read _background_noise_/empty.wav" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert prepare(*arguments) == 0
    captured = capsys.readouterr()
    assert "skipped no/bad_nohash_0.wav: " in captured.err
    assert "2 files were skipped" in captured.out
    provenance = json.loads((tmp_path / "cache" / "provenance.json").read_text())
    assert set(provenance["skipped"]) == {
        "no/bad_nohash_0.wav",
        "_background_noise_/empty.wav",
    }
    assert len(open_cache(tmp_path / "cache").samples) == 90


def refusals(corpus: Path, tmp_path: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Arguments of a command that must fail, and what it must say."""
    out = ["--out", tmp_path / "new"]
    (tmp_path / "empty").mkdir()
    save(tmp_path / "single" / "yes" / "a.wav", seconds=0.1)
    (tmp_path / "file").touch()
    return {
        "missing": (["--data", tmp_path / "absent", *out], "is not a folder"),
        "empty": (["--data", tmp_path / "empty", *out], "no audio files"),
        "single": (["--data", tmp_path / "single", *out], "at least two words"),
        "words": (["--data", corpus, *out, "--words", "yes,nope"], "(bed, no, yes), got nope"),
        "default": (["--data", corpus, *out], "got up, down, left"),
        "twice": (["--data", corpus, *out, "--words", "yes,yes"], "different words"),
        "flag": (["--data", corpus, *out, "--wrods", "yes"], "wrods"),
        "argument": (["--data", corpus, *out, "yes"], "unexpected argument 'yes'"),
        "required": (["--data", corpus], "--out"),
        "jobs": (["--data", corpus, *out, "--jobs", "-1"], "jobs"),
        "out": (["--data", corpus, "--out", corpus, "--words", "yes"], "which is neither"),
        "parent": (
            ["--data", corpus, "--out", tmp_path / "file" / "c", "--words", "yes"],
            "file",
        ),
    }


def test_prepare_refuses_bad_input_in_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (arguments, message) in refusals(corpus, tmp_path).items():
        assert prepare(*arguments) == 1, name
        error = capsys.readouterr().err
        assert error.startswith("error: "), name
        assert error.count("\n") == 1, name
        assert message in error, name
        assert not (tmp_path / "new").exists(), name


def test_prepare_replaces_a_cache_only_when_asked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", corpus, "--out", tmp_path / "cache")
    assert prepare(*arguments, "--words", "yes") == 0
    assert prepare(*arguments, "--words", "no") == 1
    assert "give --overwrite" in capsys.readouterr().err
    assert open_cache(tmp_path / "cache").classes[2:] == ("yes",)
    assert prepare(*arguments, "--words", "no", "--overwrite") == 0
    assert open_cache(tmp_path / "cache").classes[2:] == ("no",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "corpus"]


def test_prepare_full_disk_is_one_line(corpus: Path, tmp_path: Path) -> None:
    # A limit on the size of files fails a write as a full disk does.
    code = (
        "import resource, sys; from data_prep.prepare import main\n"
        "any_size = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, any_size[1]))\n"
        "status = main(sys.argv)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, any_size); sys.exit(status)"
    )
    arguments = ["--data", str(corpus), "--out", str(tmp_path / "cache"), "--words", "yes"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_prepare_interrupted_leaves_nothing(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    whole, calls = decode.decode, iter(range(1_000))

    def decode_some(data: bytes) -> np.ndarray:
        if next(calls) == 40:
            os.kill(os.getpid(), number)
        return whole(data)

    monkeypatch.setattr(decode, "decode", decode_some)
    assert prepare("--data", corpus, "--out", tmp_path / "cache", "--words", "yes") == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_prepare_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("--help") == 0
    out = capsys.readouterr().out
    for flag in ("data", "out", "words", "pattern", "strict", "overwrite", "jobs"):
        assert f"--{flag}: " in out


def test_prepare_reads_real_speech(speech_commands: Path, tmp_path: Path) -> None:
    # Four short folders of it, linked.
    for word in ("learn", "visual", "follow", "bird"):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / word).symlink_to(speech_commands / word)
    assert prepare("--data", tmp_path / "d", "--out", tmp_path / "c", "--words", "bird") == 0
    cache = open_cache(tmp_path / "c")
    name = sorted(path.name for path in (speech_commands / "bird").iterdir())[0]
    want = soundfile.read(speech_commands / "bird" / name, dtype="int16")[0]
    np.testing.assert_array_equal(cache.samples[0, : cache.lengths[0]], want)


def test_places_in_more_noise_than_32_bits_hold(tmp_path) -> None:
    class Long:
        """A track of 2^31 samples that takes no room."""

        def __len__(self) -> int:
            return 2**31

    bounds = cache_module.bounds_of([Long(), Long()])
    assert bounds.dtype == np.int64
    assert bounds.tolist() == [0, 2**31, 2**32]
    assert cache_module.bounds_of([np.zeros(5)]).dtype == np.int32
