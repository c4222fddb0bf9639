"""A small data set for tests of the commands: tones as words, hum as noise."""

from pathlib import Path

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, FRONTEND, MEL_SHAPE, CacheRow, write_cache
from sanas_jax.data import mel

WORDS = ("low", "mid", "high")
CLASSES = ("_silence_", "_unknown_", *WORDS)
CLIPS_PER_WORD = 12


def mel_matrix(max_hz: int | None = None) -> np.ndarray:
    """Bands as librosa makes them up to `max_hz`, or triangles over the lower half of the
    spectrum, float32 [40, 241]."""
    if max_hz is not None:
        return mel.mel_matrix(MEL_SHAPE[0], 480, 16_000, FRONTEND["fmin"], max_hz)
    bands, bins = MEL_SHAPE
    centres = np.linspace(2, 115, bands)[:, None]
    weights = np.maximum(0, 1 - np.abs(np.arange(bins) - centres) / 3)
    return weights.astype(np.float32)


def write_toy_cache(
    path: Path, *, seed: int = 0, noise: bool = True, max_hz: int | None = None
) -> Path:
    """A cache with three words and an unknown one, every split filled; `max_hz`: `mel_matrix`."""
    rng = np.random.default_rng(seed)
    time = np.arange(CLIP_SAMPLES) / 16_000
    rows = []
    for word, hertz in enumerate((3000, 400, 900, 1800)):
        for clip in range(CLIPS_PER_WORD):
            pitch = hertz * rng.uniform(0.95, 1.05)
            tone = 0.3 * np.sin(2 * np.pi * pitch * time) * np.hanning(CLIP_SAMPLES)
            samples = (32767 * (tone + 0.005 * rng.standard_normal(CLIP_SAMPLES))).astype(np.int16)
            rows.append(CacheRow(samples, label=word + 1, word=word, split=clip % 3))
    tracks = [(1000 * rng.standard_normal(20_000)).astype(np.int16) for _ in range(2)]
    write_cache(
        path,
        rows,
        noise=tracks if noise else [],
        mel=mel_matrix(max_hz),
        max_hz=max_hz or FRONTEND["fmax"],
        classes=CLASSES,
        all_words=("other", *WORDS),
        provenance={"sha256": f"{seed:064d}"},
    )
    return path
