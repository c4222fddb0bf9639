"""The command that makes a cache of images, and the cache."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.images.cache import (
    ImageCache,
    digits_cache,
    is_image_cache,
    open_image_cache,
    statistics,
)
from data_prep.images.image_set import ImageSet
from data_prep.prepare_images import main
from data_prep.speech.cache import SPLITS, open_cache
from tests.data_prep.speech import test_cache

RNG = np.random.default_rng(0)


def prepare(*arguments: str | Path) -> int:
    return main(["prepare_images", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for i in range(50):
            path = tmp_path / "photos" / ("train" if i < 40 else "test") / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (5, 5, 3)).astype(np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    assert prepare("--data", photos, "--out", tmp_path / "cache", "--size", "5") == 0
    return tmp_path / "cache"


def assert_same(one: ImageCache, other: ImageCache) -> None:
    for name in ("images", "labels", "splits", "mean", "std"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert (one.classes, one.kind, one.sha256) == (other.classes, other.kind, other.sha256)


def test_prepare_images_writes_what_it_says(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    assert prepare("--data", photos, "--out", folder, "--size", "5") == 0
    cache = open_image_cache(folder)
    assert cache.kind == "images"
    assert cache.classes == ("cat", "dog")
    assert cache.images.shape == (100, 5, 5, 3)
    assert isinstance(cache.images, np.memmap)
    files = sorted((photos / "test").rglob("*.png")) + sorted((photos / "train").rglob("*.png"))
    np.testing.assert_array_equal(cache.images, [np.asarray(Image.open(f)) for f in files])
    assert cache.labels.tolist() == [0] * 10 + [1] * 10 + [0] * 40 + [1] * 40
    assert cache.indices("testing").tolist() == list(range(20))
    assert np.bincount(cache.labels[cache.indices("validation")]).tolist() == [4, 4]
    assert sorted(np.concatenate([cache.indices(split) for split in SPLITS])) == list(range(100))
    training = cache.images[cache.indices("training")] / 255
    np.testing.assert_allclose(cache.mean, training.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(cache.std, training.std((0, 1, 2)), rtol=1e-6)
    meta = json.loads((folder / "dataset.json").read_text())
    assert meta["shape"] == [5, 5, 3]
    assert meta["counts"] == {"training": 72, "validation": 8, "testing": 20}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["source"] == "photos"
    assert provenance["form"] == "folder"
    assert provenance["counts"]["dog"] == {"training": 36, "validation": 4, "testing": 10}
    assert provenance["sha256"] == cache.sha256
    assert str(photos.parent) not in json.dumps(provenance)
    out = capsys.readouterr().out
    assert "100 images 5 × 5 × 3 of 2 classes" in out
    assert "total          72           8          20" in out
    with pytest.raises(ValueError, match=r"split out of training.*got 'test'"):
        cache.indices("test")


def test_prepare_images_without_data_are_the_digits_in_memory(tmp_path: Path) -> None:
    assert prepare("--out", tmp_path / "cache") == 0
    cache = digits_cache()
    assert_same(cache, open_image_cache(tmp_path / "cache"))
    assert cache.images.shape == (1797, 8, 8, 1)
    assert [len(cache.indices(split)) for split in SPLITS] == [1295, 142, 360]


def test_prepare_images_sha256_follows_the_contents(photos: Path, tmp_path: Path) -> None:
    def digest(name: str, *arguments: str) -> str:
        out = tmp_path / name
        assert prepare("--data", photos, "--out", out, "--size", "5", *arguments) == 0
        return open_image_cache(out).sha256

    before = digest("a")
    assert digest("b") == before
    assert digest("c", "--seed", "1") != before
    assert digest("d", "--validation", "0") != before
    image = photos / "test" / "cat" / "40.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    assert digest("e") != before


def test_prepare_images_writes_segmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = RNG.integers(0, 2, (40, 4, 4)).astype(np.uint8)
    masks[:, 0, 0] = 255
    for i, mask in enumerate(masks):
        for name, pixels in (("images", mask * 9), ("masks", mask)):
            (tmp_path / "parts" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "parts" / name / f"{i:02}.png")
    assert prepare("--data", tmp_path / "parts", "--out", tmp_path / "c", "--size", "4") == 0
    cache = open_image_cache(tmp_path / "c")
    assert cache.kind == "segmentation"
    assert cache.images.shape == (40, 4, 4, 1)
    np.testing.assert_array_equal(cache.labels, np.where(masks == 255, -1, masks.astype(int)))
    assert all(len(cache.indices(split)) for split in SPLITS)
    counts = json.loads((tmp_path / "c" / "provenance.json").read_text())["counts"]
    assert sum(sum(row.values()) for row in counts.values()) == 40 * 15
    assert "counted below: labelled pixels" in capsys.readouterr().out


def test_statistics_do_not_depend_on_chunks_and_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.integers(0, 256, (50, 3, 3, 2)).astype(np.uint8)
    images[..., 1] = 7
    data = ImageSet(
        images=images,
        labels=np.arange(50, dtype=np.int32) % 2,
        splits=np.zeros(50, np.int8),
        classes=("a", "b"),
        form="",
        rule="",
    )
    mean, std = statistics(data)
    assert std[1] == 1
    assert mean[1] == np.float32(7 / 255)
    monkeypatch.setattr("data_prep.images.cache._CHUNK", 7)
    np.testing.assert_array_equal(np.stack(statistics(data)), np.stack([mean, std]))


def test_prepare_images_refuses_bad_input_in_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    out: list[str | Path] = ["--out", tmp_path / "new"]
    cases: dict[str, tuple[list[str | Path], str]] = {
        "missing": (["--data", tmp_path / "absent", *out], "no such file"),
        "empty": (["--data", tmp_path / "empty", *out], "which is none of these"),
        "format": (["--data", photos, *out, "--format", "mnist"], "format"),
        "size": (["--data", photos, *out, "--size", "0"], "size"),
        "fraction": (["--data", photos, *out, "--validation", "1"], "validation"),
        "labels": (["--data", photos, *out, "--labels", "fine"], "cifar100"),
        "required": (["--data", photos], "--out"),
        "out": (["--data", photos, "--out", photos], "which is neither"),
        "parent": (["--data", photos, "--out", tmp_path / "file" / "c"], "file"),
        "argument": (["--data", photos, *out, "cats"], "unexpected argument 'cats'"),
    }
    for name, (arguments, message) in cases.items():
        assert prepare(*arguments) == 1, name
        error = capsys.readouterr().err
        assert error.startswith("error: "), name
        assert error.count("\n") == 1, name
        assert message in error, name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "photos"]


def test_prepare_images_replaces_a_cache_only_when_asked(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", photos, "--out", folder)
    assert prepare(*arguments) == 1
    assert "give --overwrite" in capsys.readouterr().err
    assert open_image_cache(folder).images.shape[1] == 5
    (photos / "test" / "cat" / "40.png").write_bytes(b"")
    assert prepare(*arguments, "--overwrite") == 1
    assert "cannot read" in capsys.readouterr().err
    assert open_image_cache(folder).images.shape[1] == 5
    (photos / "test" / "cat" / "40.png").unlink()
    assert prepare(*arguments, "--overwrite") == 0
    assert open_image_cache(folder).images.shape == (99, 32, 32, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photos"]


def test_prepare_images_full_disk_is_one_line(photos: Path, tmp_path: Path) -> None:
    # A limit on the size of files fails a write as a full disk does.
    code = (
        "import resource, sys; from data_prep.prepare_images import main\n"
        "any_size = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, any_size[1]))\n"
        "status = main(sys.argv)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, any_size); sys.exit(status)"
    )
    arguments = ["--data", str(photos), "--out", str(tmp_path / "cache")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_prepare_images_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("--help") == 0
    out = capsys.readouterr().out
    for flag in ("data", "out", "format", "size", "labels", "validation", "seed", "overwrite"):
        assert f"--{flag}: " in out


def test_open_image_cache_names_what_is_damaged(folder: Path) -> None:
    assert is_image_cache(folder)
    for name in ("images", "labels", "splits"):
        path = folder / f"{name}.npy"
        whole = path.read_bytes()
        for data in (whole[:40], whole[:-1], b""):
            path.write_bytes(data)
            with pytest.raises(ValueError, match=rf"{name}\.npy: expected an array"):
                open_image_cache(folder)
        np.save(path, np.zeros(3))
        with pytest.raises(ValueError, match=rf"{name}\.npy, got"):
            open_image_cache(folder)
        path.unlink()
        with pytest.raises(ValueError, match=f"expected the file {name}.npy"):
            open_image_cache(folder)
        path.write_bytes(whole)
    meta = json.loads((folder / "dataset.json").read_text())
    for change, message in [
        ({"format": "images 2"}, "format 'images 1', got 'images 2'"),
        ({"shape": [5, 5, 1]}, r"images of \[5, 5, 1\].*got \[100, 5, 5, 3\]"),
        ({"mean": [0.5]}, "mean and std of 3 channels"),
        ({"kind": "sounds"}, "a kind out of images, segmentation .*got 'sounds'"),
        ({"kind": "segmentation"}, r"int32 \[100, 5, 5\] in .*labels\.npy"),
    ]:
        (folder / "dataset.json").write_text(json.dumps(meta | change))
        with pytest.raises(ValueError, match=message):
            open_image_cache(folder)
    del meta["mean"]
    (folder / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"got none of \['mean'\]"):
        open_image_cache(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="expected a JSON object"):
        open_image_cache(folder)
    assert not is_image_cache(folder)
    with pytest.raises(ValueError, match="which is not a folder"):
        open_image_cache(folder / "images.npy")
    with pytest.raises(ValueError, match="without one"):
        open_image_cache(folder.parent)


def test_open_image_cache_wants_the_provenance(folder: Path) -> None:
    (folder / "provenance.json").unlink()
    with pytest.raises(ValueError, match=r"expected the file provenance\.json"):
        open_image_cache(folder)


def test_caches_of_audio_and_images_are_told_apart(folder: Path, tmp_path: Path) -> None:
    test_cache.write(tmp_path / "audio", test_cache.rows(), [])
    assert not is_image_cache(tmp_path / "audio")
    with pytest.raises(ValueError, match=r"expected a cache of images .*got one of audio"):
        open_image_cache(tmp_path / "audio")
    with pytest.raises(ValueError, match="got format 'images 1'"):
        open_cache(folder)
    assert prepare("--out", tmp_path / "audio", "--overwrite") == 1
    assert len(open_cache(tmp_path / "audio").samples) == 3


def test_image_cache_imports_stay_light() -> None:
    code = (
        "import sys, data_prep.images.cache\n"
        "print([m for m in ('PIL', 'sklearn', 'absl', 'jax', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
