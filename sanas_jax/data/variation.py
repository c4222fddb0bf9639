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
    return read_along(clip, reading(clip.shape[0], length, factor))


def reading(size: int, length: ArrayLike, factor: ArrayLike) -> jax.Array:
    """How `change_speed` reads a clip of `size` samples: where first, and how much further each.

    int32 [4]: whole samples and parts of the first place, then of the step between two. Places are
    counted in whole numbers, so that no two programs round them in different ways.
    """
    unit = 1 << part_bits(size)
    factor = jnp.round(jnp.asarray(factor) * unit) / unit
    duration = jnp.asarray(length) / factor
    room = size - duration
    start = jnp.where(room < 0, room / 2, jnp.clip((length - duration) / 2, 0, room))
    # Samples are the middles of their intervals, so that the first and last are treated alike.
    first = (0.5 - start) * factor - 0.5
    numbers = []
    for value in (first, factor):
        whole = jnp.floor(value)
        numbers += [whole, jnp.floor((value - whole) * unit)]
    return jnp.stack(numbers).astype(jnp.int32)


def read_along(clip: jax.Array, places: jax.Array) -> jax.Array:
    """Samples [S] of a clip [S] at places as of `reading`; silence lies beyond its ends."""
    size = clip.shape[0]
    index, part = along(places, size, jnp.arange(size))
    inside = (index >= -1) & (index < size)
    index = jnp.clip(index, -1, size - 1)
    padded = jnp.pad(clip, 1)
    before, after = padded[index + 1], padded[index + 2]
    return jnp.where(inside, before + part * (after - before), 0.0)


def along(places: jax.Array, size: int, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where samples number `count` ≤ size are read: int32 whole places, and float32 parts."""
    bits = part_bits(size)
    first, first_part, step, step_part = places
    parts = first_part.astype(jnp.uint32) + count.astype(jnp.uint32) * step_part.astype(jnp.uint32)
    index = first + count * step + (parts >> bits).astype(jnp.int32)
    return index, (parts & ((1 << bits) - 1)).astype(jnp.float32) / (1 << bits)


def part_bits(size: int) -> int:
    """Binary digits of a part of a sample, of which `size` steps fit in 32 bits."""
    return 32 - (size + 1).bit_length()


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


def spec_augment(
    features: jax.Array,
    key: jax.Array,
    *,
    time_masks: int = 0,
    time_mask_frames: int = 20,
    frequency_masks: int = 0,
    frequency_mask_bins: int = 7,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Set random bands of features [B, frames, F, 1] to 0, the mean of normalised features.

    Each of the masks of an example is 0 to `time_mask_frames` frames, or 0 to
    `frequency_mask_bins` bins wide, with equal chance, and lies anywhere; masks may overlap. Row i
    depends on (features[i], key, i) alone; with `rows` [B] on rows[i] in place of i.

    Raises:
      ValueError for another shape, a negative count, or a mask that is wider than its axis.
    """
    if features.ndim != 4:
        raise ValueError(f"features: expected [B, frames, F, 1], got {features.shape}")
    masks = (
        ("time_mask", time_masks, time_mask_frames, 1),
        ("frequency_mask", frequency_masks, frequency_mask_bins, 2),
    )
    for name, count, width, axis in masks:
        if count < 0:
            raise ValueError(f"{name}s: expected 0 or more, got {count}")
        if count and not 0 <= width <= features.shape[axis]:
            unit = "frames" if axis == 1 else "bins"
            raise ValueError(f"{name}_{unit}: expected 0 to {features.shape[axis]}, got {width}")
    numbers = jnp.arange(features.shape[0]) if rows is None else rows
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    kept = jax.vmap(_kept, (0, None, None, None))
    for stream, (_, count, width, axis) in enumerate(masks):
        if count:
            keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, stream)
            band = kept(keys, features.shape[axis], count, width)
            shape = tuple(n if i in (0, axis) else 1 for i, n in enumerate(features.shape))
            features = jnp.where(band.reshape(shape), features, 0.0)
    return features


def _kept(key: jax.Array, size: int, count: int, width: int) -> jax.Array:
    """Positions [size] that `count` masks of 0 to `width` leave."""
    widths_key, starts_key = jax.random.split(key)
    widths = jax.random.randint(widths_key, (count, 1), 0, width + 1)
    starts = jax.random.randint(starts_key, (count, 1), 0, size - widths + 1)
    position = jnp.arange(size)
    return ~((position >= starts) & (position < starts + widths)).any(0)
