"""What the train loop needs of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax

from sanas_jax.training import Batch

# Signals [B, samples] → posteriors [T, B, K]; a pytree of arrays.
Teacher = Callable[[jax.Array], jax.Array]


class Source(Protocol):
    """A prepared data set.

    Fields:
      classes: their names.
      sha256: fingerprint of the examples; of audio that of its files, a dash, how they are dealt.
      training: what training batches are drawn from, on the device.
      streams: whether examples stay on the host: `draw` then needs what `feed` sends.
      untaught: classes that have no training examples and cannot be learnt.
    """

    classes: tuple[str, ...]
    sha256: str
    training: Any
    streams: bool
    untaught: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one image; None for audio, whose windows the network chooses."""
        ...

    def fit(self, settings: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        """What signals become features with, and class weights [K]."""
        ...

    @staticmethod
    def draw(
        examples: Any,
        frontend: Any,
        settings: Any,
        key: jax.Array,
        rows: jax.Array,
        sent: jax.Array | None = None,
        teacher: Teacher | None = None,
    ) -> Batch:
        """Rows [B] of a random training batch; a pure function of arrays and static `settings`.

        `teacher`: who says what is heard in its signals; of audio only.
        """
        ...

    def feed(self, settings: Any, keys: jax.Array, size: int) -> jax.Array | None:
        """Examples [K, size, ...] of the batches of keys [K]; None if all are on the device."""
        ...

    def validation(
        self, frontend: Any, settings: Any, key: jax.Array, size: int, count: int
    ) -> list[Batch]:
        """The batches of every validation."""
        ...
