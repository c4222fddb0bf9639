"""16-bit mono WAV files with the standard library: a full disk is an OSError, not a decoder's."""

import wave
from pathlib import Path

import numpy as np

from data_prep.speech.cache import FRONTEND


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write int16 [samples] at 16 kHz."""
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"expected int16 [samples], got {samples.dtype} {list(samples.shape)}")
    with path.open("wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(FRONTEND["sample_rate"])
        out.writeframes(samples.astype("<i2").tobytes())
