"""Sounds of a household made from random numbers: float64 [samples] at 16 kHz, seeded.

A scene is what goes on all the time (a fan, water) under what happens now and then (knocks, steps,
typing). Each source is a function of the generator alone, or of it and a number of samples, and
draws what it is made of: material, speed, pitch.
"""

import itertools
from collections.abc import Callable

import numpy as np

from data_prep.voices.noises import RATE, add, band, brown, hum, level, ring, wander


def household(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A scene with two to five sources over a quiet room; its peak is 1."""
    out = 10 ** rng.uniform(-2, 0.2) * brown(rng, samples)
    steady = rng.choice(len(STEADY), rng.integers(3), replace=False)
    for each in steady:
        track = level(STEADY[each](rng, samples))
        out += 10 ** rng.uniform(-1.2, 0) * track
    for each in rng.choice(len(EVENTS), rng.integers(1 if len(steady) else 2, 4), replace=False):
        loudness, gap = 10 ** rng.uniform(-1, 0), rng.uniform(0.5, 5)
        at = rng.exponential(gap)
        while at < samples / RATE:
            piece = EVENTS[each](rng)
            piece *= loudness * rng.uniform(0.3, 1) / np.abs(piece).max()
            add(out, piece, int(at * RATE))
            at += len(piece) / RATE + rng.exponential(gap)
    return out / np.abs(out).max()


def fan(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Air that blades beat: noise and the harmonics of their rate, which floats."""
    low = rng.uniform(50, 200)
    air = band(rng, samples, low, rng.uniform(2, 12) * low)
    return air + 0.1 * _motor(rng, samples, rng.uniform(40, 250), rng.uniform(1, 2))


def vacuum_cleaner(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A whining motor and loud air, pushed to and fro; it runs up and is switched off."""
    time = np.arange(samples) / RATE
    begin, end = rng.uniform((0, 0.6), (0.4, 1.0)) * samples / RATE
    runs = np.clip((time - begin) / 1.0, 0, 1) * np.clip((end - time) / 1.5, 0, 1)
    pitch = rng.uniform(150, 600) * (0.2 + 0.8 * runs)
    air = band(rng, samples, 300, rng.uniform(1_500, 6_000)) * (1 + wander(rng, samples, 1.0))
    return runs * (air + rng.uniform(0.1, 0.4) * _motor(rng, samples, pitch, 0.8))


def water(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A tap that runs: hissing noise that swells, and bubbles, whose pitch rises."""
    low = rng.uniform(200, 1_200)
    hiss = band(rng, samples, low, rng.uniform(2_000, 6_000))
    out = hiss * (0.3 + wander(rng, samples, rng.uniform(1, 8)))
    time = np.arange(RATE // 20) / RATE
    for start in rng.integers(samples, size=int(rng.uniform(1, 25) * samples / RATE)):
        pitch = rng.uniform(400, 2_500) * (1 + rng.uniform(1, 6) * time)
        bubble = np.exp(-time / rng.uniform(0.005, 0.02)) * np.sin(2 * np.pi * pitch * time)
        add(out, rng.uniform(0.1, 0.6) * bubble, start)
    return out


def rummage(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Somebody is about: dull noise that comes and goes."""
    return brown(rng, samples) * wander(rng, samples, rng.uniform(1, 6)) ** 3


def impact(rng: np.random.Generator) -> np.ndarray:
    """Something is struck, once or some times: a door, wood, a glass, metal."""
    low, high, short, long, noise = _MATERIALS[rng.integers(len(_MATERIALS))]
    modes = rng.integers(3, 12)
    hertz = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), modes)))
    struck = ring(hertz, np.exp(rng.uniform(np.log(short), np.log(long), modes)), 6 * long)
    burst = np.exp(-np.arange(len(struck)) / (0.01 * RATE)) * band(rng, len(struck), 100, high)
    struck = struck / np.abs(struck).max() + noise * burst
    strokes = int(rng.choice((1, 1, 1, 2, 3, 4)))
    return _series(rng, lambda: struck, strokes, rng.uniform(0.15, 0.6))


def keyboard(rng: np.random.Generator) -> np.ndarray:
    """Typing: dry clicks, each of a key that goes down and up."""
    tone, pace = rng.uniform(1_000, 5_000), rng.uniform(0.08, 0.25)

    def key() -> np.ndarray:
        modes = tone * rng.uniform(0.5, 1.5, 3)
        click = ring(modes, rng.uniform(0.002, 0.008, 3), 0.12)
        click += 0.3 * np.exp(-np.arange(len(click)) / 60) * band(rng, len(click), 1_500, 7_000)
        add(click, 0.4 * click.copy(), int(rng.uniform(0.05, 0.1) * RATE))
        return click

    return _series(rng, key, int(rng.integers(4, 40)), pace)


def beeps(rng: np.random.Generator) -> np.ndarray:
    """A microwave, a phone, an alarm: pulses of one pitch, of two in turn, or of two at once."""
    pitches = rng.uniform(500, 3_500, rng.choice((1, 1, 2)))
    overtone, together = rng.uniform(0, 0.5), rng.random() < 0.5
    length, pace = rng.uniform(0.05, 0.5), rng.uniform(1.2, 3)
    time = np.arange(int(length * RATE)) / RATE
    edges = np.minimum(1, np.minimum(time, length - time) / 0.005)
    phases = 2 * np.pi * pitches[:, None] * time
    pulses = edges * (np.sin(phases) + overtone * np.sin(3 * phases) * (pitches[:, None] < 2_600))
    turns = itertools.cycle([pulses.mean(axis=0)] if together else pulses)
    count = int(rng.integers(1, 10))
    return _series(rng, lambda: next(turns), count, pace * length, jitter=0.0)


def footsteps(rng: np.random.Generator) -> np.ndarray:
    """Somebody walks: a dull heel, then a scrape of the sole."""
    hertz, hard = rng.uniform(50, 200, 3), rng.uniform(0.05, 0.8)

    def step() -> np.ndarray:
        heel = ring(hertz * rng.uniform(0.9, 1.1), rng.uniform(0.01, 0.04, 3), 0.25)
        scrape = band(rng, len(heel), 500, 5_000) * np.exp(-np.arange(len(heel)) / 300)
        add(heel, 0.2 * hard * scrape, 0)
        add(heel, 0.1 * hard * scrape, int(0.08 * RATE))
        return heel

    count = int(rng.integers(3, 14))
    return _series(rng, step, count, rng.uniform(0.4, 0.8), jitter=0.1)


def paper(rng: np.random.Generator) -> np.ndarray:
    """A page, a bag: crackling high noise."""
    samples = int(rng.uniform(0.3, 2.5) * RATE)
    noise = band(rng, samples, rng.uniform(800, 3_000), 7_500)
    crackle = wander(rng, samples, rng.uniform(60, 300)) ** rng.uniform(3, 10)
    return noise * crackle * wander(rng, samples, 5.0) * np.hanning(samples)


def _motor(
    rng: np.random.Generator, samples: int, pitch: float | np.ndarray, slope: float
) -> np.ndarray:
    """Harmonics of a pitch in Hz, a number or [samples], that floats by one in a hundred."""
    floating = pitch * (0.99 + 0.02 * wander(rng, samples, 0.5))
    rotation = np.exp(2j * np.pi * np.cumsum(floating) / RATE)
    out = np.zeros(samples, np.complex128)
    for harmonic in range(int(min(12, 0.45 * RATE / np.max(floating))), 0, -1):
        out = (out + rng.uniform(0.2, 1) * harmonic**-slope) * rotation
    return out.imag


def _series(
    rng: np.random.Generator,
    make: Callable[[], np.ndarray],
    count: int,
    pace: float,
    jitter: float = 0.25,
) -> np.ndarray:
    """`count` pieces some `pace` seconds apart, of which `jitter` is how unlike they are."""
    starts = np.cumsum(pace * RATE * rng.lognormal(0, jitter, count)).astype(int)
    starts -= starts[0]
    pieces = [rng.uniform(1 - 2 * jitter, 1) * make() for _ in range(count)]
    out = np.zeros(starts[-1] + max(len(piece) for piece in pieces))
    for start, piece in zip(starts, pieces, strict=True):
        add(out, piece, start)
    return out


# What can be struck: the range of its modes, Hz, and of their decays, s; how much of it is noise.
_MATERIALS = (
    (40, 400, 0.03, 0.15, 0.8),  # a door
    (150, 1_500, 0.005, 0.05, 0.4),  # wood
    (1_200, 7_000, 0.03, 0.3, 0.05),  # glass
    (400, 6_000, 0.05, 0.6, 0.1),  # metal
    (300, 3_000, 0.003, 0.02, 0.6),  # plastic
)
_Steady = Callable[[np.random.Generator, int], np.ndarray]
_Event = Callable[[np.random.Generator], np.ndarray]
STEADY: tuple[_Steady, ...] = (hum, fan, vacuum_cleaner, water, rummage)
EVENTS: tuple[_Event, ...] = (impact, keyboard, beeps, footsteps, paper)
