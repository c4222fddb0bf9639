"""The mel matrix from numbers: bands of Slaney's Auditory Toolbox, as librosa makes them."""

from __future__ import annotations

import numpy as np

# Hz per mel below 1 kHz, and the factor of 27 mels above.
LINEAR, KNEE, OCTAVES = 200 / 3, 1000.0, 6.4


def mel_matrix(bands: int, n_fft: int, rate: int, min_hz: float, max_hz: float) -> np.ndarray:
    """float32 [bands, n_fft // 2 + 1]: triangles over the power spectrum, of equal area.

    Raises ValueError for edges that are no ascending frequencies below half the rate.
    """
    if not 0 <= min_hz < max_hz <= rate / 2:
        raise ValueError(
            f"min_hz, max_hz: expected 0 ≤ min < max ≤ {rate / 2:g}, got {min_hz:g} and {max_hz:g}"
        )
    edges = _hz(np.linspace(_mel(min_hz), _mel(max_hz), bands + 2))
    away = edges[:, None] - np.linspace(0, rate / 2, n_fft // 2 + 1)
    widths = np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(-away[:-2] / widths[:-1], away[2:] / widths[1:]))
    return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).astype(np.float32)


def _mel(hz: float) -> float:
    if hz < KNEE:
        return hz / LINEAR
    return float(KNEE / LINEAR + 27 * np.log(hz / KNEE) / np.log(OCTAVES))


def _hz(mel: np.ndarray) -> np.ndarray:
    knee = KNEE / LINEAR
    return np.where(mel < knee, LINEAR * mel, KNEE * OCTAVES ** ((mel - knee) / 27))
