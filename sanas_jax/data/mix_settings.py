"""A recipe together with the windows in which a network hears its streams."""

from __future__ import annotations

from dataclasses import dataclass

from sanas_jax.data.features import Count, num_frames
from sanas_jax.data.recipe import Recipe


@dataclass(frozen=True)
class MixSettings(Recipe):
    """How clips and noise are mixed (`Recipe`), and how the result is labelled.

    sample_rate: Hz
    window, hop_frames: STFT frames per window, and between windows
    frame_length, frame_hop: samples per STFT frame, and between frames
    signal_threshold: a window is labelled as word where a greater part of it than this is word
    """

    sample_rate: int = 16000
    window: int = 101
    hop_frames: int = 20
    frame_length: int = 480
    frame_hop: int = 160
    signal_threshold: float = 0.5

    def __post_init__(self) -> None:
        self.check()
        for name in ("sample_rate", "window", "hop_frames", "frame_length", "frame_hop"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 <= self.signal_threshold <= 1:
            raise ValueError(f"signal_threshold: expected 0 to 1, got {self.signal_threshold}")
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
    def overlap_samples(self) -> int:
        """Samples by which two words may overlap."""
        return round(self.overlap * self.sample_rate)

    @property
    def num_windows(self) -> int:
        """T, the windows of the longest item."""
        return windows_of(self.max_samples, self)


def windows_of(samples: Count, settings: MixSettings) -> Count:
    """Windows that lie within an item of `samples` samples; works on ints and arrays."""
    frames = num_frames(samples, settings.frame_hop)
    return (frames - settings.window) // settings.hop_frames + 1
