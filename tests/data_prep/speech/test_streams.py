import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.make_stream import main
from data_prep.speech import streams
from data_prep.speech.cache import MEL_SHAPE, CacheRow, open_cache, write_cache
from data_prep.speech.negative_cache import open_negatives
from data_prep.speech.pools import pool_of_cache
from data_prep.speech.streams import Options, Pool

RNG = np.random.default_rng(0)


def pool(noise: int = 2, clip: int = 16_000) -> Pool:
    """Clips that hold their row times 1000 in every sample; rows 0-4 yes, 5-9 no, 10-19 others."""
    return Pool(
        words={"yes": np.arange(5), "no": np.arange(5, 10)},
        unknown=np.arange(10, 20),
        clip=lambda row: np.full(clip, 1_000 * (row + 1), np.int16),
        noise=[RNG.integers(-9_000, 9_000, 40_000).astype(np.int16) for _ in range(noise)],
    )


def test_make_stream_has_the_rates_of_the_protocol() -> None:
    stream, placed = streams.make_stream(pool(), Options(minutes=60))
    assert stream.dtype == np.float32
    assert len(stream) == 3_600 * 16_000
    assert len(placed) == 1_200
    starts = np.array([word.start for word in placed])
    offsets = starts - 48_000 * np.arange(1_200)
    assert offsets.min() >= 0
    assert offsets.max() < 32_000
    assert abs(offsets.mean() - 16_000) < 800  # three standard errors of U(0, 32000)
    assert np.diff(starts).min() >= 16_000
    labels = [word.label for word in placed]
    # Binomial: standard deviations of 1.3 % and 1.4 %.
    assert abs(labels.count("_unknown_") / 1_200 - 0.30) < 0.04
    assert abs(labels.count("yes") / 1_200 - 0.35) < 0.043
    assert {word.row for word in placed if word.label == "_unknown_"} == set(range(10, 20))
    assert {word.row for word in placed if word.label == "no"} == set(range(5, 10))


def test_make_stream_places_clips_where_the_labels_say() -> None:
    stream, placed = streams.make_stream(pool(noise=0), Options(minutes=1, seed=3))
    rest = stream.copy()
    for word in placed:
        level = (word.row + 1) * 1_000 / 32_768
        piece = stream[word.start : word.start + 16_000]
        np.testing.assert_allclose(piece[500:15_500], level, rtol=1e-6)
        np.testing.assert_allclose(piece[[0, 250, 15_750]], np.array([0, 0.5, 0.5]) * level)
        assert piece[-1] == pytest.approx(level / 500)
        assert word.ms == word.start / 16
        rest[word.start : word.start + 16_000] = 0
    assert len(placed) == 20
    assert not rest.any()


def test_make_stream_background_is_quiet_and_everywhere() -> None:
    quiet = Pool({"yes": np.arange(1)}, np.arange(0), lambda row: np.zeros(9, np.int16), [])
    loud = [np.full(50_000, 32_767, np.int16)]
    stream, _ = streams.make_stream(
        Pool(quiet.words, quiet.unknown, quiet.clip, loud), Options(minutes=5)
    )
    seconds = stream.reshape(300, 16_000)
    # A segment stands alone, at full gain, from 500 ms to 1000 ms after its start.
    alone = seconds[1:, 8_000:]
    np.testing.assert_allclose(alone, alone[:, :1] * np.ones(8_000), rtol=1e-5)
    assert alone.min() >= 0
    assert 0.08 < alone.max() <= 0.1
    assert abs(alone[:, 0].mean() - 0.05) < 0.006
    # In the middle of an overlap both are at full gain.
    np.testing.assert_allclose(seconds[1:, 4_000], alone[:, 0] + seconds[:-1, 12_000], rtol=1e-4)


def test_make_stream_is_a_function_of_the_seed() -> None:
    one, labels = streams.make_stream(tracks := pool(), Options(minutes=1, seed=5))
    two, again = streams.make_stream(tracks, Options(minutes=1, seed=5))
    other, _ = streams.make_stream(tracks, Options(minutes=1, seed=6))
    np.testing.assert_array_equal(one, two)
    assert labels == again
    assert (one != other).any()


def test_make_stream_stays_within_full_scale() -> None:
    loud = Pool(
        {"yes": np.arange(1)},
        np.arange(0),
        lambda row: np.full(16_000, 32_767, np.int16),
        [np.full(100, 32_767, np.int16)],  # shorter than a segment: repeated
    )
    stream, placed = streams.make_stream(loud, Options(minutes=1, unknown_percent=50))
    assert stream.max() == 1.0
    assert {word.label for word in placed} == {"yes"}  # there is no unknown clip to place


def test_make_stream_rejects_bad_options() -> None:
    for bad in (
        Options(minutes=0),
        Options(minutes=float("inf")),
        Options(minutes=float("nan")),
        Options(word_gap_ms=-1),
    ):
        with pytest.raises(ValueError, match="expected a positive length"):
            streams.make_stream(pool(), bad)
    with pytest.raises(ValueError, match="share of 0-100 %"):
        streams.make_stream(pool(), Options(unknown_percent=101))
    with pytest.raises(ValueError, match="volume of at least 0"):
        streams.make_stream(pool(), Options(noise_volume=float("nan")))
    with pytest.raises(ValueError, match=r"expected minutes for a word or more, got 0\.01"):
        streams.make_stream(pool(), Options(minutes=0.01))
    nothing = Pool({"yes": np.arange(0)}, np.arange(0), pool().clip, [])
    with pytest.raises(ValueError, match="expected clips in the split"):
        streams.make_stream(nothing, Options(minutes=1))


def test_ramped_shapes_short_clips_at_their_own_end() -> None:
    got = streams.ramped(np.full(600, 16_384, np.int16))
    assert got[0] == 0
    assert got[300] == pytest.approx(0.5 * 300 / 500)
    assert got[-1] == pytest.approx(0.5 / 500)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data folder of three words by thirty speakers; a clip's constant tells its word."""
    for level, word in enumerate(("yes", "no", "bed"), start=1):
        (tmp_path / "data" / word).mkdir(parents=True)
        for speaker in range(30):
            path = tmp_path / "data" / word / f"{speaker:08x}_nohash_0.wav"
            soundfile.write(path, np.full(16_000, 5_000 * level, np.int16), 16_000)
    return tmp_path / "data"


def run(*arguments: str | Path) -> int:
    return main(["make_stream", *map(str, arguments)])


def test_make_stream_command_writes_audio_and_labels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "s.wav"
    assert run("--data", folder, "--words", "yes,no", "--minutes", "2", "--out", out) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == [
        *("s.json", "s.wav", "s_labels.txt")
    ]
    assert "no background tracks" in capsys.readouterr().out
    assert soundfile.info(out).subtype == "PCM_16"
    stream, rate = soundfile.read(out, dtype="int16")
    assert (rate, len(stream)) == (16_000, 120 * 16_000)
    lines = (out.parent / "s_labels.txt").read_text().splitlines()
    assert len(lines) == 40
    for line in lines:
        label, ms = line.split(", ")
        middle = int(float(ms) * 16) + 8_000
        assert stream[middle] == {"yes": 5_000, "no": 10_000, "_unknown_": 15_000}[label]


def test_make_stream_command_same_from_cache_and_folder(folder: Path, tmp_path: Path) -> None:
    from data_prep import prepare

    cache = tmp_path / "cache"
    assert (
        prepare.main(["prepare", "--data", str(folder), "--out", str(cache), "--words", "yes,no"])
        == 0
    )
    for split in ("testing", "validation"):
        options = ("--minutes", "1", "--seed", "7", "--split", split)
        a, b = tmp_path / f"a_{split}.wav", tmp_path / f"b_{split}.wav"
        assert run("--data", folder, "--words", "yes,no", "--out", a, *options) == 0
        assert run("--data", cache, "--out", b, *options) == 0
        assert a.read_bytes() == b.read_bytes()


def test_make_stream_says_which_files_of_a_folder_it_leaves_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "two\nlines").mkdir()
    soundfile.write(folder / "two\nlines" / "ann_nohash_0.wav", np.zeros(16_000), 16_000)
    options = ("--words", "yes,no", "--minutes", "1", "--out", tmp_path / "a.wav")
    assert run("--data", folder, *options) == 0
    said = "1 files are left out, such as two\\nlines/ann_nohash_0.wav: its word cannot be"
    assert said in capsys.readouterr().out


def test_make_stream_says_beside_the_audio_what_it_was_made_of(
    folder: Path, tmp_path: Path
) -> None:
    from data_prep import prepare

    cache, out = tmp_path / "cache", tmp_path / "a.wav"
    words = ("--words", "yes,no")
    assert prepare.main(["prepare", "--data", str(folder), "--out", str(cache), *words]) == 0
    options = ("--minutes", "1", "--seed", "7", "--split", "validation", "--noise_volume", "0.05")
    assert run("--data", cache, "--out", out, *options) == 0
    made = json.loads((tmp_path / "a.json").read_text())
    fingerprint = json.loads((cache / "provenance.json").read_text())["sha256"]
    assert made == {
        "split": "validation",
        "minutes": 1,
        "seed": 7,
        "word_gap_ms": 2_000,
        "unknown_percent": 30,
        "noise_volume": 0.05,
        "words": ["yes", "no"],
        "data_sha256": fingerprint,
        "background": "noise",
    }
    assert run("--data", folder, *words, "--out", out, "--minutes", "1") == 0
    made = json.loads((tmp_path / "a.json").read_text())
    assert (made["split"], made["data_sha256"]) == ("testing", None)


def test_make_stream_takes_words_from_its_split_only(tmp_path: Path) -> None:
    write_cache(
        tmp_path / "cache",
        (
            CacheRow(np.full(16_000, 100 * (1 + i), np.int16), label=2, word=1, split=i % 3)
            for i in range(30)
        ),
        noise=[],
        mel=np.zeros(MEL_SHAPE, np.float32),
        classes=("_silence_", "_unknown_", "yes"),
        all_words=("bed", "yes"),
        provenance={},
    )
    out = tmp_path / "s.wav"
    assert run("--data", tmp_path / "cache", "--minutes", "5", "--out", out) == 0
    levels = set(np.unique(soundfile.read(out, dtype="int16")[0]))
    assert {100 * (1 + i) for i in range(2, 30, 3)} <= levels
    assert max(levels) == 3_000  # i = 29 is a testing clip


def test_make_stream_command_refuses_bad_input_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.wav"
    cases: dict[str, tuple[str | Path, ...]] = {
        "is not a folder": ("--data", tmp_path / "absent", "--out", out),
        "got up": ("--data", folder, "--out", out),
        "a .wav file": ("--data", folder, "--words", "yes", "--out", tmp_path / "s.flac"),
        "train": ("--data", folder, "--words", "yes", "--out", out, "--split", "train"),
        "positive": ("--data", folder, "--words", "yes", "--out", out, "--minutes", "0"),
    }
    for message, arguments in cases.items():
        assert run(*arguments) == 1, message
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
        assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_negatives_lie_under_the_words_where_they_are_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from data_prep import prepare

    talk, cache = tmp_path / "speech", tmp_path / "cache"
    talk.mkdir()
    for i in range(40):  # a constant each, which tells the files apart
        soundfile.write(talk / f"{i}.wav", np.full(32_000, 200 * (i + 1), np.int16), 16_000)
    heard = tmp_path / "heard.tsv"
    heard.write_text("file\theard\n" + "".join(f"{i}.wav\tyes\n" for i in range(0, 40, 2)))
    asked = ("--data", str(folder), "--words", "yes,no", "--out", str(cache), "--heard", str(heard))
    assert prepare.main(["prepare", *asked, "--negatives", str(talk)]) == 0
    found = open_negatives(cache)
    assert found is not None
    names = [found.names[row] for row in found.rows("testing")]
    unheard = {200 * (int(Path(n).stem) + 1) for n in names if int(Path(n).stem) % 2}
    assert len(names) > len(unheard) > 0
    lies = pool_of_cache(open_cache(cache), "testing", background="negatives").noise
    assert {int(level) for track in lies for level in np.unique(track)} == unheard
    out, options = tmp_path / "s.wav", ("--minutes", "1", "--noise_volume", "1")
    assert run("--data", cache, "--out", out, "--background", "negatives", *options) == 0
    assert json.loads((tmp_path / "s.json").read_text())["background"] == "negatives"
    capsys.readouterr()
    assert run("--data", folder, "--out", out, "--background", "negatives", *options) == 1
    assert "--background negatives: expected a cache, got" in capsys.readouterr().err
    shutil.rmtree(cache / "negatives")
    assert run("--data", cache, "--out", out, "--background", "negatives", *options) == 1
    assert "expected a cache with negatives for testing" in capsys.readouterr().err
