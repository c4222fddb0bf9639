"""Clips and noise varied on the device: speed, amplitude, and the level of noise against speech."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# RMS over its second of the median clip: 0.049 of the 7093 training clips of the Speech Commands
# subset (5 % to 95 %: 0.007 to 0.156), 0.047 of the 1039 validation clips.
TYPICAL_RMS = 0.05


def change_speed(clip: jax.Array, length: ArrayLike, factor: ArrayLike) -> jax.Array:
    """Play clip [S], whose first `length` samples are sound, `factor` times as fast.

    Speed and pitch change together, by linear interpolation. A faster sound keeps its middle; a
    slower one too, as far as the frame of S samples has room, and is else cut off at both ends.
    """
    size = clip.shape[0]
    duration = jnp.asarray(length) / factor
    room = size - duration
    start = jnp.where(room < 0, room / 2, jnp.clip((length - duration) / 2, 0, room))
    # Samples are the middles of their intervals, so that the first and last are treated alike.
    source = (jnp.arange(size) + 0.5 - start) * factor - 0.5
    source = jnp.clip(source, -1, size)
    below = jnp.floor(source)
    padded = jnp.pad(clip, (1, 2))
    index = below.astype(jnp.int32) + 1
    part = source - below
    return (1 - part) * padded[index] + part * padded[index + 1]


def log_uniform(uniform: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """Factors between two bounds from uniform numbers in [0, 1)."""
    low, high = jnp.log(jnp.asarray(bounds))
    return jnp.exp(low + uniform * (high - low))


def snr_gain(
    words: jax.Array, present: jax.Array, noise: jax.Array, length: ArrayLike, ratio_db: ArrayLike
) -> jax.Array:
    """Gain that brings noise [buffer], of which `length` samples are heard, to a ratio in dB.

    The ratio is of the mean power of the words [n, S] that are `present` [n] (the others are 0) to
    that of the noise. Without words the noise is as loud as if there were a median clip.
    """
    power = _energy(words.reshape(-1)) / (words.shape[1] * jnp.maximum(present.sum(), 1))
    level = jnp.where(power > 0, jnp.sqrt(power), TYPICAL_RMS)
    heard = jnp.where(jnp.arange(noise.shape[0]) < length, noise, 0.0)
    loudness = jnp.sqrt(_energy(heard) / length)
    gain = level / jnp.where(loudness > 0, loudness, 1.0) * 10 ** (-jnp.asarray(ratio_db) / 20)
    return jnp.where(loudness > 0, gain, 0.0)


def white(uniform: jax.Array) -> jax.Array:
    """White noise of the RMS of a median clip from uniform numbers in [0, 1)."""
    return (uniform - 0.5) * (12**0.5 * TYPICAL_RMS)


def _energy(samples: jax.Array) -> jax.Array:
    """Sum of squares of [samples]; a product of vectors is several times as fast on CPU."""
    return jnp.vdot(samples, samples, precision="highest")
