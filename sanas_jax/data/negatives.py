"""Audio without the words between and under them: running speech, and sounds as background.

Running speech is heard between the words of an item, as it was recorded but for speed and a gain,
and under them at a ratio to their power; a sound takes the place of the background at such a ratio.
Some of these items hold no words. Speech is labelled by where someone speaks
(`Recipe.negative_label`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.tracks import (
    Tracks,
    as_float,
    below,
    choose_segment,
    places,
    segment,
    segment_around,
)
from sanas_jax.data.variation import along, log_uniform, reading

# Seconds over which running speech falls before a word and rises after it.
RAMP_SECONDS = 0.05
# Folded into the key of an item's negatives: draws that other recipes do without.
SPEED, MINED = 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Negatives:
    """Of one split; None: there is none of it.

    speech, sounds: recordings
    mined: [n, 2] int32, stretches of speech that a network took for words: the first sample of
      each and the one after its last, both of one recording
    """

    speech: Tracks | None = None
    sounds: Tracks | None = None
    mined: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NegativeChoice:
    """Which negatives an item hears.

    alone: [] bool, whether it holds no words
    talks, is_sound: [] bool, whether there is running speech, and a sound
    gain: [] of running speech between words
    ratio_db: [], of the words' power to that of negatives under them
    speech, sounds: [3], segments of the tracks; None: the recipe asks for none
    speed: [4], how running speech is read (`variation.reading`); None: sample by sample
    """

    alone: jax.Array
    talks: jax.Array
    is_sound: jax.Array
    gain: jax.Array
    ratio_db: jax.Array
    speech: jax.Array | None
    sounds: jax.Array | None
    speed: jax.Array | None


class Heard(NamedTuple):
    """The audio of an item's negatives.

    speech: [samples] float32 of running speech, 0 where the item has none
    active: [samples] bool, where someone speaks in it
    sound: [samples] float32 of a sound; is_sound [], whether the item has one
    ratio_db: [], of the words' power to that of negatives under them
    """

    speech: jax.Array
    active: jax.Array
    sound: jax.Array
    is_sound: jax.Array
    ratio_db: jax.Array


def choose_negatives(
    negatives: Negatives | None, settings: MixSettings, length: jax.Array, key: jax.Array
) -> NegativeChoice:
    """What an item of `length` samples has of them; ValueError if there is none to draw."""
    uniform = jax.random.uniform(key, (9,), jnp.float32)
    speed = _choose_speed(settings, key)
    read = length
    if speed is not None:  # the last sample lies between two
        read = along(speed, settings.max_samples, length - 1)[0] + 2
    low, high = settings.negative_snr_db
    talks = uniform[0] < settings.negative_speech
    is_sound = uniform[1] < settings.negative_sounds
    return NegativeChoice(
        alone=(talks | is_sound) & (uniform[7] < settings.negative_alone),
        talks=talks,
        gain=log_uniform(uniform[4], settings.negative_gain),
        is_sound=is_sound,
        ratio_db=low + (high - low) * uniform[8],
        speech=_choose_talk(negatives, settings, read, uniform[2:4], key),
        sounds=_choose_sound(negatives, settings, length, uniform[5:7]),
        speed=speed,
    )


def hear_negatives(negatives: Negatives | None, choice: NegativeChoice, samples: int) -> Heard:
    """The audio of a choice, of an item of so many samples."""
    nothing = jnp.zeros(samples, jnp.float32)
    speech, sound, active = nothing, nothing, jnp.zeros(samples, bool)
    if negatives is not None and negatives.speech is not None and choice.speech is not None:
        tracks = negatives.speech
        talk, at = _read(tracks, choice.speech, choice.speed, samples)
        speech = jnp.where(choice.talks, choice.gain, 0.0) * talk
        active = choice.talks & tracks.active[at // tracks.block]
    if negatives is not None and negatives.sounds is not None and choice.sounds is not None:
        sound = as_float(segment(negatives.sounds.samples, choice.sounds, samples))
    return Heard(speech, active, sound, choice.is_sound, choice.ratio_db)


def _choose_speed(settings: MixSettings, key: jax.Array) -> jax.Array | None:
    """How running speech is read, from its first sample on; None: as it was recorded."""
    if settings.negative_speed_range == (1.0, 1.0):
        return None
    uniform = jax.random.uniform(jax.random.fold_in(key, SPEED), (), jnp.float32)
    factor, size = log_uniform(uniform, settings.negative_speed_range), settings.max_samples
    return reading(size, size, factor).at[:2].set(0)


def _choose_talk(
    negatives: Negatives | None,
    settings: MixSettings,
    length: jax.Array,
    uniform: jax.Array,
    key: jax.Array,
) -> jax.Array | None:
    """A segment of speech from anywhere, or as often as is asked for around a mined stretch."""
    if not settings.negative_speech:
        return None
    if negatives is None or negatives.speech is None:
        raise ValueError("negative_speech: expected speech to draw from, got none")
    anywhere = choose_segment(negatives.speech, length, uniform)
    if not settings.negative_mined:
        return anywhere
    if negatives.mined is None:
        raise ValueError("negative_mined: expected mined stretches to draw from, got none")
    draws = jax.random.uniform(jax.random.fold_in(key, MINED), (3,), jnp.float32)
    stretch = negatives.mined[below(jnp.int32(negatives.mined.shape[0]), draws[1])]
    around = segment_around(negatives.speech, stretch, length, draws[2])
    return jnp.where(draws[0] < settings.negative_mined, around, anywhere)


def _choose_sound(
    negatives: Negatives | None, settings: MixSettings, length: jax.Array, uniform: jax.Array
) -> jax.Array | None:
    """A segment of a sound from anywhere."""
    if not settings.negative_sounds:
        return None
    if negatives is None or negatives.sounds is None:
        raise ValueError("negative_sounds: expected sounds to draw from, got none")
    return choose_segment(negatives.sounds, length, uniform)


def _read(
    tracks: Tracks, chosen: jax.Array, speed: jax.Array | None, samples: int
) -> tuple[jax.Array, jax.Array]:
    """A segment at a speed, interpolated between samples, and where these lie: [samples] each."""
    count = jnp.arange(samples)
    if speed is None:
        at = places(chosen, count)
        return as_float(tracks.samples[at]), at
    index, part = along(speed, samples, count)
    at, next_to_it = places(chosen, index), places(chosen, index + 1)
    before, after = as_float(tracks.samples[at]), as_float(tracks.samples[next_to_it])
    return before + part * (after - before), at


def nearness(offsets: jax.Array, there: jax.Array, size: int, samples: int, ramp: int) -> jax.Array:
    """[samples] in [0, 1]: 1 within a word, 0 further than `ramp` samples from any.

    offsets [n]: where words of `size` samples begin; there [n]: which of them there are.
    """
    position = jnp.arange(samples)
    begin = offsets[:, None]
    away = jnp.maximum(jnp.maximum(begin - position, position - (begin + size - 1)), 0)
    near = jnp.clip(1 - away / ramp, 0.0, 1.0)
    return jnp.where(there[:, None], near, 0.0).max(0)
