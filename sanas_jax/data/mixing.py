"""Batches of labelled audio, mixed on the device: a batch is a pure function of (clips, key).

The recipe is that of the SANAS code. A clip is placed at random in a buffer of 1 to 3 s, a segment
of background noise is added most of the time, and the sum is clamped to [-1, 1]. The audio is then
judged in windows of 101 STFT frames (1 s) every 20 frames (200 ms): a window carries the label of
the word where more than half of its samples are word, and 0 (silence) elsewhere.

Beyond that recipe an item may hold several words, cut off by its ends, of changed speed and
amplitude, and noise of a given level, and audio without words between and under them (`Recipe`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from sanas_jax.data.choosing import Choice, choose_item
from sanas_jax.data.clips import SILENCE, UNKNOWN, Clips
from sanas_jax.data.labelling import item_labels
from sanas_jax.data.mix_settings import MixSettings, windows_of
from sanas_jax.data.negatives import RAMP_SECONDS, Heard, hear_negatives, nearness
from sanas_jax.data.tracks import as_float, segment
from sanas_jax.data.variation import read_along, snr_gain, white


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AudioBatch:
    """A batch, time-major where it has steps.

    signal: [B, max_samples] float32 in [-1, 1], zeros after the end of an item
    labels: [T, B] int32, 0 where the mask is false
    mask: [T, B] bool, true for windows that lie within the item
    weight: [T, B] float32, how much a window's loss counts in training
    """

    signal: jax.Array
    labels: jax.Array
    mask: jax.Array
    weight: jax.Array


def draw_batch(clips: Clips, settings: MixSettings, key: jax.Array, batch_size: int) -> AudioBatch:
    """Draw a batch. Row i depends on (clips, settings, key, i) alone, not on `batch_size`."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    return draw_rows(clips, settings, key, jnp.arange(batch_size))


def draw_rows(
    clips: Clips,
    settings: MixSettings,
    key: jax.Array,
    rows: jax.Array,
    sounds: jax.Array | None = None,
) -> AudioBatch:
    """Some rows of a batch, as `draw_batch` draws them.

    Args:
      clips: of one split.
      settings: how they are mixed.
      key: of the batch.
      rows: [B] integers.
      sounds: int16 [B, words, S], the samples of the clips that `chosen_clips` names, where
        `clips.samples` does not hold them.
    """
    _check_draw(clips, settings, key)
    if sounds is None and not clips.samples.shape[0]:
        raise ValueError("sounds: expected the samples of the chosen clips, for they are not here")
    chosen = _choose_rows(clips, settings, key, rows)
    # All of them before any is mixed: the mixing is then one and the same, wherever they come from.
    sounds = clips.samples[chosen.clips] if sounds is None else sounds
    make = partial(_mix_item, clips, settings)

    def in_turn(chosen: Choice, sounds: jax.Array) -> tuple[jax.Array, ...]:
        return lax.map(lambda item: make(*item), (chosen, sounds))

    # On a CPU one after the other: XLA would fuse the batch so that words and noise are computed
    # anew for each of their uses, at twice the time.
    signal, *steps = lax.platform_dependent(chosen, sounds, cpu=in_turn, default=jax.vmap(make))
    labels, mask, weight = (values.T for values in steps)
    return AudioBatch(signal=signal, labels=labels, mask=mask, weight=weight)


def chosen_clips(clips: Clips, settings: MixSettings, key: jax.Array, rows: jax.Array) -> jax.Array:
    """Numbers [B, words] of the clips in rows [B] of a batch; silent ones have a number, too.

    Negatives have no part in them, and need not be there.
    """
    return _choose_rows(clips, settings.without_negatives(), key, rows).clips


def mix(
    words: jax.Array,
    offsets: ArrayLike,
    length: ArrayLike,
    noise: jax.Array,
    gain: ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """Place words [n, S] in an item of `length` samples, `offsets` [n] from its start, with noise.

    offsets: -S to `length`: a word may lie over either end, and is cut off there.
    noise: [buffer] float32, added with `gain`; the buffer is at least as long as a word.
    Returns the signal [buffer], clamped to [-1, 1] and zero from `length` on, and the words' masks
    [n, buffer]: true on all S samples of a word that lie in the item, on the zeros that pad a
    short one too (so the authors' code labels them).
    """
    if words.ndim != 2 or noise.ndim != 1 or words.shape[1] > noise.shape[0]:
        raise ValueError(
            f"words, noise: expected [n, S] and [buffer] with S <= buffer, "
            f"got {words.shape} and {noise.shape}"
        )
    size, offset = words.shape[1], jnp.asarray(offsets)
    if offset.shape != words.shape[:1]:
        raise ValueError(f"offsets: expected [{words.shape[0]}], got {offset.shape}")
    room = jnp.zeros(noise.shape[0] + 2 * size, noise.dtype)
    for word, start in zip(words, offset + size, strict=True):
        there = lax.dynamic_slice(room, (start,), (size,))
        room = lax.dynamic_update_slice(room, there + word, (start,))
    placed = room[size : size + noise.shape[0]]
    position = jnp.arange(noise.shape[0])
    inside = position < length
    signal = jnp.where(inside, jnp.clip(placed + gain * noise, -1.0, 1.0), 0.0)
    begin = offset[:, None]
    return signal, inside & (position >= begin) & (position < begin + size)


def _choose_rows(clips: Clips, settings: MixSettings, key: jax.Array, rows: jax.Array) -> Choice:
    """Fields [B, ...]."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    choose = partial(choose_item, clips, settings)
    # On a CPU in turn here too: in vectors of another length a factor may end in another bit, and
    # a row would depend on how many there are.
    in_turn = partial(lax.map, choose)
    chosen: Choice = lax.platform_dependent(keys, cpu=in_turn, default=jax.vmap(choose))
    return chosen


def _mix_item(
    clips: Clips, settings: MixSettings, choice: Choice, sounds: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """One item with clips int16 [n, S]: signal [max_samples], labels [T], mask [T], weight [T]."""
    length, silent, labels = choice.length, choice.silent, choice.labels
    words = jnp.where(silent[:, None], 0.0, _varied(as_float(sounds), choice))
    noise = _hear_noise(clips, settings, choice)
    if settings.snr_range_db is None:
        gain = settings.max_noise_gain * choice.loudness
    else:
        low, high = settings.snr_range_db
        gain = snr_gain(words, ~silent, noise, length, low + (high - low) * choice.loudness)
    gain = jnp.where(choice.noisy, gain, 0.0)
    heard = None
    if choice.negatives is not None:
        heard = hear_negatives(clips.negatives, choice.negatives, settings.max_samples)
        noise = _with_negatives(
            gain * noise, heard, words, ~silent, choice.offsets, length, settings
        )
        gain = jnp.float32(1)
    signal, masks = mix(words, choice.offsets, length, noise, gain)
    if heard is not None and settings.negative_label == "unknown":
        speech = heard.active & ~(masks & ~silent[:, None]).any(0)
        masks = jnp.concatenate([masks, speech[None]])
        labels = jnp.append(labels, UNKNOWN)
    valid = jnp.arange(settings.num_windows) < windows_of(length, settings)
    found, ratio = item_labels(masks, labels, settings)
    unclear = jnp.abs(ratio - settings.signal_threshold) < settings.unclear_margin
    weight = jnp.where(unclear, jnp.float32(settings.unclear_weight), 1.0)
    return signal, jnp.where(valid, found, SILENCE), valid, weight


def _with_negatives(
    noise: jax.Array,
    heard: Heard,
    words: jax.Array,
    present: jax.Array,
    offsets: jax.Array,
    length: jax.Array,
    settings: MixSettings,
) -> jax.Array:
    """Background [samples] with what an item hears of negatives; words [n, S] are `present` [n]."""
    loudness = snr_gain(words, present, heard.sound, length, heard.ratio_db)
    background = jnp.where(heard.is_sound, loudness * heard.sound, noise)
    # Speech is never louder under words than between them.
    under = jnp.minimum(snr_gain(words, present, heard.speech, length, heard.ratio_db), 1.0)
    ramp = round(RAMP_SECONDS * settings.sample_rate)
    near = nearness(offsets, present, words.shape[1], len(noise), ramp)
    return background + (1 - (1 - under) * near) * heard.speech


def _varied(sounds: jax.Array, choice: Choice) -> jax.Array:
    """Clips [n, S] of changed speed and amplitude."""
    if choice.speed is not None:
        sounds = jax.vmap(read_along)(sounds, choice.speed)
    return sounds if choice.gain is None else sounds * choice.gain[:, None]


def _hear_noise(clips: Clips, settings: MixSettings, choice: Choice) -> jax.Array:
    """Segment of a track, or white noise: [max_samples], which counts up to the item's length."""
    samples = settings.max_samples
    noise = jnp.zeros(samples, jnp.float32)
    if choice.noise is not None:
        noise = as_float(segment(clips.noise, choice.noise, samples))
    if choice.white_noise is not None:
        draws = jax.random.uniform(choice.white_noise, (samples + 1,), jnp.float32)
        noise = jnp.where(draws[-1] < settings.white_noise, white(draws[:-1]), noise)
    return noise


def _check_draw(clips: Clips, settings: MixSettings, key: jax.Array) -> None:
    """ValueError unless a batch can be drawn."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(
            f"key: expected one typed key (jax.random.key), got {key.dtype} {key.shape}"
        )
    size, words = clips.samples.shape[1], settings.words_per_item
    if size > settings.min_samples:
        raise ValueError(
            f"min_seconds: expected room for a clip of {size} samples, "
            f"got {settings.min_samples} samples"
        )
    if words > 1 and settings.overlap_samples >= size:
        raise ValueError(
            f"overlap: expected less than a clip of {size} samples, "
            f"got {settings.overlap_samples} samples"
        )
    needed = size + (words - 1) * (size - settings.overlap_samples)
    room = settings.min_samples + (2 * (size - 1) if settings.cut_words else 0)
    if needed > room:
        raise ValueError(
            f"min_seconds: expected room for {words} words, {needed} samples, got {room} samples"
        )
