"""Masks over features: SpecAugment without warping (Park et al. 2019, arXiv:1904.08779, §2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


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
