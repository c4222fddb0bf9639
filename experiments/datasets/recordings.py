"""Recordings without words, laid out one after another in lanes that a model hears side by side."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.speech import decode
from data_prep.speech.cache import is_cache
from data_prep.speech.negative_cache import open_negatives
from data_prep.speech.negatives import find_negatives, left_out
from experiments.datasets.streams import Stream

LANES = 8
# Silence after each recording, so that a window hears one of them: a window and what is smoothed.
GAP_SECONDS = 1.5


class Recording(NamedTuple):
    """int16 [n] samples of a file; whether a word was heard in it; its split, if of a cache."""

    name: str
    samples: np.ndarray
    heard: bool
    split: str | None = None


class Place(NamedTuple):
    """Where a recording begins in its lane, and how long it is, in ms."""

    begin_ms: float
    length_ms: float
    recording: str
    heard: bool


class NegativeSet(NamedTuple):
    """Recordings of one name.

    Fields:
      name: as shown.
      lanes: streams without words.
      places: of each lane, in order of time.
      split: of a cache; None for other audio.
    """

    name: str
    lanes: list[Stream]
    places: list[list[Place]]
    split: str | None = None

    def seconds(self, heard: bool = False) -> float:
        """Length of the recordings in which a word was heard, or of the others."""
        every = [place for lane in self.places for place in lane]
        return sum(place.length_ms for place in every if place.heard == heard) / 1000

    def count(self, heard: bool = False) -> int:
        """Recordings in which a word was heard, or the others."""
        return sum(place.heard == heard for lane in self.places for place in lane)


def read_negative_sets(
    sources: Sequence[str], split: str, heard: Path | None, rate: int
) -> list[NegativeSet]:
    """The sets of sources as of `read_recordings`, for models at `rate` Hz."""
    if rate != decode.SAMPLE_RATE:
        raise ValueError(
            f"--negatives: expected models at {decode.SAMPLE_RATE} Hz, got one at {rate} Hz"
        )
    found = read_recordings(sources, split, heard)
    for name, recordings in found.items():
        if all(recording.heard for recording in recordings):
            raise ValueError(
                f"--negatives: expected recordings in which no word was heard in {name}, got none"
            )
    return [
        lay_out(name, recordings)._replace(split=recordings[0].split)
        for name, recordings in found.items()
    ]


def read_recordings(
    sources: Sequence[str], split: str, heard: Path | None
) -> dict[str, list[Recording]]:
    """Recordings of folders, files (`find_negatives`) and caches, by name; of caches by kind.

    Args:
      sources: a cache, or what `prepare --negatives` takes.
      split: of caches.
      heard: a table of files in which a word was heard, as of `negatives.read_heard`; caches have
        their own.
    """
    caches = [source for source in sources if is_cache(source)]
    others = [source for source in sources if source not in caches]
    if heard is not None and not others:
        raise ValueError("--heard: expected it with folders or files in --negatives, got none")
    passed_over = left_out(others)
    for name, why in passed_over.files:
        print(f"left out: {name}: {why}")
    for line in passed_over.endings:
        print(line)
    found = [
        (kind, [Recording(n.name, decode.read(n.root / n.name), n.heard) for n in own])
        for kind, own in groupby(find_negatives(others, None, heard), lambda each: each.kind)
    ]
    for source in caches:
        found += _of_cache(Path(source), split)
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ValueError(
            f"--negatives: expected sets of different names (NAME=PATH), got {', '.join(names)}"
        )
    return {kind: _audible(kind, recordings) for kind, recordings in found}


def lay_out(name: str, recordings: Sequence[Recording]) -> NegativeSet:
    """Lanes of about the same length, the longest recordings first."""
    lanes: list[list[Recording]] = [[] for _ in range(min(LANES, len(recordings)))]
    filled = [0] * len(lanes)
    for recording in sorted(recordings, key=lambda r: -len(r.samples)):
        lane = filled.index(min(filled))
        lanes[lane].append(recording)
        filled[lane] += len(recording.samples)
    gap = np.zeros(round(GAP_SECONDS * decode.SAMPLE_RATE), np.float32)
    streams, places = [], []
    for number, lane_of in enumerate(lanes):
        at, own = len(gap), []
        parts: list[np.ndarray] = [gap]
        for recording in lane_of:
            length = len(recording.samples)
            own.append(Place(_ms(at), _ms(length), recording.name, recording.heard))
            parts += [recording.samples.astype(np.float32) / 32768, gap]
            at += length + len(gap)
        samples = np.concatenate(parts)
        streams.append(Stream(f"{name} {number}", samples, decode.SAMPLE_RATE, [], []))
        places.append(own)
    return NegativeSet(name, streams, places)


def place_at(places: Sequence[Place], time_ms: float) -> Place:
    """The recording that is heard at a time, or the nearer one in a gap."""
    after = bisect_right(places, time_ms, key=lambda place: place.begin_ms)
    near = places[max(after - 1, 0) : after + 1]
    return min(
        near, key=lambda p: max(p.begin_ms - time_ms, time_ms - p.begin_ms - p.length_ms, 0.0)
    )


def _of_cache(path: Path, split: str) -> list[tuple[str, list[Recording]]]:
    """The recordings of a cache's split, by kind."""
    stored = open_negatives(path)
    rows = [] if stored is None else stored.rows(split).tolist()
    if stored is None or not rows:
        raise ValueError(
            f"--negatives: expected {split} negatives in the cache {path} (prepare --negatives), "
            "got none"
        )
    found: dict[str, list[Recording]] = {kind: [] for kind in sorted(stored.all_kinds)}
    for row in rows:
        samples = np.asarray(stored.file(row))
        recording = Recording(stored.names[row], samples, bool(stored.heard[row]), split)
        found[stored.all_kinds[stored.kinds[row]]].append(recording)
    return [(kind, recordings) for kind, recordings in found.items() if recordings]


def _audible(kind: str, recordings: Iterable[Recording]) -> list[Recording]:
    """The recordings of a kind but those of silence: hours of it would be evidence of nothing."""
    found, silent = [], []
    for each in recordings:
        if each.samples.any():
            found.append(each)
        else:
            silent.append(each.name)
    if not found:
        raise ValueError(f"--negatives: expected a sound in {kind}, got zeros alone in {silent[0]}")
    for name in silent:
        print(f"left out, silent: {kind}/{name}")
    return found


def _ms(samples: int) -> float:
    return 1000 * samples / decode.SAMPLE_RATE
