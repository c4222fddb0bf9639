"""Simple music made from random numbers: float64 [samples] at 16 kHz, seeded.

A piece has a key, a tempo and a progression of chords, played by some of bass, chords, melody and
drums, each with an instrument of its own. It is for sounds in which no word is said, not for ears.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_prep.voices.noises import RATE, add, band, ring

# Degrees of the scale on which chords stand, one a bar.
_PROGRESSIONS = (
    *((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (5, 3, 0, 4), (1, 4, 0, 0), (0, 0, 3, 0)),
    *((0, 6, 5, 4), (0, 2, 3, 4), (0,), (0, 3), (0, 4, 5, 2, 3, 0, 3, 4)),
)
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))  # semitones
_BARS = (3, 4, 4, 4)  # beats; most music is in four


class Instrument(NamedTuple):
    """How a note sounds, whatever its pitch."""

    partials: np.ndarray  # amplitudes of the harmonics, float [partials]
    body: np.ndarray  # resonances, Hz [resonances]: of wood, or of a mouth that sings a vowel
    attack: float  # s until it is loud
    release: float  # s until it is silent, once it is let go
    decay: float  # 1/s: of the first harmonic; the others decay as many times as fast
    vibrato: float  # share of the frequency
    glide: float  # semitones from which a note comes up to its pitch


def draw_instrument(rng: np.random.Generator) -> Instrument:
    """A plucked string or struck key, or else one that is bowed, blown or sung."""
    partials = np.arange(1, 17) ** -rng.uniform(0.6, 2.2) * rng.uniform(0.3, 1.0, 16)
    partials[1::2] *= rng.choice((1.0, 1.0, 0.1))  # as of a clarinet
    body = rng.uniform((250, 700, 2_000), (900, 2_300, 3_200))
    if rng.random() < 0.5:
        return Instrument(partials, body, 0.003, 0.05, rng.uniform(0.8, 5), 0.0, 0.0)
    attack, release = rng.uniform((0.02, 0.05), (0.15, 0.3))
    vibrato, glide = rng.choice((0.0, 1.0)) * rng.uniform(0.003, 0.02), rng.uniform(0, 1.5)
    return Instrument(partials, body, attack, release, 0.0, vibrato, glide)


def note(instrument: Instrument, hertz: float, seconds: float) -> np.ndarray:
    """A note of `hertz` that is let go after `seconds`: float [samples], its release included.

    The harmonics are powers of one decaying rotation, so those of a plucked string decay as in the
    algorithm of Karplus and Strong: the higher the faster.
    """
    time = np.arange(int((seconds + instrument.release) * RATE)) / RATE
    bent = -instrument.glide * np.exp(-time / 0.04) * (0.04 * np.log(2) / 12)  # s
    bent += instrument.vibrato * np.sin(2 * np.pi * 5.5 * time) / (2 * np.pi * 5.5)
    rotation = np.exp(2j * np.pi * hertz * (time - bent) - instrument.decay * time)
    harmonics = hertz * np.arange(1, len(instrument.partials) + 1)
    resonance = 1 / (1 + ((harmonics - instrument.body[:, None]) / 150) ** 2)
    amplitudes = instrument.partials * (0.2 + resonance.sum(axis=0)) * (harmonics < 0.45 * RATE)
    out = np.zeros(len(time), np.complex128)
    for amplitude in amplitudes[::-1]:  # Horner's scheme
        out = (out + amplitude) * rotation
    let_go = (seconds + instrument.release - time) / instrument.release
    return out.imag * np.minimum(np.minimum(1, time / instrument.attack), let_go)


class Score(NamedTuple):
    """What all players of a piece keep to."""

    beat: float  # s
    bar: int  # beats
    roots: list[int]  # degree of the scale for each bar
    scale: tuple[int, ...]  # semitones
    key: float  # Hz of degree 0, in the octave of a bass

    def hertz(self, degree: int, octave: int) -> float:
        """Frequency of a degree, which may lie beyond the scale, some octaves above the bass."""
        above, step = divmod(degree, len(self.scale))
        return self.key * 2 ** (octave + above + self.scale[step] / 12)


def music(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A piece with one player at least; its peak is 1."""
    beat, bar = 60 / rng.uniform(60, 170), int(rng.choice(_BARS))
    bars = -(-samples // int(beat * bar * RATE))
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    roots = [progression[i % len(progression)] for i in range(bars)]
    scale = _SCALES[rng.integers(len(_SCALES))]
    score = Score(beat, bar, roots, scale, 55 * 2 ** (rng.integers(12) / 12))
    chosen = [player for player in _PLAYERS if rng.random() < 0.65]
    out = np.zeros(samples)
    for player in chosen or [_melody]:
        part = np.zeros(samples)
        player(rng, score, part)
        out += rng.uniform(0.2, 1.0) * part / np.abs(part).max()
    return out / np.abs(out).max()


def _bass(rng: np.random.Generator, score: Score, out: np.ndarray) -> None:
    """Root and fifth, some notes a bar."""
    instrument, every = draw_instrument(rng), rng.choice((0.5, 1, 2, score.bar))
    for i in range(int(len(score.roots) * score.bar / every)):
        root = score.roots[int(i * every / score.bar)]
        degree = root + (4 if rng.random() < 0.2 else 0)
        played = note(instrument, score.hertz(degree, 0), 0.9 * every * score.beat)
        add(out, rng.uniform(0.7, 1) * played, _sample(i * every * score.beat))


def _chords(rng: np.random.Generator, score: Score, out: np.ndarray) -> None:
    """Chords, held or strummed, or broken into their notes."""
    instrument, octave = draw_instrument(rng), int(rng.integers(1, 3))
    every, strum = rng.choice((1, 2, score.bar)), rng.choice((0, 0.02, score.beat / 2))
    voices = (0, 2, 4, 6) if rng.random() < 0.3 else (0, 2, 4)
    known: dict[int, np.ndarray] = {}  # a chord sounds as it did before
    for i in range(int(len(score.roots) * score.bar / every)):
        root = score.roots[int(i * every / score.bar)]
        if root not in known:
            seconds = every * score.beat
            tones = [note(instrument, score.hertz(root + v, octave), seconds) for v in voices]
            known[root] = np.zeros(len(tones[0]) + _sample(strum * len(voices)))
            for number, tone in enumerate(tones):
                add(known[root], tone, _sample(strum * number))
        add(out, rng.uniform(0.7, 1) * known[root], _sample(i * every * score.beat))


def _melody(rng: np.random.Generator, score: Score, out: np.ndarray) -> None:
    """Steps along the scale in a rhythm of its own, with rests."""
    instrument, octave = draw_instrument(rng), int(rng.integers(2, 4))
    at, degree = 0.0, int(rng.integers(7))
    while at < len(out) / RATE:
        length = rng.choice((0.5, 0.5, 1, 1, 2)) * score.beat
        degree = int(np.clip(degree + rng.integers(-2, 3), -3, 10))
        if at == 0 or rng.random() < 0.85:  # one that rests all the time has no peak
            played = note(instrument, score.hertz(degree, octave), 0.9 * length)
            add(out, rng.uniform(0.5, 1) * played, _sample(at))
        at += length


def _drums(rng: np.random.Generator, score: Score, out: np.ndarray) -> None:
    """A pattern of a bar on bass drum, snare and hi-hat, repeated with some strokes left out."""
    time = np.arange(RATE // 3) / RATE
    kick = np.exp(-time / 0.08) * np.sin(
        2 * np.pi * (rng.uniform(40, 60) * time - 3 * np.exp(-time / 0.03))
    )
    snare = np.exp(-time / rng.uniform(0.03, 0.1)) * band(rng, len(time), 800, 6_000)
    snare += ring(np.array([rng.uniform(150, 250)]), np.array([0.05]), len(time) / RATE)
    hat = np.exp(-time / rng.uniform(0.01, 0.06)) * band(rng, len(time), 6_000, 8_000)
    steps = 4 * score.bar
    strong = np.arange(steps) % 8
    chances = ((kick, 1, 0.9 * (strong == 0) + 0.1), (snare, 0.7, 0.95 * (strong == 4) + 0.05))
    for drum, loudness, chance in (*chances, (hat, 0.4, np.where(strong % 2, 0.3, 0.8))):
        pattern = np.flatnonzero(rng.random(steps) < chance)
        for bar in range(len(score.roots)):
            for step in pattern[rng.random(len(pattern)) < 0.95]:
                at = (bar * score.bar + step / 4) * score.beat
                add(out, loudness * rng.uniform(0.7, 1) * drum, _sample(at))


_Player = Callable[[np.random.Generator, Score, np.ndarray], None]
_PLAYERS: tuple[_Player, ...] = (_bass, _chords, _melody, _drums)


def _sample(seconds: float) -> int:
    """The sample at a time."""
    return int(seconds * RATE)
