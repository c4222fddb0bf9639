"""Audio without the words between and under them: running speech, and sounds as background.

Running speech is heard between the words of an item, as it was recorded but for a gain, and under
them at a ratio to their power; a sound takes the place of the background at such a ratio. Some of
these items hold no words. Speech is labelled by where someone speaks (`Recipe.negative_label`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sanas_jax.data.recipe import Recipe

# Seconds over which running speech falls before a word and rises after it.
RAMP_SECONDS = 0.05


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tracks:
    """Recordings one after another; make them with `Tracks.create`.

    samples: [M] int16
    bounds: [N + 1] int32, recording i is samples[bounds[i]:bounds[i + 1]]
    active: [M / block] bool, where someone speaks, a whole number of samples each
    """

    samples: jax.Array
    bounds: jax.Array
    active: jax.Array

    @classmethod
    def create(
        cls,
        samples: ArrayLike,
        bounds: ArrayLike,
        active: ArrayLike = True,
        *,
        put: Callable[[Any], Any] = jnp.asarray,
    ) -> Tracks:
        """Check the arrays and move them to the device with `put`."""
        audio, edges = np.asarray(samples), np.asarray(bounds)
        speaks = np.atleast_1d(np.asarray(active, bool))
        if audio.ndim != 1 or not audio.size or audio.dtype != np.int16 or audio.size >= 2**31:
            raise ValueError(
                f"samples: expected int16 [samples], fewer than 2^31, "
                f"got {audio.dtype} {audio.shape}"
            )
        if (
            edges.ndim != 1
            or edges.dtype.kind not in "iu"
            or edges.size < 2
            or edges[0] != 0
            or edges[-1] != audio.size
            or (np.diff(edges.astype(np.int64)) <= 0).any()
        ):
            raise ValueError(f"bounds: expected integers that rise from 0 to {audio.size}")
        if speaks.ndim != 1 or not speaks.size or audio.size % speaks.size:
            raise ValueError(
                f"active: expected [blocks] that divide {audio.size} samples, got {speaks.shape}"
            )
        return cls(put(audio), put(edges.astype(np.int32)), put(speaks))

    @property
    def block(self) -> int:
        """Samples of which it is said whether someone speaks."""
        return self.samples.shape[0] // self.active.shape[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Negatives:
    """Of one split; None: there is none of it."""

    speech: Tracks | None = None
    sounds: Tracks | None = None


@dataclass(frozen=True)
class Heard:
    """What an item hears of negatives.

    alone: [], whether it holds no words
    speech: [samples] float32 of running speech, 0 where the item has none
    active: [samples] bool, where someone speaks in it
    sound: [samples] float32 of a sound; is_sound [], whether the item has one
    ratio_db: [], of the words' power to that of negatives under them
    """

    alone: jax.Array
    speech: jax.Array
    active: jax.Array
    sound: jax.Array
    is_sound: jax.Array
    ratio_db: jax.Array


def choose_negatives(
    negatives: Negatives | None,
    recipe: Recipe,
    length: jax.Array,
    samples: int,
    key: jax.Array,
) -> Heard:
    """Segments for an item of `length` of `samples` samples; ValueError if there is none to draw.

    A recording is drawn as often as it is long; one that is shorter than the item is repeated.
    """
    uniform = jax.random.uniform(key, (9,))
    shares = {"speech": recipe.negative_speech, "sounds": recipe.negative_sounds}
    found = {name: getattr(negatives, name, None) for name in shares}
    for name, share in shares.items():
        if share and found[name] is None:
            raise ValueError(f"negative_{name}: expected {name} to draw from, got none")
    nothing = jnp.zeros(samples, jnp.float32)
    speech, sound, active = nothing, nothing, jnp.zeros(samples, bool)
    talks = uniform[0] < recipe.negative_speech
    is_sound = uniform[1] < recipe.negative_sounds
    if found["speech"] is not None and recipe.negative_speech:
        at = _segment(found["speech"], length, samples, uniform[2:4])
        low, high = np.log(recipe.negative_gain)
        gain = jnp.where(talks, jnp.exp(low + (high - low) * uniform[4]), 0.0)
        speech = gain * (found["speech"].samples[at].astype(jnp.float32) / 32768)
        active = talks & found["speech"].active[at // found["speech"].block]
    if found["sounds"] is not None and recipe.negative_sounds:
        at = _segment(found["sounds"], length, samples, uniform[5:7])
        sound = found["sounds"].samples[at].astype(jnp.float32) / 32768
    alone = (talks | is_sound) & (uniform[7] < recipe.negative_alone)
    low, high = recipe.negative_snr_db
    return Heard(alone, speech, active, sound, is_sound, low + (high - low) * uniform[8])


def nearness(offsets: jax.Array, there: jax.Array, size: int, samples: int, ramp: int) -> jax.Array:
    """[samples] in [0, 1]: 1 within a word, 0 further than `ramp` samples from any.

    offsets [n]: where words of `size` samples begin; there [n]: which of them there are.
    """
    position = jnp.arange(samples)
    begin = offsets[:, None]
    away = jnp.maximum(jnp.maximum(begin - position, position - (begin + size - 1)), 0)
    near = jnp.clip(1 - away / ramp, 0.0, 1.0)
    return jnp.where(there[:, None], near, 0.0).max(0)


def _segment(tracks: Tracks, length: jax.Array, samples: int, uniform: jax.Array) -> jax.Array:
    """Indices [samples] of a segment of one recording, which counts up to `length`."""
    total = tracks.samples.shape[0]
    at = jnp.minimum((uniform[0] * total).astype(jnp.int32), total - 1)
    track = jnp.searchsorted(tracks.bounds, at, side="right") - 1
    begin = tracks.bounds[track]
    size = tracks.bounds[track + 1] - begin
    room = jnp.where(size >= length, size - length + 1, size)
    start = jnp.minimum((uniform[1] * room).astype(jnp.int32), room - 1)
    return begin + (start + jnp.arange(samples)) % size
