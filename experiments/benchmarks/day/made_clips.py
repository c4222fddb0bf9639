"""A cache of clips that are made on the spot: words that a network can learn, and no recordings.

A word is three tones with overtones that glide, each speaker's at a pitch and pace of their own,
with noise under them. To see that training works and how fast; nothing that it learns is of use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.command.reading import read_npz
from data_prep.speech.cache import (
    CLIP_SAMPLES,
    FRONTEND,
    SILENCE,
    SPLITS,
    UNKNOWN,
    CacheRow,
    write_cache,
)

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = 5  # of which the unknown are made
# Its mel matrix, up to so many Hz: librosa, which makes them, need not be there.
MAX_HZ = 7600
SHIPPED = Path(__file__).parents[2] / "pretrained_models" / "kws" / "frontend.npz"


def write_made_clips(folder: Path, clips_per_word: int, seed: int = 0) -> None:
    """Write a cache of so many clips a word, one in ten for validation and one for tests."""
    rng = np.random.default_rng(seed)
    count = len(WORDS) + OTHERS
    tones = rng.uniform(200, 1800, (count, 3, 2))  # Hz, where each begins and ends

    def rows() -> Iterator[CacheRow]:
        for clip in range(clips_per_word):
            split = {8: "validation", 9: "testing"}.get(clip % 10, "training")
            for word in range(count):
                label = max(1, word - OTHERS + 2)
                samples = _say(tones[word], rng)
                index = max(0, word - OTHERS + 1)
                yield CacheRow(samples, label, index, SPLITS.index(split))

    track = rng.normal(0, 1000, 60 * FRONTEND["sample_rate"]).astype(np.int16)
    write_cache(
        folder,
        rows(),
        noise=[track],
        mel=read_npz(SHIPPED, "the features of a shipped model")["mel"],
        classes=(SILENCE, UNKNOWN, *WORDS),
        all_words=("other", *WORDS),
        max_hz=MAX_HZ,
        provenance={"made_by": "benchmarks.accelerator", "sha256": f"{seed:064d}"},
    )


def _say(tones: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int16 [16000] of a word's tones [3, 2], Hz, in somebody's voice."""
    pitch, length = rng.uniform(0.85, 1.2), int(rng.uniform(0.5, 0.9) * CLIP_SAMPLES)
    begin = rng.integers(0, CLIP_SAMPLES - length + 1)
    places = np.linspace(0, 3, length, endpoint=False)
    part = places.astype(int)
    hertz = pitch * (tones[part, 0] + (tones[part, 1] - tones[part, 0]) * (places - part))
    phase = 2 * np.pi * np.cumsum(hertz) / FRONTEND["sample_rate"]
    tone = (np.sin(phase) + 0.5 * np.sin(2 * phase)) * np.sin(np.pi * (places - part)) ** 0.5
    signal = rng.normal(0, 0.01, CLIP_SAMPLES)
    signal[begin : begin + length] += rng.uniform(0.1, 0.4) * tone
    return np.clip(32768 * signal, -32768, 32767).astype(np.int16)
