"""Audio files of any rate and channel count to 16 kHz mono int16."""

from pathlib import Path

import numpy as np
import soxr

from data_prep.command.reading import read_bytes
from data_prep.speech import cache
from data_prep.speech.audio import Audio

SAMPLE_RATE = cache.FRONTEND["sample_rate"]
LOWEST_MAX_HZ = 2_000


def decode(data: bytes) -> np.ndarray:
    """Decode the bytes of an audio file to int16 [samples] at 16 kHz.

    16-bit mono at 16 kHz passes through bit for bit; all else goes through float32: mean of the
    channels, resampling, rounding with clipping. Raises ValueError on data that is no audio.
    """
    with Audio(data) as file:
        if file.is_plain and file.rate == SAMPLE_RATE:
            samples = file.integers()
        else:
            parts = [np.zeros(0, np.float32), *file.blocks()]
            samples = to_int16(resample(np.concatenate(parts), file.rate))
    if not len(samples):
        raise ValueError("no samples in it")
    return samples


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """float [samples] at `rate` Hz to float at 16 kHz; the filter of librosa's "soxr_hq"."""
    if rate == SAMPLE_RATE:
        return samples
    # soxr comes with librosa; called directly it spares every process librosa's slow import.
    return soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")


def to_int16(samples: np.ndarray) -> np.ndarray:
    """float [-1, 1] to int16, rounded and clipped. Raises ValueError on NaN or infinity."""
    if not np.isfinite(samples).all():
        raise ValueError("samples that are not finite numbers")
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def loudest_second(samples: np.ndarray) -> np.ndarray:
    """Cut int16 [samples] to the 1 s that holds the most energy; shorter clips stay as they are.

    Of windows with equal energy the first is taken.
    """
    if len(samples) <= cache.CLIP_SAMPLES:
        return samples
    energy = np.concatenate([[0], np.cumsum(samples.astype(np.int64) ** 2)])
    start = int(np.argmax(energy[cache.CLIP_SAMPLES :] - energy[: -cache.CLIP_SAMPLES]))
    return samples[start : start + cache.CLIP_SAMPLES]


def read(path: Path) -> np.ndarray:
    """Decode a file to int16 [samples] at 16 kHz. Raises ValueError that names the file."""
    try:
        return decode(read_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_max_hz(max_hz: int) -> None:
    """ValueError unless mel bands may end there: below, some would hold no bin of the spectrum."""
    if not LOWEST_MAX_HZ <= max_hz <= SAMPLE_RATE // 2:
        raise ValueError(
            f"--max_hz: expected {LOWEST_MAX_HZ} to {SAMPLE_RATE // 2} Hz, got {max_hz}"
        )


def mel_matrix(max_hz: int = cache.FRONTEND["fmax"]) -> np.ndarray:
    """Mel filters float32 [40 bands, 241 bins] up to `max_hz` Hz (Slaney scale and norm)."""
    import librosa  # takes 2 s, and nothing else here needs it

    return librosa.filters.mel(
        sr=SAMPLE_RATE,
        n_fft=cache.FRONTEND["n_fft"],
        n_mels=cache.MEL_SHAPE[0],
        fmin=cache.FRONTEND["fmin"],
        fmax=max_hz,
        htk=False,
        norm="slaney",
        dtype=np.float32,
    )
