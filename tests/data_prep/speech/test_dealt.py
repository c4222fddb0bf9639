"""The fingerprint of how a cache's files are dealt."""

from pathlib import Path

import numpy as np

from data_prep.speech.cache import open_cache
from data_prep.speech.dealt import DIGITS, dealt
from data_prep.speech.negative_cache import NegativeRow, write_negatives
from tests.helpers.toy import write_toy_cache


def test_dealt_follows_splits_and_what_was_heard_of_clips_and_negatives(tmp_path: Path) -> None:
    def made(name: str, *negatives: tuple[int, bool], length: int = 320) -> Path:
        path = write_toy_cache(tmp_path / name)
        samples = np.ones(length, np.int16)
        rows = [NegativeRow(samples, "a.wav", "speech", *each) for each in negatives]
        if rows:
            write_negatives(path, rows)
        return path

    moved = made("moved")
    splits = np.load(moved / "splits.npy")
    splits[0] = 2
    np.save(moved / "splits.npy", splits)
    paths = [
        made("plain"),
        moved,
        made("with", (0, False), (1, False)),
        made("elsewhere", (0, False), (2, False)),
        made("heard", (0, True), (1, False)),
        made("longer", (0, False), (1, False), length=480),
    ]
    found = [dealt(open_cache(path)) for path in paths]
    assert len(set(found)) == len(paths)
    assert {len(each) for each in found} == {DIGITS}
    assert dealt(open_cache(made("again", (0, False), (1, False)))) == found[2]
