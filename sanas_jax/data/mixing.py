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

from sanas_jax.data.clips import SILENCE, UNKNOWN, Clips, as_float, below, choose_clip
from sanas_jax.data.labelling import item_labels
from sanas_jax.data.mix_settings import MixSettings, windows_of
from sanas_jax.data.negatives import RAMP_SECONDS, Heard, choose_negatives, nearness
from sanas_jax.data.variation import change_speed, log_uniform, snr_gain, white

# What the keys are for that are folded out of an item's: draws that the plain recipe does without.
MORE_WORDS, PERTURBATION, WHITE_NOISE, NEGATIVES = 1, 2, 3, 4


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
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    # On a CPU one after the other: XLA would fuse the batch so that words and noise are computed
    # anew for each of their uses, at twice the time.
    draw = partial(_draw_item, clips, settings)

    def in_turn(keys: jax.Array, sounds: jax.Array | None) -> tuple[jax.Array, ...]:
        return lax.map(lambda item: draw(*item), (keys, sounds))

    signal, *steps = lax.platform_dependent(keys, sounds, cpu=in_turn, default=jax.vmap(draw))
    labels, mask, weight = (values.T for values in steps)
    return AudioBatch(signal=signal, labels=labels, mask=mask, weight=weight)


def chosen_clips(clips: Clips, settings: MixSettings, key: jax.Array, rows: jax.Array) -> jax.Array:
    """Numbers [B, words] of the clips in rows [B] of a batch; silent ones have a number, too."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    return jax.vmap(lambda key: _draw_words(clips, settings, key)[1])(keys)


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


def _draw_words(
    clips: Clips, settings: MixSettings, key: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array]:
    """An item's uniform numbers [9], [n]; numbers of its clips [n], and whether silent [n]."""
    # All the draws at once: a generator call per draw takes up to twice as long to compile. In
    # float32 with `jax_enable_x64` too: the same numbers.
    uniform = jax.random.uniform(key, (9,), jnp.float32)
    choices, places = uniform[None, :3], uniform[4:5]
    if settings.words_per_item > 1:
        shape = (settings.words_per_item - 1, 4)
        more = jax.random.uniform(jax.random.fold_in(key, MORE_WORDS), shape, jnp.float32)
        choices = jnp.concatenate([choices, more[:, :3]])
        places = jnp.concatenate([places, more[:, 3]])
    index, silent = jax.vmap(partial(choose_clip, clips, settings))(choices)
    return (uniform, places), index, silent


def _draw_item(
    clips: Clips, settings: MixSettings, key: jax.Array, samples: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """One item: signal [max_samples], labels [T], mask [T], weight [T]."""
    (uniform, places), index, silent = _draw_words(clips, settings, key)
    shortest, longest = settings.min_samples, settings.max_samples
    length = shortest + below(jnp.int32(longest - shortest + 1), uniform[3])
    heard = None
    if settings.has_negatives:
        own = jax.random.fold_in(key, NEGATIVES)
        heard = choose_negatives(clips.negatives, settings, length, longest, own)
        silent = silent | heard.alone
    labels = jnp.where(silent, SILENCE, clips.labels[index])
    if samples is None:
        samples = clips.samples[index]
    sounds = _perturbed(as_float(samples), clips.lengths[index], settings, key)
    words = jnp.where(silent[:, None], 0.0, sounds)
    offsets = _choose_offsets(length, clips.samples.shape[1], settings, places)
    noise = _choose_noise(clips, settings, length, uniform[5:7], key)
    if settings.snr_range_db is None:
        gain = settings.max_noise_gain * uniform[7]
    else:
        low, high = settings.snr_range_db
        gain = snr_gain(words, ~silent, noise, length, low + (high - low) * uniform[7])
    gain = jnp.where(uniform[8] < settings.noise_probability, gain, 0.0)
    if heard is not None:
        noise = _with_negatives(gain * noise, heard, words, ~silent, offsets, length, settings)
        gain = jnp.float32(1)
    signal, masks = mix(words, offsets, length, noise, gain)
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


def _perturbed(
    sounds: jax.Array, lengths: jax.Array, settings: MixSettings, key: jax.Array
) -> jax.Array:
    """Clips [n, S] of changed speed and amplitude."""
    plain = (1.0, 1.0)
    if settings.speed_range == plain and settings.gain_range == plain:
        return sounds
    uniform = jax.random.uniform(
        jax.random.fold_in(key, PERTURBATION), (2, len(sounds)), jnp.float32
    )
    if settings.speed_range != plain:
        factors = log_uniform(uniform[0], settings.speed_range)
        sounds = jax.vmap(change_speed)(sounds, lengths, factors)
    return sounds * log_uniform(uniform[1], settings.gain_range)[:, None]


def _choose_offsets(
    length: jax.Array, size: int, settings: MixSettings, uniform: jax.Array
) -> jax.Array:
    """Where words [n] of `size` samples begin, in order of time, from a uniform number each.

    The room that words leave is shared out by sorted uniform numbers, so that all arrangements are
    as likely. A word that is cut has a sample in the item at least.
    """
    words, margin = uniform.shape[0], size - 1 if settings.cut_words else 0
    step = size - settings.overlap_samples
    free = length + 2 * margin - size - (words - 1) * step
    return jnp.sort(below(free + 1, uniform)) + step * jnp.arange(words) - margin


def _choose_noise(
    clips: Clips, settings: MixSettings, length: jax.Array, uniform: jax.Array, key: jax.Array
) -> jax.Array:
    """Segment of a track, or white noise: [max_samples], which counts up to `length`; from two."""
    samples = settings.max_samples
    if clips.noise.shape[0]:
        track = below(jnp.int32(clips.noise_bounds.shape[0] - 1), uniform[0])
        begin = clips.noise_bounds[track]
        size = clips.noise_bounds[track + 1] - begin
        # A track shorter than the item starts anywhere and is repeated, hence the remainder below.
        start = below(jnp.where(size >= length, size - length + 1, size), uniform[1])
        noise = as_float(clips.noise[begin + (start + jnp.arange(samples)) % size])
    else:
        noise = jnp.zeros(samples, jnp.float32)
    if settings.white_noise:
        draws = jax.random.uniform(
            jax.random.fold_in(key, WHITE_NOISE), (samples + 1,), jnp.float32
        )
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
