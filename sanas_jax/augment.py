"""Batches of labelled audio, mixed on the device: a batch is a pure function of (clips, key).

The recipe is that of the SANAS code. A clip is placed at random in a buffer of 1 to 3 s, a segment
of background noise is added most of the time, and the sum is clamped to [-1, 1]. The audio is then
judged in windows of 101 STFT frames (1 s) every 20 frames (200 ms): a window carries the label of
the word where more than half of its samples are word, and 0 (silence) elsewhere.

Labels: 0 is silence and has no clips, 1 is an unknown word, from 2 on are the wanted words.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from sanas_jax.features import Count, num_frames

SILENCE, UNKNOWN, FIRST_WORD = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Clips:
    """The decoded audio of one split; make it with `Clips.create`.

    samples: [N, S] int16, each clip followed by zeros up to S samples
    lengths: [N] int32, samples of the clip before those zeros
    labels: [N] int32, at least 1
    order: [N] int32, the clips sorted by label: the unknown words come first
    counts: [K] int32, clips per label
    noise: [M] int16, the background tracks one after the other; M = 0: there are none
    noise_bounds: [tracks + 1] int32, track i is noise[noise_bounds[i]:noise_bounds[i + 1]]
    """

    samples: jax.Array
    lengths: jax.Array
    labels: jax.Array
    order: jax.Array
    counts: jax.Array
    noise: jax.Array
    noise_bounds: jax.Array

    @classmethod
    def create(
        cls,
        samples: ArrayLike,
        lengths: ArrayLike,
        labels: ArrayLike,
        noise: ArrayLike | None = None,
        noise_bounds: ArrayLike | None = None,
    ) -> Clips:
        """Check the arrays of one split, move them to the device and sort the clips by label."""
        audio, length, label = np.asarray(samples), np.asarray(lengths), np.asarray(labels)
        track = np.zeros(0, np.int16) if noise is None else np.asarray(noise)
        if noise_bounds is None:
            bounds = np.array([0, track.size] if track.size else [0])
        else:
            bounds = np.asarray(noise_bounds)
        if audio.ndim != 2 or not audio.size or audio.dtype != np.int16:
            raise ValueError(
                f"samples: expected int16 [clips, samples], got {audio.dtype} {audio.shape}"
            )
        for name, value in (("lengths", length), ("labels", label)):
            if value.shape != audio.shape[:1] or value.dtype.kind not in "iu":
                raise ValueError(
                    f"{name}: expected integers [{len(audio)}], got {value.dtype} {value.shape}"
                )
        if length.min() < 0 or length.max() > audio.shape[1]:
            raise ValueError(
                f"lengths: expected 0 to {audio.shape[1]}, got {length.min()} to {length.max()}"
            )
        if label.min() < UNKNOWN or label.max() < FIRST_WORD:
            raise ValueError(
                "labels: expected 1 (unknown) or more (0, silence, has no clips) and at least one "
                f"wanted word (2 or more), got {label.min()} to {label.max()}"
            )
        if track.ndim != 1 or track.dtype != np.int16:
            raise ValueError(f"noise: expected int16 [samples], got {track.dtype} {track.shape}")
        if (
            bounds.ndim != 1
            or bounds.dtype.kind not in "iu"
            or not bounds.size
            or bounds[0] != 0
            or bounds[-1] != track.size
            or (np.diff(bounds.astype(np.int64)) <= 0).any()
        ):
            raise ValueError(
                f"noise_bounds: expected integers that rise from 0 to {track.size}, got {bounds}"
            )
        return cls(
            samples=jnp.asarray(audio),
            lengths=jnp.asarray(length, jnp.int32),
            labels=jnp.asarray(label, jnp.int32),
            order=jnp.asarray(np.argsort(label, kind="stable"), jnp.int32),
            counts=jnp.asarray(np.bincount(label), jnp.int32),
            noise=jnp.asarray(track),
            noise_bounds=jnp.asarray(bounds, jnp.int32),
        )


@dataclass(frozen=True)
class MixSettings:
    """How clips and noise are mixed, and how the result is labelled.

    sample_rate: Hz
    min_seconds, max_seconds: the length of an item is uniform between the two
    noise_probability: how often noise is added; its gain is uniform in [0, max_noise_gain]
    silence_fraction, unknown_fraction: items without a word, and with an unknown one, per item
        with a wanted word (as in TensorFlow's speech_commands, so 0.1 is one item in twelve)
    balance: draw wanted words evenly over the words; otherwise every clip is as likely
    window, hop_frames: STFT frames per window, and between windows
    frame_length, frame_hop: samples per STFT frame, and between frames
    signal_threshold: a window is labelled as word where a greater part of it than this is word
    """

    sample_rate: int = 16000
    min_seconds: float = 1.0
    max_seconds: float = 3.0
    noise_probability: float = 0.8
    max_noise_gain: float = 0.3
    silence_fraction: float = 0.1
    unknown_fraction: float = 0.1
    balance: bool = False
    window: int = 101
    hop_frames: int = 20
    frame_length: int = 480
    frame_hop: int = 160
    signal_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window", "hop_frames", "frame_length", "frame_hop"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("noise_probability", "signal_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in ("max_noise_gain", "silence_fraction", "unknown_fraction"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.frame_length % 2 or self.frame_length < self.frame_hop:
            raise ValueError(
                f"frame_length: expected an even number of samples, at least frame_hop = "
                f"{self.frame_hop}, got {self.frame_length}"
            )
        shortest = (self.window - 1) * self.frame_hop
        if not shortest <= self.min_samples <= self.max_samples:
            raise ValueError(
                f"min_seconds, max_seconds: expected {shortest / self.sample_rate} s (one window) "
                f"<= min <= max, got {self.min_seconds} and {self.max_seconds}"
            )

    @property
    def min_samples(self) -> int:
        """Samples of the shortest item."""
        return round(self.min_seconds * self.sample_rate)

    @property
    def max_samples(self) -> int:
        """Samples of the longest item, and of the buffer."""
        return round(self.max_seconds * self.sample_rate)

    @property
    def num_windows(self) -> int:
        """T, the windows of the longest item."""
        return windows_of(self.max_samples, self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AudioBatch:
    """A batch, time-major where it has steps.

    signal: [B, max_samples] float32 in [-1, 1], zeros after the end of an item
    labels: [T, B] int32, 0 where the mask is false
    mask: [T, B] bool, true for windows that lie within the item
    """

    signal: jax.Array
    labels: jax.Array
    mask: jax.Array


def draw_batch(clips: Clips, settings: MixSettings, key: jax.Array, batch_size: int) -> AudioBatch:
    """Draw a batch. Row i depends on (clips, settings, key, i) alone, not on `batch_size`."""
    _check_draw(clips, settings, key, batch_size)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))
    signal, labels, mask = jax.vmap(lambda k: _draw_item(clips, settings, k))(keys)
    return AudioBatch(signal=signal, labels=labels.T, mask=mask.T)


def mix(
    clip: jax.Array,
    offset: ArrayLike,
    length: ArrayLike,
    noise: jax.Array,
    gain: ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """Place clip [S] in an item of `length` samples, `offset` samples from its start, with noise.

    noise: [buffer] float32, added with `gain`; the buffer is at least as long as the clip.
    Returns the signal [buffer], clamped to [-1, 1] and zero from `length` on, and the word mask
    [buffer]: true on all S samples of the clip, on the zeros that pad a short one too (so the
    authors' code labels them).
    """
    if clip.ndim != 1 or noise.ndim != 1 or clip.shape[0] > noise.shape[0]:
        raise ValueError(
            f"clip, noise: expected [S] and [buffer] with S <= buffer, "
            f"got {clip.shape} and {noise.shape}"
        )
    position = jnp.arange(noise.shape[0])
    placed = lax.dynamic_update_slice(jnp.zeros_like(noise), clip, (jnp.asarray(offset),))
    signal = jnp.where(position < length, jnp.clip(placed + gain * noise, -1.0, 1.0), 0.0)
    return signal, (position >= offset) & (position < offset + clip.shape[0])


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


def windows_of(samples: Count, settings: MixSettings) -> Count:
    """Windows that lie within an item of `samples` samples; works on ints and arrays."""
    frames = num_frames(samples, settings.frame_hop)
    return (frames - settings.window) // settings.hop_frames + 1


def _sums(values: jax.Array, size: int, stride: int) -> jax.Array:
    """Sums of `size` neighbours every `stride`."""
    return lax.reduce_window(values, np.int32(0), lax.add, (size,), (stride,), "VALID")


def _draw_item(
    clips: Clips, settings: MixSettings, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One item: signal [max_samples], labels [T], mask [T]."""
    # All the draws at once: a generator call per draw takes up to twice as long to compile.
    uniform = jax.random.uniform(key, (9,))
    size = clips.samples.shape[1]
    index, silent = _choose_clip(clips, settings, uniform[:3])
    label = jnp.where(silent, SILENCE, clips.labels[index])
    clip = jnp.where(silent, 0.0, _as_float(clips.samples[index]))
    shortest, longest = settings.min_samples, settings.max_samples
    length = shortest + _below(jnp.int32(longest - shortest + 1), uniform[3])
    offset = _below(length - size + 1, uniform[4])
    noise, gain = _choose_noise(clips, settings, length, uniform[5:])
    signal, word = mix(clip, offset, length, noise, gain)
    mask = jnp.arange(settings.num_windows) < windows_of(length, settings)
    labels = window_labels(word_ratio(word, settings), label, settings)
    return signal, jnp.where(mask, labels, SILENCE), mask


def _choose_clip(
    clips: Clips, settings: MixSettings, uniform: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Index of a clip, and whether the item is silence instead, from three uniform numbers."""
    unknown, wanted = clips.counts[UNKNOWN], clips.counts[FIRST_WORD:]
    # A split without unknown words draws none: their share goes to the others.
    fraction = jnp.where(unknown > 0, settings.unknown_fraction, 0.0)
    share = uniform[0] * (settings.silence_fraction + fraction + 1)
    silent = share < settings.silence_fraction
    strange = ~silent & (share < settings.silence_fraction + fraction)
    first, count = unknown, wanted.sum()
    if settings.balance:
        present = wanted > 0
        nth = _below(present.sum(), uniform[1])
        word = jnp.argmax(present.cumsum() > nth)
        first, count = unknown + wanted.cumsum()[word] - wanted[word], wanted[word]
    first, count = jnp.where(strange, 0, first), jnp.where(strange, unknown, count)
    return clips.order[first + _below(count, uniform[2])], silent


def _choose_noise(
    clips: Clips, settings: MixSettings, length: jax.Array, uniform: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Segment of a track, [max_samples] (it counts up to `length`), and its gain, from four."""
    if not clips.noise.shape[0]:
        return jnp.zeros(settings.max_samples), jnp.float32(0)
    track = _below(jnp.int32(clips.noise_bounds.shape[0] - 1), uniform[0])
    begin = clips.noise_bounds[track]
    size = clips.noise_bounds[track + 1] - begin
    # A track shorter than the item starts anywhere and is repeated, hence the remainder below.
    start = _below(jnp.where(size >= length, size - length + 1, size), uniform[1])
    segment = clips.noise[begin + (start + jnp.arange(settings.max_samples)) % size]
    gain = settings.max_noise_gain * uniform[2]
    return _as_float(segment), jnp.where(uniform[3] < settings.noise_probability, gain, 0.0)


def _below(count: jax.Array, uniform: jax.Array) -> jax.Array:
    """An integer in [0, count) from a uniform number in [0, 1), which has 23 random bits."""
    # The product may round up to `count`.
    return jnp.minimum((uniform * count).astype(jnp.int32), count - 1)


def _as_float(samples: jax.Array) -> jax.Array:
    """int16 to float32 in [-1, 1)."""
    return samples.astype(jnp.float32) / 32768


def _check_draw(clips: Clips, settings: MixSettings, key: jax.Array, batch_size: int) -> None:
    """ValueError unless a batch can be drawn."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(
            f"key: expected one typed key (jax.random.key), got {key.dtype} {key.shape}"
        )
    if clips.samples.shape[1] > settings.min_samples:
        raise ValueError(
            f"min_seconds: expected room for a clip of {clips.samples.shape[1]} samples, "
            f"got {settings.min_samples} samples"
        )
