"""`synthesize --sounds`: music and household noises, with and without the voices."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.speech.index import find
from data_prep.speech.negatives import find_negatives
from data_prep.synthesize import main
from tests.helpers.places import ROOT

KINDS = ("_household_", "_music_")


def synthesize(*arguments: str | Path) -> int:
    return main(["synthesize", *map(str, arguments)])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of each kind, made where there is no espeak-ng."""
    out = tmp_path_factory.mktemp("sounds") / "out"
    missing = tmp_path_factory.mktemp("modules")
    (missing / "espeakng_loader.py").write_text("raise ImportError('it is not installed')")
    command = [sys.executable, "-m", "data_prep.synthesize", "--out", str(out)]
    subprocess.run(
        [*command, "--voices", "0", "--sounds", "2", "--jobs", "2"],
        env=os.environ | {"PYTHONPATH": f"{missing}{os.pathsep}{ROOT}"},
        check=True,
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_sounds_are_minutes_of_each_kind(sounds: Path) -> None:
    assert sorted(path.name for path in sounds.iterdir()) == [*KINDS, "synthesis.json"]
    manifest = json.loads((sounds / "synthesis.json").read_text())
    assert manifest["made_by"] == "data_prep.synthesize"
    assert manifest["options"]["sounds"] == 2
    for kind in KINDS:
        seconds = []
        for path in (sounds / kind).iterdir():
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
            seconds.append(info.duration)
            samples, _ = soundfile.read(path)
            assert 0.09 < np.abs(samples).max() < 0.95, "neither silent nor clipped"
        assert len(seconds) == 6
        assert sum(seconds) == pytest.approx(120, abs=0.01)
        assert 10 <= min(seconds) < max(seconds) <= 30


def test_sounds_are_negatives_of_their_kind(sounds: Path) -> None:
    found = find_negatives([str(sounds / kind) for kind in KINDS])
    assert [each.kind for each in found] == ["household"] * 6 + ["music"] * 6


def test_sounds_follow_the_seed_whatever_the_jobs(sounds: Path, tmp_path: Path) -> None:
    alone = ("--voices", "0", "--sounds")
    assert synthesize("--out", tmp_path / "one", *alone, "2", "--jobs", "1") == 0
    first = contents(sounds)
    assert contents(tmp_path / "one") == first
    assert len(set(first.values())) == len(first) == 13
    assert synthesize("--out", tmp_path / "two", *alone, "1", "--seed", "1") == 0
    assert not set(contents(tmp_path / "two").values()) & set(first.values())


def test_sounds_killed_leave_no_folder_and_come_whole_again(sounds: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_prep.synthesize", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--voices", "0", "--sounds", "500", "--jobs", "1"], start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.rglob("*.wav"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert synthesize("--out", tmp_path / "out", "--voices", "0", "--sounds", "2") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "what was left is swept"
    assert contents(tmp_path / "out") == contents(sounds)


def test_sounds_stand_beside_a_corpus_and_change_none_of_it(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the voices are not installed")
    small = ("--words", "yes", "--voices", "2", "--noise_seconds", "1", "--jobs", "2")
    for name, minutes in (("plain", "0"), ("with", "1")):
        assert synthesize("--out", tmp_path / name, *small, "--sounds", minutes) == 0
    plain, more = contents(tmp_path / "plain"), contents(tmp_path / "with")
    assert len(more) == len(plain) + 6
    assert all(more[name] == data for name, data in plain.items() if name.endswith(".wav"))
    assert not find(tmp_path / "with").ignored


def test_synthesize_refuses_numbers_that_make_no_sounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "new")
    cases: dict[str, tuple[str | Path, ...]] = {
        "--voices: expected 1 or more, or 0 with --sounds alone": (*out, "--voices", "0"),
        "0 with --sounds alone, got": (
            *(*out, "--voices", "0", "--sounds", "1", "--sentences", "2"),
        ),
        "sounds": (*out, "--sounds", "-1"),
        "--sounds=1.5": (*out, "--sounds", "1.5"),
    }
    for message, arguments in cases.items():
        assert synthesize(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
