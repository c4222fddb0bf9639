import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.speech.cache import MEL_SHAPE, CacheRow, fingerprint, open_cache, write_cache

CLASSES = ("_silence_", "_unknown_", "yes")


def rows() -> list[CacheRow]:
    loud = np.arange(16_000, dtype=np.int16)
    return [
        CacheRow(loud, label=2, word=1, split=0),
        CacheRow(loud[:300], label=1, word=0, split=2, speaker=1),
        CacheRow(-loud[:0], label=2, word=1, split=2),
    ]


def write(out: Path, clips: list[CacheRow], noise: list[np.ndarray]) -> dict[str, dict[str, int]]:
    return write_cache(
        out,
        iter(clips),
        noise=noise,
        mel=np.ones(MEL_SHAPE, np.float32),
        classes=CLASSES,
        all_words=("bed", "yes"),
        all_speakers=("ann", "bob"),
        provenance={"source": "here"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "cache", rows(), [np.arange(5, dtype=np.int16), np.ones(2, np.int16)])
    return tmp_path / "cache"


def test_write_cache_is_read_back(folder: Path) -> None:
    cache = open_cache(folder)
    assert cache.samples.shape == (3, 16_000)
    assert isinstance(cache.samples, np.memmap)
    np.testing.assert_array_equal(cache.samples[0], np.arange(16_000))
    np.testing.assert_array_equal(cache.samples[1, :300], np.arange(300))
    assert not cache.samples[1, 300:].any()
    assert cache.lengths.tolist() == [16_000, 300, 0]
    assert cache.labels.tolist() == [2, 1, 2]
    assert cache.words.tolist() == [1, 0, 1]
    assert cache.indices("testing").tolist() == [1, 2]
    assert [track.tolist() for track in cache.noise_tracks()] == [[0, 1, 2, 3, 4], [1, 1]]
    assert cache.classes == CLASSES
    assert cache.speakers.tolist() == [0, 1, 0]
    assert cache.all_speakers == ("ann", "bob")
    assert cache.counts["yes"] == {"training": 1, "validation": 0, "testing": 1}
    with pytest.raises(ValueError, match=r"split out of training.*got 'test'"):
        cache.indices("test")


def test_write_cache_has_the_documented_dtypes(folder: Path) -> None:
    dtypes = {path.stem: np.load(path).dtype.name for path in folder.glob("*.npy")}
    assert dtypes == {
        "samples": "int16",
        "lengths": "int32",
        "labels": "int32",
        "words": "int32",
        "splits": "int8",
        "speakers": "int32",
        "noise": "int16",
        "noise_bounds": "int32",
        "mel": "float32",
    }


def test_open_cache_reads_one_from_before_there_were_speakers(folder: Path) -> None:
    (folder / "speakers.npy").unlink()
    meta = json.loads((folder / "dataset.json").read_text())
    del meta["all_speakers"]
    (folder / "names.txt").unlink()
    (folder / "dataset.json").write_text(json.dumps(meta))
    cache = open_cache(folder)
    assert cache.speakers is None
    assert cache.all_speakers == ()
    assert cache.names == ()


def test_write_cache_works_without_noise(tmp_path: Path) -> None:
    write(tmp_path / "cache", rows(), [])
    cache = open_cache(tmp_path / "cache")
    assert len(cache.noise) == 0
    assert cache.noise_bounds.tolist() == [0]
    assert cache.noise_tracks() == []


@pytest.mark.parametrize(
    "bad",
    [
        CacheRow(np.zeros(16_001, np.int16), 2, 1, 0),
        CacheRow(np.zeros(10, np.float32), 2, 1, 0),  # type: ignore[arg-type]
    ],
)
def test_write_cache_leaves_nothing_behind_on_error(tmp_path: Path, bad: CacheRow) -> None:
    with pytest.raises(ValueError, match="expected a clip int16"):
        write(tmp_path / "cache", [*rows(), bad], [])
    with pytest.raises(ValueError, match="at least one readable clip"):
        write(tmp_path / "cache", [], [])
    assert list(tmp_path.iterdir()) == []


def test_write_cache_keeps_the_old_one_on_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write(folder, [], [])
    assert len(open_cache(folder).samples) == 3
    write(folder, rows()[:1], [])
    assert len(open_cache(folder).samples) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["cache"]


def test_open_cache_rejects_other_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which is not a folder"):
        open_cache(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"without one"):
        open_cache(tmp_path)


def test_open_cache_rejects_another_format(folder: Path) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(meta | {"format": 2}))
    with pytest.raises(ValueError, match="expected a cache of format 1, got format 2"):
        open_cache(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="got JSONDecodeError"):
        open_cache(folder)


@pytest.mark.parametrize("name", ["samples", "noise", "mel", "words"])
def test_open_cache_names_the_missing_or_damaged_file(folder: Path, name: str) -> None:
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=f"{name}.npy"):
        open_cache(folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"expected the file {name}.npy"):
        open_cache(folder)


def test_open_cache_checks_shapes_and_lengths(folder: Path) -> None:
    np.save(folder / "labels.npy", np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="arrays of equal length"):
        open_cache(folder)
    np.save(folder / "labels.npy", np.zeros(3, np.int32))
    (folder / "names.txt").write_text("a.wav\n")
    with pytest.raises(ValueError, match=r"expected 3 names in .*names.txt, got 1"):
        open_cache(folder)
    np.save(folder / "labels.npy", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"expected int32 \['any'\].*got int64 \[3\]"):
        open_cache(folder)


def test_imports_stay_light() -> None:
    code = (
        "import sys, data_prep.speech.cache; light = set(sys.modules)\n"
        "import data_prep.prepare, data_prep.make_stream, data_prep.synthesize\n"
        "print([m for m in ('soundfile', 'librosa', 'absl', 'jax') if m in light],"
        "[m for m in ('librosa', 'jax', 'sanas_jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


@pytest.mark.parametrize("key", ["classes", "all_words"])
def test_open_cache_refuses_words_of_two_lines(folder: Path, key: str) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    meta[key][-1] = "two\nlines"
    (folder / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"dataset\.json: .*'two\\nlines'.*written in a line"):
        open_cache(folder)


DAMAGES = {
    "ascending noise_bounds": ("noise_bounds", np.array([0, 6, 5, 7])),
    "noise_bounds from 0 to 7": ("noise_bounds", np.array([0, 6])),
    "expected 0 to 16000 in": ("lengths", np.array([1, 2, 16001], np.int32)),
    "expected 0 to 2 in": ("splits", np.array([0, 1, 3], np.int8)),
    "mel.npy, got NaN or infinity": ("mel", np.full(MEL_SHAPE, np.nan, np.float32)),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_open_cache_refuses_numbers_that_point_at_nothing(folder: Path, message: str) -> None:
    name, array = DAMAGES[message]
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(ValueError, match=message):
        open_cache(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("splits", ["a"], "expected splits"),
        ("classes", ["a", "b"], "classes that begin with _silence_, _unknown_"),
        ("all_words", [1], "all_words that are no words"),
        ("frontend", {"fmax": 8000}, "features by"),
        ("frontend", {}, "none of 'fmax'"),
        ("classes", ["_silence_", "_unknown_", "a", "a"], "a class twice"),
    ],
)
def test_open_cache_refuses_another_description(
    folder: Path, key: str, value: object, message: str
) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(meta | {key: value}))
    with pytest.raises(ValueError, match=message):
        open_cache(folder)


def test_fingerprint_is_a_word_or_none(folder: Path) -> None:
    path = folder / "provenance.json"
    path.write_text('{"sha256": "ab"}')
    assert fingerprint(folder) == "ab"
    path.write_text('{"sha256": 5}')
    with pytest.raises(ValueError, match="expected a fingerprint, got 5"):
        fingerprint(folder)
    path.unlink()
    assert fingerprint(folder) is None
