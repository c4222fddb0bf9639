"""Labelled streams: read from files or made of a cache, and the class of each window."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.command.reading import read_text
from data_prep.speech.audio import Audio
from data_prep.speech.cache import Cache
from data_prep.speech.pools import NEGATIVES, NOISE, pool_of_cache, quiet_negatives
from data_prep.speech.streams import RATE, Options, make_stream

WORD_MS = 1000
_TIME = re.compile(r"\d{1,12}(\.\d*)?", re.ASCII)


class Stream(NamedTuple):
    """A labelled stream: samples [n] float32 at `rate` Hz; truth as (word, start in ms)."""

    name: str
    samples: np.ndarray
    rate: int
    words: list[str]
    times_ms: list[int]


def read_stream(wav: Path, labels: Path, classes: Sequence[str], rate: int) -> Stream:
    """A mono stream at the model's rate and its labels; ValueError for anything else."""
    for path, what in ((wav, "--stream"), (labels, "--labels")):
        if not path.is_file():
            raise ValueError(f"{what}: expected a file, got {path}")
    with Audio(wav) as file:
        if file.rate != rate:
            raise ValueError(f"--stream: expected {rate} Hz, got {file.rate} Hz: {wav}")
        samples = np.concatenate([np.zeros(0, np.float32), *file.blocks()])
    if not len(samples):
        raise ValueError(f"--stream: expected audio, got a file without samples: {wav}")
    words, times = [], []
    for number, line in enumerate(read_text(labels).split("\n"), 1):
        if not line.strip():
            continue
        # A word may have commas in it, its time has none.
        word, comma, time_ms = (part.strip() for part in line.rpartition(","))
        if not comma or not _TIME.fullmatch(time_ms):
            raise ValueError(f"{labels}:{number}: expected `word, ms`, got {line!r}")
        if word not in classes[1:]:
            raise ValueError(
                f"{labels}:{number}: expected a word of {list(classes[1:])}, got {word!r}"
            )
        words.append(word)
        times.append(float(time_ms))
    if not words:
        raise ValueError(f"--labels: expected at least one line `word, ms`, got none in {labels}")
    if max(times) >= 1000 * len(samples) / rate:
        raise ValueError(
            f"--labels: expected times within the {len(samples) / rate:g} s of {wav}, got "
            f"{max(times):g} ms in {labels}"
        )
    return Stream(wav.stem, samples, rate, words, list(map(round, times)))


def validation_streams(cache: Cache, minutes: float = 20.0) -> list[tuple[Stream, dict[str, Any]]]:
    """Streams of a cache's validation clips, and what each was made of; always the same.

    The first is as the protocol has it; where the cache has negatives for validation, in the second
    words lie over these, louder.
    """
    backgrounds = {NOISE: Options(minutes, seed=100)}
    if quiet_negatives(cache.path, "validation"):
        backgrounds[NEGATIVES] = Options(minutes, seed=101, noise_volume=0.2)
    out = []
    for background, options in backgrounds.items():
        pool = pool_of_cache(cache, "validation", background=background)
        samples, placed = make_stream(pool, options)
        times = [round(word.ms) for word in placed]
        name = f"validation words over {background}"
        stream = Stream(name, samples, RATE, [word.label for word in placed], times)
        made = {"split": "validation", "background": background, **dataclasses.asdict(options)}
        out.append((stream, made))
    return out


def window_labels(
    stream: Stream, times_ms: np.ndarray, window_ms: float, classes: Sequence[str]
) -> np.ndarray:
    """Class of each window [T]: a word that covers more than half of it, else silence (0)."""
    labels = np.zeros(len(times_ms), np.int32)
    for word, start in zip(stream.words, stream.times_ms, strict=True):
        overlap = np.minimum(times_ms + window_ms, start + WORD_MS) - np.maximum(times_ms, start)
        labels[overlap > window_ms / 2] = classes.index(word)
    return labels


def to_draw(stream: Stream) -> dict[str, np.ndarray]:
    """What the report draws of a stream: its loudness, and what was said when."""
    return {
        "envelope": envelope(stream.samples, stream.rate // 100),
        "truth_words": np.array(stream.words),
        "truth_ms": np.array(stream.times_ms),
    }


def envelope(samples: np.ndarray, size: int) -> np.ndarray:
    """Peak of every `size` samples (10 ms), float16, for drawing."""
    usable = len(samples) // size * size
    return np.abs(samples[:usable].reshape(-1, size)).max(1).astype(np.float16)
