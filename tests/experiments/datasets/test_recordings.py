"""Recordings laid out in lanes, and which one is heard when."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.datasets.recordings import (
    GAP_SECONDS,
    Recording,
    lay_out,
    place_at,
    read_negative_sets,
)
from tests.helpers.toy import write_toy_cache

SECONDS = (3, 1, 1, 2, 1, 1, 1, 1, 1, 5)


def test_lay_out_keeps_every_recording_whole_with_gaps_around():
    recordings = [
        Recording(f"{i}", np.full(16_000 * seconds, 1000 + i, np.int16), i == 3)
        for i, seconds in enumerate(SECONDS)
    ]
    found = lay_out("speech", recordings)
    assert len(found.lanes) == len(found.places) == 8
    assert sorted(p.recording for lane in found.places for p in lane) == sorted(map(str, range(10)))
    assert (found.seconds(), found.seconds(heard=True)) == (15.0, 2.0)
    assert (found.count(), found.count(heard=True)) == (9, 1)
    for stream, places in zip(found.lanes, found.places, strict=True):
        sound = np.zeros(len(stream.samples))
        for place in places:
            at = round(16 * place.begin_ms)
            sound[at : at + round(16 * place.length_ms)] = (1000 + int(place.recording)) / 32768
        np.testing.assert_allclose(stream.samples, sound, atol=1e-6)
        gap = round(16_000 * GAP_SECONDS)
        assert not stream.samples[:gap].any()
        assert not stream.samples[-gap:].any()


def test_place_at_is_the_nearer_recording():
    recordings = [Recording(f"{i}", np.ones(16_000, np.int16), False) for i in range(9)]
    places = next(lane for lane in lay_out("s", recordings).places if len(lane) == 2)
    first, second = places
    assert (first.begin_ms, second.begin_ms) == (1500.0, 4000.0)
    for ms, place in ((0, first), (1500, first), (3200, first), (3300, second), (9e9, second)):
        assert place_at(places, ms) is place


def test_read_negative_sets_takes_folders_files_and_caches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache = write_toy_cache(tmp_path / "cache")
    sound = np.full(16_000, 9, np.int16)
    write_negatives(
        cache,
        [
            NegativeRow(sound, "a.wav", "speech", 2, False),
            NegativeRow(sound, "b.wav", "speech", 2, True),
            NegativeRow(sound, "c.wav", "music", 0, False),
        ],
    )
    (tmp_path / "room").mkdir()
    for name in ("hour.flac", "room/x.wav", "room/y.wav"):
        soundfile.write(tmp_path / name, sound, 16_000)
    table = tmp_path / "heard.tsv"
    table.write_text("file\theard\nx.wav\tyes\n")
    sources = [str(cache), str(tmp_path / "room"), f"mine={tmp_path / 'hour.flac'}"]
    found = {each.name: each for each in read_negative_sets(sources, "testing", table, 16_000)}
    counts = {name: (each.count(), each.count(heard=True)) for name, each in found.items()}
    assert counts == {"mine": (1, 0), "room": (1, 1), "speech": (1, 1)}
    splits = {name: each.split for name, each in found.items()}
    assert splits == {"mine": None, "room": None, "speech": "testing"}

    for silent in ("off.wav", "room/off.wav"):
        soundfile.write(tmp_path / silent, np.zeros(16_000), 16_000)
    (room,) = read_negative_sets([str(tmp_path / "room")], "testing", None, 16_000)
    assert room.count() == 2
    assert capsys.readouterr().out == "left out, silent: room/off.wav\n"
    for arguments, message in (
        (([str(tmp_path / "room" / "x.wav")], "testing", table, 16_000), "heard in x, got none"),
        (
            ([str(tmp_path / "off.wav")], "testing", None, 16_000),
            "in off, got zeros alone in off.wav",
        ),
        (([str(tmp_path / "room")] * 2, "testing", None, 16_000), "expected each file once"),
        (([str(cache)], "validation", None, 16_000), "expected validation negatives in the cache"),
        (([str(cache)], "testing", table, 16_000), "--heard: expected it with folders or files"),
        (([f"speech={tmp_path / 'room'}", str(cache)], "testing", None, 16_000), "different names"),
        (([str(tmp_path / "room")], "testing", None, 8_000), "expected models at 16000 Hz, got"),
    ):
        with pytest.raises(ValueError, match=message):
            read_negative_sets(*arguments)
