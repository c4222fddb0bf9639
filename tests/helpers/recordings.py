"""Recordings of noise, and `prepare` as a command."""

from pathlib import Path

import numpy as np
import soundfile

from data_prep.prepare import main

RNG = np.random.default_rng(0)


def save(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = RNG.integers(-9_000, 9_000, (int(seconds * rate), channels)).astype(np.int16)
    soundfile.write(path, samples, rate)
    return samples[:, 0]


def prepare(*arguments: str | Path) -> int:
    return main(["prepare", *map(str, arguments)])
