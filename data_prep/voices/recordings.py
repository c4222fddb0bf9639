"""Recordings of synthetic speakers and sounds: who speaks, and what a task writes to disk.

Everything is a function of the seed and of the speaker's name or a number, so workers need not
talk.
"""

import dataclasses
import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, FRONTEND
from data_prep.speech.decode import loudest_second, resample, to_int16
from data_prep.speech.index import (
    HOUSEHOLD_FOLDER,
    MUSIC_FOLDER,
    NOISE_FOLDER,
    SENTENCES_FOLDER,
)
from data_prep.speech.wav import write_wav
from data_prep.voices import espeak, noises
from data_prep.voices.household import household
from data_prep.voices.music import music
from data_prep.voices.sentences import holds, sentence

# The thirty words of Speech Commands v0.01.
WORDS = (
    *("bed", "bird", "cat", "dog", "down", "eight", "five", "four", "go", "happy"),
    *("house", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven"),
    *("sheila", "six", "stop", "three", "tree", "two", "up", "wow", "yes", "zero"),
)
# None of these has a default word; of other words, `babble` leaves out those that have one.
BABBLE = (
    "people were walking along the river",
    "could you bring another glass please",
    "we talked about the weather again",
    "my brother arrives this evening",
    "the kitchen smells of fresh bread",
    "they painted every window green",
    "remember to call her about lunch",
    "winter came early that year",
)
# Folder of each kind of sounds and what makes one.
SOUNDS = {MUSIC_FOLDER: music, HOUSEHOLD_FOLDER: household}
RATE = FRONTEND["sample_rate"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `synthesize`."""

    words: tuple[str, ...] = WORDS
    voices: int = 200
    takes: int = 2  # of each word by each voice
    seed: int = 0
    noise_seconds: int = 60  # per background track
    jobs: int = 0  # processes, 0: one per CPU
    sentences: int = 0  # without the words, by each voice
    sounds: int = 0  # minutes of each kind


def babble(rng: np.random.Generator, avoid: Collection[str]) -> str:
    """What one of many talkers says, without the words `avoid`; ValueError if nothing is left."""
    left = [text for text in BABBLE if not holds(text, avoid)]
    return left[rng.integers(len(left))] if left else sentence(rng, avoid)


def draw_voices(count: int, seed: int) -> dict[str, espeak.Voice]:
    """`count` different voices by their speaker name (8 hex digits)."""
    variants = espeak.variants()
    rng = np.random.default_rng([seed, 0])
    voices: dict[str, espeak.Voice] = {}
    while len(voices) < count:
        # All variants once before any twice.
        for variant in rng.permutation(variants):
            voice = espeak.Voice(
                variant=str(variant),
                accent=espeak.ACCENTS[rng.integers(len(espeak.ACCENTS))],
                pitch=int(rng.integers(25, 76)),
                pitch_range=int(rng.integers(20, 81)),
                rate=int(rng.integers(125, 206)),
            )
            name = hashlib.sha1(repr(dataclasses.astuple(voice)).encode()).hexdigest()[:8]
            voices[name] = voice
    return dict(list(voices.items())[:count])


def make_clip(spoken: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A recording from synthesised speech: int16 [n] at `rate` Hz to int16 [16000] at 16 kHz.

    Adds a room, a microphone and its noise, and places the word at random within the second.
    Words longer than 1 s are cut to their loudest second. Peaks lie between -20 and -1 dB.
    """
    word = resample(_trim(spoken) / 32768.0, rate)
    word = _record(word, rng)
    if len(word) > CLIP_SAMPLES:
        word = loudest_second(to_int16(0.5 * word / np.abs(word).max())) / 32768.0
    clip = np.zeros(CLIP_SAMPLES)
    start = int(rng.uniform(0.1, 0.9) * (CLIP_SAMPLES - len(word)))
    clip[start : start + len(word)] = word * (_db(rng.uniform(-20, -1)) / np.abs(word).max())
    floor = _db(rng.uniform(-75, -50)) * rng.standard_normal(CLIP_SAMPLES)
    return to_int16(np.clip(clip + floor, -1, 1))


def _record(
    word: np.ndarray, rng: np.random.Generator, tail_seconds: tuple[float, float] = (0.005, 0.06)
) -> np.ndarray:
    """Room (a decaying random tail) and microphone (high- and low-pass): float [n + tail]."""
    tail = int(rng.uniform(*tail_seconds) * RATE)
    room = rng.standard_normal(tail) * np.exp(-5 * np.arange(tail) / tail)
    room *= _db(rng.uniform(-30, -8)) / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    length = len(word) + tail
    padded = -(-length // 2048) * 2048  # lengths with large prime factors transform slowly
    frequency = np.fft.rfftfreq(padded, 1 / RATE)
    low, high = rng.uniform(30, 250), rng.uniform(3_000, 12_000)  # Hz
    microphone = frequency / np.hypot(frequency, low) * (high / np.hypot(frequency, high))
    spectrum = np.fft.rfft(word, padded) * np.fft.rfft(room, padded) * microphone
    return np.fft.irfft(spectrum, padded)[:length]


def _trim(spoken: np.ndarray) -> np.ndarray:
    """Without the silence around the word (below 1 % of its peak)."""
    size = np.abs(spoken.astype(np.int32))
    loud = np.flatnonzero(size > 0.01 * size.max()) if len(size) else size
    if not len(loud):
        raise ValueError("expected speech from espeak-ng, got silence")
    return spoken[loud[0] : loud[-1] + 1]


def write_speaker(folder: Path, name: str, voice: espeak.Voice, options: Options) -> int:
    """Write all clips of one voice; no two takes are alike."""
    speaker = espeak.Speaker()
    rng = np.random.default_rng([options.seed, 1, int(name, 16)])
    for word in options.words:
        for take in range(options.takes):
            now = dataclasses.replace(
                voice,
                pitch=int(np.clip(voice.pitch + rng.integers(-4, 5), 0, 99)),
                rate=int(voice.rate * rng.uniform(0.9, 1.1)),
            )
            clip = make_clip(speaker.say(word, now), speaker.rate, rng)
            write_wav(folder / word / f"{name}_nohash_{take}.wav", clip)
    return len(options.words) * options.takes


def make_sentence(spoken: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """As `make_clip`, but whole: int16 [n] at `rate` Hz to int16 [samples] at 16 kHz."""
    return _at_some_level(_record(resample(_trim(spoken) / 32768.0, rate), rng), rng)


def _at_some_level(recorded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With a peak of -20 to -1 dB over the noise of a microphone: float to int16 [samples]."""
    recorded *= _db(rng.uniform(-20, -1)) / np.abs(recorded).max()
    floor = _db(rng.uniform(-75, -50)) * rng.standard_normal(len(recorded))
    return to_int16(np.clip(recorded + floor, -1, 1))


def write_sentences(folder: Path, name: str, voice: espeak.Voice, options: Options) -> int:
    """Write what one voice says beside the words."""
    speaker = espeak.Speaker()
    rng = np.random.default_rng([options.seed, 3, int(name, 16)])
    for number in range(options.sentences):
        spoken = speaker.say(sentence(rng, options.words), voice)
        said = make_sentence(spoken, speaker.rate, rng)
        write_wav(folder / SENTENCES_FOLDER / f"{name}_{number}.wav", said)
    return 0


def write_sounds(folder: Path, kind: str, minute: int, options: Options) -> int:
    """Write a minute of sounds of a kind, a name of `SOUNDS`: three files of 10 to 30 s."""
    rng = np.random.default_rng([options.seed, 4, list(SOUNDS).index(kind), minute])
    first, second = rng.uniform(-5, 5, 2)  # s that they are longer than a third of a minute
    for number, longer in enumerate((first, second, -first - second)):
        samples = int((20 + longer) * RATE)
        sound = _record(SOUNDS[kind](rng, samples), rng, tail_seconds=(0.05, 0.8))[:samples]
        write_wav(folder / kind / f"{minute:05d}_{number}.wav", _at_some_level(sound, rng))
    return 0


def write_track(folder: Path, kind: str, number: int, options: Options) -> int:
    """Write one background track."""
    rng = np.random.default_rng([options.seed, 2, number])
    samples = options.noise_seconds * RATE
    if kind == "babble":
        speaker = espeak.Speaker()
        voices = list(draw_voices(8, options.seed + 1).values())

        def talk(talker: int) -> np.ndarray:
            spoken = speaker.say(babble(rng, options.words), voices[talker])
            return resample(_trim(spoken) / 32768.0, speaker.rate)

        track = noises.babble(rng, samples, talk, talkers=len(voices))
    else:
        track = noises.TRACKS[kind](rng, samples)
    write_wav(folder / NOISE_FOLDER / f"{kind}.wav", to_int16(np.clip(track, -1, 1)))
    return 0


def _db(decibels: float) -> float:
    """Amplitude of a level in dB."""
    return float(10 ** (decibels / 20))
