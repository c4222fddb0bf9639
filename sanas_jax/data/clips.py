"""The decoded clips of one split on the device, and how one of them is chosen.

Labels: 0 is silence and has no clips, 1 is an unknown word, from 2 on are the wanted words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sanas_jax.data.negatives import Negatives
from sanas_jax.data.recipe import Recipe
from sanas_jax.data.tracks import below

SILENCE, UNKNOWN, FIRST_WORD = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Clips:
    """The decoded audio of one split; make it with `Clips.create`.

    samples: [N, S] int16, each clip followed by zeros up to S samples; [0, S] where they are kept
      elsewhere
    lengths: [N] int32, samples of the clip before those zeros
    labels: [N] int32, at least 1
    order: [N] int32, the clips sorted by label: the unknown words come first
    counts: [K] int32, clips per label
    noise: [M] int16, the background tracks one after the other; M = 0: there are none
    noise_bounds: [tracks + 1] int32, track i is noise[noise_bounds[i]:noise_bounds[i + 1]]
    negatives: audio without words, if there is any
    """

    samples: jax.Array
    lengths: jax.Array
    labels: jax.Array
    order: jax.Array
    counts: jax.Array
    noise: jax.Array
    noise_bounds: jax.Array
    negatives: Negatives | None = None

    @classmethod
    def create(
        cls,
        samples: ArrayLike,
        lengths: ArrayLike,
        labels: ArrayLike,
        noise: ArrayLike | None = None,
        noise_bounds: ArrayLike | None = None,
        *,
        negatives: Negatives | None = None,
        put: Callable[[Any], Any] = jnp.asarray,
        with_samples: bool = True,
    ) -> Clips:
        """Check the arrays of one split, move them to the device and sort the clips by label.

        Args:
          samples, lengths, labels, noise, noise_bounds, negatives: as the fields; the last is on
            the device.
          put: what moves an array to the device.
          with_samples: or leave the samples where they are.
        """
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
            samples=put(audio if with_samples else np.zeros((0, audio.shape[1]), np.int16)),
            lengths=put(length.astype(np.int32)),
            labels=put(label.astype(np.int32)),
            order=put(np.argsort(label, kind="stable").astype(np.int32)),
            counts=put(np.bincount(label).astype(np.int32)),
            noise=put(track),
            noise_bounds=put(bounds.astype(np.int32)),
            negatives=negatives,
        )


def choose_clip(clips: Clips, recipe: Recipe, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Index of a clip, and whether the slot is silence instead, from three uniform numbers."""
    unknown, wanted = clips.counts[UNKNOWN], clips.counts[FIRST_WORD:]
    # A split without unknown words draws none: their share goes to the others.
    fraction = jnp.where(unknown > 0, recipe.unknown_fraction, 0.0)
    share = uniform[0] * (recipe.silence_fraction + fraction + 1)
    silent = share < recipe.silence_fraction
    strange = ~silent & (share < recipe.silence_fraction + fraction)
    first, count = unknown, wanted.sum()
    if recipe.balance:
        present = wanted > 0
        nth = below(present.sum(), uniform[1])
        word = jnp.argmax(present.cumsum() > nth)
        first, count = unknown + wanted.cumsum()[word] - wanted[word], wanted[word]
    first, count = jnp.where(strange, 0, first), jnp.where(strange, unknown, count)
    return clips.order[first + below(count, uniform[2])], silent
