"""Recordings one after another in a single array, and segments of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tracks:
    """Recordings one after another; make them with `Tracks.create`.

    samples: [M] int16
    bounds: [N + 1] int32, recording i is samples[bounds[i]:bounds[i + 1]]
    active: [M / block] bool, where someone speaks, a whole number of samples each
    """

    samples: jax.Array
    bounds: jax.Array
    active: jax.Array

    @classmethod
    def create(
        cls,
        samples: ArrayLike,
        bounds: ArrayLike,
        active: ArrayLike = True,
        *,
        put: Callable[[Any], Any] = jnp.asarray,
    ) -> Tracks:
        """Check the arrays and move them to the device with `put`."""
        audio, edges = np.asarray(samples), np.asarray(bounds)
        speaks = np.atleast_1d(np.asarray(active, bool))
        if audio.ndim != 1 or not audio.size or audio.dtype != np.int16 or audio.size >= 2**31:
            raise ValueError(
                f"samples: expected int16 [samples], fewer than 2^31, "
                f"got {audio.dtype} {audio.shape}"
            )
        if (
            edges.ndim != 1
            or edges.dtype.kind not in "iu"
            or edges.size < 2
            or edges[0] != 0
            or edges[-1] != audio.size
            or (np.diff(edges.astype(np.int64)) <= 0).any()
        ):
            raise ValueError(f"bounds: expected integers that rise from 0 to {audio.size}")
        if speaks.ndim != 1 or not speaks.size or audio.size % speaks.size:
            raise ValueError(
                f"active: expected [blocks] that divide {audio.size} samples, got {speaks.shape}"
            )
        return cls(put(audio), put(edges.astype(np.int32)), put(speaks))

    @property
    def block(self) -> int:
        """Samples of which it is said whether someone speaks."""
        return self.samples.shape[0] // self.active.shape[0]


def choose_segment(tracks: Tracks, length: jax.Array, uniform: jax.Array) -> jax.Array:
    """Where a recording begins, its samples, and where in it a segment starts: [3] int32.

    From two uniform numbers; a recording is drawn as often as it is long. `length` samples of the
    segment count.
    """
    total = tracks.samples.shape[0]
    at = below(jnp.int32(total), uniform[0])
    begin, size = _recording(tracks, at)
    room = jnp.where(size >= length, size - length + 1, size)
    start = below(room, uniform[1])
    return jnp.stack([begin, size, start])


def segment_around(
    tracks: Tracks, stretch: jax.Array, length: jax.Array, uniform: jax.Array
) -> jax.Array:
    """A segment, as `choose_segment` gives it, that holds a stretch of a recording: [3] int32.

    The stretch [2], its first sample and the one after its last, lies anywhere in the segment's
    `length` samples by a uniform number, as far as the recording goes on around it. Of one that is
    longer they are the beginning.
    """
    first, end = stretch
    begin, size = _recording(tracks, first)
    before = jnp.maximum(length - (end - first), 0)
    start = first - begin - below(before + 1, uniform)
    # A recording that is shorter than the segment is repeated.
    start = jnp.where(size >= length, jnp.clip(start, 0, size - length), start % size)
    return jnp.stack([begin, size, start])


def places(chosen: jax.Array, index: jax.Array) -> jax.Array:
    """Where samples `index` of a segment `chosen` [3] lie; a short recording is repeated."""
    begin, size, start = chosen
    return begin + (start + index) % size


def segment(values: jax.Array, chosen: jax.Array, samples: int) -> jax.Array:
    """The first samples of values [M], as `places` says: [samples]."""
    return values[places(chosen, jnp.arange(samples))]


def _recording(tracks: Tracks, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the recording of a sample begins, and how many it has."""
    track = jnp.searchsorted(tracks.bounds, at, side="right") - 1
    begin = tracks.bounds[track]
    return begin, tracks.bounds[track + 1] - begin


def as_float(samples: jax.Array) -> jax.Array:
    """int16 to float32 in [-1, 1)."""
    return samples.astype(jnp.float32) / 32768


def below(count: jax.Array, uniform: jax.Array) -> jax.Array:
    """An integer in [0, count) from a uniform number in [0, 1), which has 23 random bits."""
    # The product may round up to `count`.
    return jnp.minimum((uniform * count).astype(jnp.int32), count - 1)
