"""Long labelled streams: words at random times over background noise.

The protocol of TensorFlow's generate_streaming_test_wav. One word in every 3 s (a clip of 1 s and a
gap of 2 s), at a uniform offset; background in segments of 1 s that overlap by 0.5 s.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, FRONTEND, UNKNOWN

RATE = FRONTEND["sample_rate"]
RAMP = 500  # samples (31 ms) of linear fade at both ends of a word
STRIDE, CROSSFADE = RATE, RATE // 2  # samples between the starts of segments, and of overlap


@dataclasses.dataclass(frozen=True)
class Pool:
    """What a stream is drawn from.

    `words`: for each wanted word the rows of its clips; `unknown`: rows of all other clips;
    `clip(row)`: int16 [n ≤ 16000]; `noise`: tracks int16 [samples].
    """

    words: dict[str, np.ndarray]
    unknown: np.ndarray
    clip: Callable[[int], np.ndarray]
    noise: Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `make_stream`; times in ms."""

    minutes: float = 60.0
    seed: int = 0
    word_gap_ms: int = 2_000
    unknown_percent: float = 30.0
    noise_volume: float = 0.1


@dataclasses.dataclass(frozen=True)
class Placed:
    """A word of the stream: its label, the sample at which its clip starts, and its row."""

    label: str
    start: int
    row: int

    @property
    def ms(self) -> float:
        """Start in ms."""
        return self.start * 1000 / RATE


def make_stream(pool: Pool, options: Options) -> tuple[np.ndarray, list[Placed]]:
    """Draw a stream: float32 [samples] in [-1, 1] and its words in order of time."""
    if not 0 < options.minutes < math.inf or options.word_gap_ms < 0:
        raise ValueError(f"expected a positive length and a gap of at least 0 ms, got {options}")
    if not 0 <= options.unknown_percent <= 100 or not 0 <= options.noise_volume < math.inf:
        raise ValueError(f"expected a share of 0-100 % and a volume of at least 0, got {options}")
    stream = np.zeros(round(options.minutes * 60 * RATE), np.float32)
    words_rng, noise_rng = np.random.default_rng(options.seed).spawn(2)
    if pool.noise:
        add_background(stream, pool.noise, options.noise_volume, noise_rng)
    placed = place_words(pool, len(stream), options, words_rng)
    if not placed:
        raise ValueError(
            f"expected minutes for a word or more, got {options.minutes:g} with gaps of "
            f"{options.word_gap_ms:g} ms"
        )
    for word in placed:
        clip = ramped(pool.clip(word.row))
        stream[word.start : word.start + len(clip)] += clip
    return np.clip(stream, -1.0, 1.0, out=stream), placed


def place_words(
    pool: Pool, samples: int, options: Options, rng: np.random.Generator
) -> list[Placed]:
    """Choose words and times: one word in each slot of a clip and a gap.

    Its offset in the slot is uniform over the gap, so that clips never overlap.
    """
    gap = options.word_gap_ms * RATE // 1000
    slot = CLIP_SAMPLES + gap
    labels = [word for word, rows in pool.words.items() if len(rows)]
    if not labels and not len(pool.unknown):
        raise ValueError("expected clips in the split, got none")
    placed = []
    for begin in range(0, samples - slot + 1, slot):
        start = begin + int(rng.integers(max(1, gap)))
        unknown = 100 * rng.random() < options.unknown_percent
        if (unknown or not labels) and len(pool.unknown):
            label, rows = UNKNOWN, pool.unknown
        else:
            label = labels[rng.integers(len(labels))]
            rows = pool.words[label]
        placed.append(Placed(label, start, int(rows[rng.integers(len(rows))])))
    return placed


def ramped(clip: np.ndarray) -> np.ndarray:
    """A clip int16 [n] as float32 [n] that rises and falls over `RAMP` samples at its ends.

    Clips shorter than 1 s fall at their own end: the original cuts them off there.
    """
    return clip.astype(np.float32) / 32768 * _envelope(len(clip), RAMP)


def add_background(
    stream: np.ndarray, noise: Sequence[np.ndarray], volume: float, rng: np.random.Generator
) -> None:
    """Add segments of random tracks to `stream`, each with a gain of U(0, volume).

    As in the original, ramps take half of the overlap: a segment is at full gain before the one
    that it overlaps begins to fall, and the noise is louder there.
    """
    length = STRIDE + CROSSFADE
    envelope = _envelope(length, CROSSFADE // 2) * np.float32(1 / 32768)
    for start in range(0, len(stream), STRIDE):
        track = noise[int(rng.integers(len(noise)))]
        offset = rng.integers(max(1, len(track) - length + 1))
        # A track shorter than a segment is repeated.
        segment = np.resize(track[offset : offset + length], length)
        piece = envelope * segment * np.float32(rng.uniform(0, volume))
        stream[start : start + length] += piece[: len(stream) - start]


def _envelope(samples: int, ramp: int) -> np.ndarray:
    """float32 [samples]: up from 0 over `ramp` samples, 1, and down to 1 / ramp."""
    up = np.arange(samples, dtype=np.float32)
    return np.minimum(np.minimum(up, samples - up) / ramp, 1.0)
