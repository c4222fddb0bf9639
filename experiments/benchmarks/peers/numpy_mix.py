"""The recipe of kws_modern in plain NumPy, item by item: the peer of `benchmarks.augmentation`.

Written as a data loader would be: only what an item needs is computed, no item waits for another.
Each step stands in `sanas_jax.augment` too; the numbers that are drawn are an argument, so that
both can be held to mix the same streams.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sanas_jax.data.clips import FIRST_WORD, SILENCE, UNKNOWN, Clips
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.variation import part_bits


class Draws(NamedTuple):
    """Uniform numbers of one item with n words.

    choices [n, 3]; places [n]; noise [4]: track, start, gain, whether; words [2, n]: speed, gain.
    """

    choices: np.ndarray
    places: np.ndarray
    noise: np.ndarray
    words: np.ndarray


class HostClips(NamedTuple):
    """`sanas_jax.clips.Clips` as NumPy arrays."""

    samples: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    counts: np.ndarray
    noise: np.ndarray
    noise_bounds: np.ndarray


def host_clips(clips: Clips) -> HostClips:
    """The arrays of a split on the host."""
    return HostClips(*(np.asarray(getattr(clips, name)) for name in HostClips._fields))


def check(settings: MixSettings) -> None:
    """ValueError for a recipe with steps that are not written here."""
    if settings.snr_range_db is not None or settings.white_noise or not settings.balance:
        raise ValueError("recipe: expected balanced words and noise of a track with a gain")
    if settings.min_samples != settings.max_samples:
        raise ValueError("recipe: expected items of one length")


def draw_batch(
    clips: HostClips, settings: MixSettings, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals [B, samples], labels [T, B], weights [T, B] of items drawn one after the other."""
    words = settings.words_per_item
    items = [
        mix_item(
            clips,
            settings,
            Draws(rng.random((words, 3)), rng.random(words), rng.random(4), rng.random((2, words))),
        )
        for _ in range(size)
    ]
    signals, labels, weights = (np.stack(part) for part in zip(*items, strict=True))
    return signals, labels.T, weights.T


def mix_item(
    clips: HostClips, settings: MixSettings, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal [samples], labels [T] and weights [T] of one item."""
    length, size = settings.max_samples, clips.samples.shape[1]
    margin = size - 1 if settings.cut_words else 0
    step = size - settings.overlap_samples
    free = length + 2 * margin - size - (len(draws.places) - 1) * step
    offsets = np.sort([_below(free + 1, place) for place in draws.places]) - margin
    offsets += step * np.arange(len(offsets))
    room = np.zeros(length + 2 * size, np.float32)
    best, label = np.zeros(settings.num_windows), np.zeros(settings.num_windows, int)
    factors = _log_uniform(draws.words[0], settings.speed_range)
    gains = _log_uniform(draws.words[1], settings.gain_range)
    for choice, offset, factor, gain in zip(draws.choices, offsets, factors, gains, strict=True):
        index = _choose(clips, settings, choice)
        if index is None:
            continue
        sound = clips.samples[index].astype(np.float32) / 32768
        room[offset + size : offset + 2 * size] += gain * _change_speed(
            sound, clips.lengths[index], factor
        )
        part = _word_ratio(offset, size, settings)
        label = np.where(part > best, clips.labels[index], label)
        best = np.maximum(part, best)
    signal = room[size : size + length]
    if draws.noise[3] < settings.noise_probability:
        signal = signal + settings.max_noise_gain * draws.noise[2] * _noise(clips, length, draws)
    labels = np.where(best > settings.signal_threshold, label, SILENCE)
    unclear = np.abs(best - settings.signal_threshold) < settings.unclear_margin
    weights = np.where(unclear, settings.unclear_weight, 1.0).astype(np.float32)
    return np.clip(signal, -1, 1).astype(np.float32), labels, weights


def _choose(clips: HostClips, settings: MixSettings, draws: np.ndarray) -> int | None:
    """A clip; None for silence."""
    strange = settings.silence_fraction + settings.unknown_fraction
    share = draws[0] * (strange + 1)
    if share < settings.silence_fraction:
        return None
    unknown, wanted = clips.counts[UNKNOWN], clips.counts[FIRST_WORD:]
    if share < strange:
        first, count = 0, unknown
    else:
        word = np.flatnonzero(wanted)[_below(np.count_nonzero(wanted), draws[1])]
        first, count = unknown + wanted[:word].sum(), wanted[word]
    return int(clips.order[first + _below(count, draws[2])])


def _change_speed(clip: np.ndarray, length: int, factor: float) -> np.ndarray:
    """`sanas_jax.data.variation.change_speed`, which counts speeds in such steps."""
    size = len(clip)
    unit = 1 << part_bits(size)
    factor = round(factor * unit) / unit
    duration = length / factor
    room = size - duration
    start = room / 2 if room < 0 else np.clip((length - duration) / 2, 0, room)
    source = (np.arange(size) + 0.5 - start) * factor - 0.5
    return np.interp(source, np.arange(-1, size + 1), np.pad(clip, 1)).astype(np.float32)


def _noise(clips: HostClips, length: int, draws: Draws) -> np.ndarray:
    """A segment of a track."""
    track = _below(len(clips.noise_bounds) - 1, draws.noise[0])
    begin, end = clips.noise_bounds[track : track + 2]
    size = end - begin
    start = _below(size - length + 1 if size >= length else size, draws.noise[1])
    if size >= start + length:
        found = clips.noise[begin + start : begin + start + length]
    else:
        found = clips.noise[begin + (start + np.arange(length)) % size]
    return found.astype(np.float32) / 32768


def _word_ratio(offset: int, size: int, settings: MixSettings) -> np.ndarray:
    """Part of each window [T] that a word of `size` samples from `offset` on fills."""
    width, hop = settings.frame_length, settings.frame_hop
    frames = 1 + settings.max_samples // hop
    centres = np.arange(frames) * hop
    # Samples before 0 and after the item's end are no word.
    first, last = max(offset, 0), min(offset + size, settings.max_samples)
    low, high = np.maximum(centres - width // 2, first), np.minimum(centres + width // 2, last)
    total = np.concatenate([[0], np.maximum(high - low, 0).cumsum()])
    starts = np.arange(settings.num_windows) * settings.hop_frames
    return (total[starts + settings.window] - total[starts]) / (width * settings.window)


def _below(count: Any, uniform: float) -> int:
    """An integer in [0, count), rounded in float32 as `sanas_jax.clips.below` rounds it."""
    return min(int(np.float32(uniform) * np.float32(count)), int(count) - 1)


def _log_uniform(uniform: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    low, high = np.log(bounds)
    return np.exp(low + uniform * (high - low))
