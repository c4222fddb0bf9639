"""Background tracks made from random numbers: float64 [samples] at 16 kHz, seeded.

Each has a root mean square of `RMS`, except the taps, whose peaks would clip. What they are made
of, other sounds are made of too.
"""

from collections.abc import Callable

import numpy as np

from data_prep.speech.cache import FRONTEND

RATE = FRONTEND["sample_rate"]
RMS = 0.05  # -26 dB of full scale: at a mixing gain of 0.1 it lies 20-40 dB below a word


def white(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Equal power at all frequencies."""
    return level(rng.standard_normal(samples))


def pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Power falling with frequency, 3 dB an octave."""
    return level(_coloured(rng, samples, 0.5))


def brown(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Power falling with the square of frequency, 6 dB an octave."""
    return level(_coloured(rng, samples, 1.0))


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Mains: 50 Hz and its harmonics, slowly swelling, over a little pink noise."""
    time = np.arange(samples) / RATE
    out = 0.1 * pink(rng, samples) / RMS
    for harmonic in range(1, 21):
        swell = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.02, 0.3) * time + rng.random()))
        tone = np.sin(2 * np.pi * (50.0 * harmonic * time + rng.random()))
        out += rng.uniform(0.3, 1.0) / harmonic * swell * tone
    return level(out)


def taps(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Dishes and fingers on a table: struck resonances, in runs of a rhythm, over a noise floor."""
    out = 0.01 * brown(rng, samples) / RMS
    at = 0.0
    while at < samples / RATE:
        period, modes = rng.uniform(0.12, 0.6), rng.integers(2, 6)
        frequencies = rng.uniform(300, 6_000, modes)  # Hz
        decays = rng.uniform(0.004, 0.06, modes)  # s
        for _ in range(rng.integers(2, 12)):
            start = int((at + rng.normal(0, 0.01)) * RATE)
            struck = ring(frequencies, decays, 0.25)
            add(out, rng.uniform(0.1, 1.0) * struck, start)
            at += period
        at += rng.exponential(0.8)
    return 0.5 * out / np.abs(out).max()


def babble(
    rng: np.random.Generator, samples: int, talk: Callable[[int], np.ndarray], talkers: int = 8
) -> np.ndarray:
    """Several talkers at once; `talk(i)` is the next utterance of talker i, float [n] at 16 kHz."""
    out = np.zeros(samples)
    for talker in range(talkers):
        at = -int(rng.uniform(0, RATE))
        gain = rng.uniform(0.3, 1.0)
        while at < samples:
            utterance = talk(talker)
            add(out, gain * utterance, at)
            at += len(utterance) + int(rng.uniform(0.05, 0.7) * RATE)
    return level(out)


TRACKS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "white_noise": white,
    "pink_noise": pink,
    "brown_noise": brown,
    "mains_hum": hum,
    "dishes": taps,
}


def level(track: np.ndarray) -> np.ndarray:
    """Scale to the root mean square `RMS`; rare peaks may pass full scale and are clipped later."""
    return track * (RMS / np.sqrt(np.mean(track**2)))


def ring(hertz: np.ndarray, decays: np.ndarray, seconds: float) -> np.ndarray:
    """What was struck: the mean of decaying modes of `hertz` [modes], decays [modes] in s."""
    time = np.arange(int(seconds * RATE)) / RATE
    modes = np.exp(-time / decays[:, None]) * np.sin(2 * np.pi * hertz[:, None] * time)
    return modes.mean(axis=0)


def band(rng: np.random.Generator, samples: int, low: float, high: float) -> np.ndarray:
    """White noise that falls off by 6 dB an octave below `low` and above `high` Hz; peak 1."""
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    kept = frequency / np.hypot(frequency, low) * (high / np.hypot(frequency, high))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * kept, samples)
    return noise / np.abs(noise).max()


def wander(rng: np.random.Generator, samples: int, hertz: float) -> np.ndarray:
    """A random course within [0, 1] with `hertz` new values a second, straight between them."""
    values = rng.random(int(samples * hertz / RATE) + 2)
    return np.interp(np.arange(samples) * (hertz / RATE), np.arange(len(values)), values)


def _coloured(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """White noise with amplitudes divided by frequency to the power `slope`, above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum *= np.where(frequency < 20, 0.0, np.maximum(frequency, 20) ** -slope)
    return np.fft.irfft(spectrum, samples)


def add(track: np.ndarray, piece: np.ndarray, start: int) -> None:
    """Add `piece` at `start`; what lies outside of the track is lost."""
    first, last = max(start, 0), min(start + len(piece), len(track))
    if first < last:
        track[first:last] += piece[first - start : last - start]
