"""What an item of a batch is made of: which clips, which noise, where, how fast and how loud.

Numbers alone, no audio: they are drawn for a whole batch at once, and `mixing` then makes the audio
of one item after another. In one program for both, XLA would find each number anew for every sample
that it touches, at three times the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sanas_jax.data.clips import SILENCE, Clips, choose_clip
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.negatives import NegativeChoice, choose_negatives
from sanas_jax.data.tracks import below
from sanas_jax.data.variation import log_uniform, reading

# What the keys are for that are folded out of an item's: draws that the plain recipe does without.
MORE_WORDS, PERTURBATION, WHITE_NOISE, NEGATIVES = 1, 2, 3, 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Choice:
    """Of one item with n words; None: the recipe does not ask for it.

    length: [] samples
    clips: [n] numbers of clips, silent ones have one, too
    silent: [n] bool, no word there; labels: [n]
    offsets: [n] samples from the item's start
    speed: [n, 4], how clips are read at a changed speed (`variation.reading`)
    gain: [n] factors of amplitude
    noise: [3], where a track begins, its samples, and where in it the item's noise starts
    loudness: [] uniform in [0, 1), of that noise; noisy: [] bool, whether there is any
    white_noise: [] key of white noise
    negatives: of audio without words
    """

    length: jax.Array
    clips: jax.Array
    silent: jax.Array
    labels: jax.Array
    offsets: jax.Array
    speed: jax.Array | None
    gain: jax.Array | None
    noise: jax.Array | None
    loudness: jax.Array
    noisy: jax.Array
    white_noise: jax.Array | None
    negatives: NegativeChoice | None


def choose_item(clips: Clips, settings: MixSettings, key: jax.Array) -> Choice:
    """An item of the recipe, from its key."""
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
    shortest, longest = settings.min_samples, settings.max_samples
    length = shortest + below(jnp.int32(longest - shortest + 1), uniform[3])
    negatives = None
    if settings.has_negatives:
        own = jax.random.fold_in(key, NEGATIVES)
        negatives = choose_negatives(clips.negatives, settings, length, own)
        silent = silent | negatives.alone
    size, lengths = clips.samples.shape[1], clips.lengths[index]
    speed, gain = _choose_variation(size, lengths, settings, key)
    return Choice(
        length=length,
        clips=index,
        silent=silent,
        labels=jnp.where(silent, SILENCE, clips.labels[index]),
        offsets=_choose_offsets(length, size, settings, places),
        speed=speed,
        gain=gain,
        noise=_choose_noise(clips, length, uniform[5:7]) if clips.noise.shape[0] else None,
        loudness=uniform[7],
        noisy=uniform[8] < settings.noise_probability,
        white_noise=jax.random.fold_in(key, WHITE_NOISE) if settings.white_noise else None,
        negatives=negatives,
    )


def _choose_variation(
    size: int, lengths: jax.Array, settings: MixSettings, key: jax.Array
) -> tuple[jax.Array | None, jax.Array | None]:
    """Speed and gain of clips of `size` samples, the first `lengths` [n] of them sound."""
    plain = (1.0, 1.0)
    if settings.speed_range == plain and settings.gain_range == plain:
        return None, None
    shape = (2, len(lengths))
    uniform = jax.random.uniform(jax.random.fold_in(key, PERTURBATION), shape, jnp.float32)
    speed = None
    if settings.speed_range != plain:
        factors = log_uniform(uniform[0], settings.speed_range)
        speed = jax.vmap(partial(reading, size))(lengths, factors)
    return speed, log_uniform(uniform[1], settings.gain_range)


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


def _choose_noise(clips: Clips, length: jax.Array, uniform: jax.Array) -> jax.Array:
    """A track [2] and where in it the noise starts [1], from two uniform numbers."""
    track = below(jnp.int32(clips.noise_bounds.shape[0] - 1), uniform[0])
    begin = clips.noise_bounds[track]
    size = clips.noise_bounds[track + 1] - begin
    # A track shorter than the item starts anywhere and is repeated.
    start = below(jnp.where(size >= length, size - length + 1, size), uniform[1])
    return jnp.stack([begin, size, start])
