"""What a user chooses about training streams: words, noise, and how both are varied.

`MixSettings` adds what the network and the sampling rate dictate. Nothing here needs jax.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

R = TypeVar("R", bound="Recipe")

NEGATIVE_LABELS = ("unknown", "silence")


@dataclass(frozen=True)
class Recipe:
    """How clips and noise are mixed into items. The defaults are the recipe of the SANAS code.

    min_seconds, max_seconds: the length of an item is uniform between the two
    words_per_item: slots of one item; each holds a word, or silence, drawn on its own
    overlap: seconds by which two words may overlap; below 0 it is the shortest gap between clips
    cut_words: the item is cut from a longer stream: words may begin before it or end after it
    noise_probability: how often noise is added; its gain is uniform in [0, max_noise_gain]
    snr_range_db: in place of that gain, the lowest and highest ratio of the words' mean power
        (over their clips, of 1 s) to that of the noise; uniform in dB
    white_noise: share of the noise that is white, with the RMS of a median clip, not from a track
    silence_fraction, unknown_fraction: slots without a word, and with an unknown one, per slot
        with a wanted word (as in TensorFlow's speech_commands, so 0.1 is one slot in twelve)
    balance: draw wanted words evenly over the words; otherwise every clip is as likely
    unclear_margin, unclear_weight: a window whose part that is word differs from the threshold by
        less than the margin counts with this weight in the loss: what it holds is hard to say
    speed_range, gain_range: factors of each clip's speed (and pitch) and amplitude, log-uniform
    time_masks, time_mask_frames, frequency_masks, frequency_mask_bins: of `spec_augment`
    negative_speech, negative_sounds: share of the items with running speech between and under
        their words, and of those whose background is a sound without words (`negatives`)
    negative_strung: minutes of running speech made of clips, beside what is recorded: unknown words
        and halves of wanted ones without gaps
    negative_mined: share of the items with running speech whose speech is from where the network
        that the training starts from is likeliest to fire
    negative_alone: share of these items that hold no words
    negative_snr_db: lowest and highest ratio of the words' mean power to that of speech or a sound
        under them; without words as to a median clip's
    negative_gain: factors of running speech between words, log-uniform
    negative_speed_range: factors of running speech's speed (and pitch), log-uniform
    negative_label: of running speech where someone speaks, "unknown" or "silence"
    """

    min_seconds: float = 1.0
    max_seconds: float = 3.0
    words_per_item: int = 1
    overlap: float = 0.0
    cut_words: bool = False
    noise_probability: float = 0.8
    max_noise_gain: float = 0.3
    snr_range_db: tuple[float, float] | None = None
    white_noise: float = 0.0
    silence_fraction: float = 0.1
    unknown_fraction: float = 0.1
    balance: bool = False
    unclear_margin: float = 0.2
    unclear_weight: float = 1.0
    speed_range: tuple[float, float] = (1.0, 1.0)
    gain_range: tuple[float, float] = (1.0, 1.0)
    time_masks: int = 0
    time_mask_frames: int = 20
    frequency_masks: int = 0
    frequency_mask_bins: int = 7
    negative_speech: float = 0.0
    negative_sounds: float = 0.0
    negative_strung: float = 0.0
    negative_mined: float = 0.0
    negative_alone: float = 0.5
    negative_snr_db: tuple[float, float] = (0.0, 20.0)
    negative_gain: tuple[float, float] = (0.5, 2.0)
    negative_speed_range: tuple[float, float] = (1.0, 1.0)
    negative_label: str = "unknown"

    @property
    def has_negatives(self) -> bool:
        """Whether audio without words is heard in items."""
        return self.negative_speech > 0 or self.negative_sounds > 0

    def unperturbed(self: R) -> R:
        """The same streams from clips as they are, without masks, and from speech wherever it is.

        It is what a validation draws.
        """
        return replace(
            self,
            speed_range=(1.0, 1.0),
            gain_range=(1.0, 1.0),
            negative_speed_range=(1.0, 1.0),
            time_masks=0,
            frequency_masks=0,
            negative_mined=0.0,
        )

    def without_negatives(self: R) -> R:
        """The same words in the same places, with no audio between and under them."""
        return replace(
            self, negative_speech=0.0, negative_sounds=0.0, negative_strung=0.0, negative_mined=0.0
        )

    def check(self) -> None:
        """Raise ValueError for a value that is impossible whatever the clips and the network."""
        if self.words_per_item < 1:
            raise ValueError(f"words_per_item: expected 1 or more, got {self.words_per_item}")
        if not -inf < self.overlap < inf:
            raise ValueError(f"overlap: expected seconds, got {self.overlap}")
        for name in (
            "noise_probability",
            "white_noise",
            "negative_speech",
            "negative_sounds",
            "negative_mined",
            "negative_alone",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in (
            "max_noise_gain",
            "silence_fraction",
            "unknown_fraction",
            "unclear_margin",
            "unclear_weight",
            "negative_strung",
        ):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("speed_range", "gain_range", "negative_gain", "negative_speed_range"):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1] < inf:
                raise ValueError(
                    f"{name}: expected two factors above 0, the lower first, got {values}"
                )
        for name in ("snr_range_db", "negative_snr_db"):
            ratio = getattr(self, name)
            if ratio is not None and (len(ratio) != 2 or not -inf < ratio[0] <= ratio[1] < inf):
                raise ValueError(f"{name}: expected two numbers, the lower first, got {ratio}")
        for name in ("negative_strung", "negative_mined"):
            if getattr(self, name) and not self.negative_speech:
                raise ValueError(
                    f"{name}: expected negative_speech above 0, whose items hear it, got 0"
                )
        if self.negative_label not in NEGATIVE_LABELS:
            raise ValueError(
                f"negative_label: expected one of {NEGATIVE_LABELS}, got {self.negative_label!r}"
            )
