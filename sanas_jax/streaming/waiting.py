"""Samples that were heard and are still needed, in one array, so that a step copies each once."""

from __future__ import annotations

import numpy as np


class Waiting:
    """A queue of float32 samples; what is at its front lies side by side.

    Fields:
      room: samples that `add` takes at once, if no more than `most` of those before are left.
    """

    def __init__(self, most: int, kept: int, room: int) -> None:
        """Empty.

        Args:
          most: samples that wait at most when more are added.
          kept: of the latest samples, those that can be asked for after they have gone (`latest`).
          room: samples that are added at once at most.
        """
        self.room, self._kept = room, kept
        self._array = np.zeros(kept + most + room, np.float32)
        self._front = self._end = 0

    def __len__(self) -> int:
        """Samples that wait."""
        return self._end - self._front

    def add(self, samples: np.ndarray) -> None:
        """Samples [n ≤ room] at the end: float, or int16, of which 32768 would be 1."""
        end = self._end + len(samples)
        if end > len(self._array):
            end -= self._move()
        place = self._array[self._end : end]
        if samples.dtype.kind == "i":
            np.multiply(samples, np.float32(2**-15), out=place)
        else:
            place[:] = samples
        self._end = end

    def first(self, count: int) -> np.ndarray:
        """A view [count] of the front, which the next `add` may change."""
        return self._array[self._front : self._front + count]

    def drop(self, count: int) -> None:
        """The first ones are not needed any more."""
        self._front += count

    def latest(self) -> np.ndarray:
        """A copy of the last `kept`, gone or not; fewer where there never were as many."""
        return self._array[max(self._end - self._kept, 0) : self._end].copy()

    def set(self, samples: np.ndarray, latest: np.ndarray | None = None) -> None:
        """These wait [n ≤ most + room] in place of what did; `latest` end as they do.

        Raises ValueError for more than there is room for; what waited goes on waiting.
        """
        gone = np.zeros(0, np.float32) if latest is None else latest[: -len(samples) or None]
        if len(gone) + len(samples) > len(self._array):
            raise ValueError(
                f"samples: expected at most {len(self._array)} that wait or are kept, got "
                f"{len(gone) + len(samples)}"
            )
        self._front = len(gone)
        self._end = self._front + len(samples)
        self._array[: self._front] = gone
        self._array[self._front : self._end] = samples

    def _move(self) -> int:
        """All that is needed to the beginning of the array; by how much."""
        by = min(self._front, max(self._end - self._kept, 0))
        needed = self._array[by : self._end].copy()
        self._array[: len(needed)] = needed
        self._front, self._end = self._front - by, self._end - by
        return by
