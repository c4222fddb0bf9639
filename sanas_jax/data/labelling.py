"""Labels of the windows of a stream, from where its words lie."""

from __future__ import annotations

from functools import partial
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from sanas_jax.data.clips import SILENCE
from sanas_jax.data.features import num_frames
from sanas_jax.data.mix_settings import MixSettings, windows_of


def item_labels(
    masks: jax.Array, labels: jax.Array, settings: MixSettings
) -> tuple[jax.Array, jax.Array]:
    """Labels [T] of an item with n words, and the part [T] of each window that its word fills.

    masks [n, samples] say where each word is, labels [n] what it is. Of two words in a window the
    one with the larger part of it counts, and what is no word (label 0) has none. Two halves of
    words are no word.
    """
    heard = masks & (labels != SILENCE)[:, None]
    ratios = jax.vmap(partial(word_ratio, settings=settings))(heard)
    ratio = ratios.max(0)
    return window_labels(ratio, labels[ratios.argmax(0)], settings), ratio


def word_ratio(mask: jax.Array, settings: MixSettings) -> jax.Array:
    """Part of each window that is word: mask [samples] to [T] in [0, 1].

    It is the mean over the window's STFT frames (centred, zeros outside) of the part of the frame
    that is word; the samples where frames overlap count several times.
    """
    if mask.ndim != 1 or windows_of(mask.shape[0], settings) < 1:
        raise ValueError(f"mask: expected [samples] of a window or more, got {mask.shape}")
    length, hop, window = settings.frame_length, settings.frame_hop, settings.window
    frames = num_frames(mask.shape[0], hop)
    padded = jnp.pad(jnp.asarray(mask, jnp.int32), (length // 2, length // 2))
    # Counts are summed as integers: a half is then a half exactly.
    block = gcd(length, hop)
    blocks = padded[: (frames - 1) * hop + length].reshape(-1, block).sum(1)
    per_frame = _sums(blocks, length // block, hop // block)
    per_window = _sums(per_frame, window, settings.hop_frames)
    return per_window / jnp.float32(length * window)


def window_labels(ratio: jax.Array, label: ArrayLike, settings: MixSettings) -> jax.Array:
    """`label` where more than the threshold of the window is word, else silence; int32."""
    return jnp.where(ratio > settings.signal_threshold, jnp.int32(label), SILENCE)


def _sums(values: jax.Array, size: int, stride: int) -> jax.Array:
    """Sums of `size` neighbours every `stride`."""
    return lax.reduce_window(values, np.int32(0), lax.add, (size,), (stride,), "VALID")
