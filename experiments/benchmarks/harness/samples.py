"""The samples of a stream that engines are timed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from sanas_jax.data.features import Frontend


def read_samples(stream: Path, frontend: Frontend, count: int) -> np.ndarray:
    """The first samples [count] of a WAV, float32; ValueError for another rate or too few."""
    audio, rate = soundfile.read(stream, dtype="float32", always_2d=True, frames=count)
    if rate != frontend.sample_rate or len(audio) < count:
        raise ValueError(
            f"--stream: expected {count / frontend.sample_rate:.0f} s at {frontend.sample_rate} "
            f"Hz, got {len(audio) / rate:.0f} s at {rate} Hz: {stream}"
        )
    return np.ascontiguousarray(audio.mean(1))
