"""Settings of streams: windows counted by hand, what is refused, what a validation leaves out."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.mix_settings import MixSettings, windows_of


def test_windows_of_by_hand():
    settings = MixSettings()
    lengths = [15999, 16000, 19199, 19200, 41472, 48000]
    assert [windows_of(n, settings) for n in lengths] == [0, 1, 1, 2, 8, 11]
    np.testing.assert_array_equal(windows_of(jnp.array(lengths), settings), [0, 1, 1, 2, 8, 11])
    assert settings.num_windows == 11


def test_unperturbed_keeps_the_streams():
    plain = MixSettings(words_per_item=2, min_seconds=2.0, cut_words=True, snr_range_db=(0, 20))
    varied = replace(
        plain,
        speed_range=(0.9, 1.1),
        gain_range=(0.5, 2.0),
        negative_speed_range=(0.9, 1.1),
        time_masks=2,
        frequency_masks=1,
    )
    assert varied.unperturbed() == plain
    assert MixSettings().unperturbed() == MixSettings()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_frames": 0}, "hop_frames: expected 1"),
        ({"noise_probability": 1.1}, "noise_probability: expected 0 to 1"),
        ({"silence_fraction": -0.1}, "silence_fraction: expected 0 or more"),
        ({"min_seconds": 0.9}, "min_seconds, max_seconds: expected 1.0 s"),
        ({"max_seconds": 0.99}, "min_seconds, max_seconds"),
        ({"frame_length": 481}, "frame_length: expected an even"),
        ({"signal_threshold": 1.1}, "signal_threshold: expected 0 to 1"),
        ({"words_per_item": 0}, "words_per_item: expected 1 or more, got 0"),
        ({"overlap": float("nan")}, "overlap: expected seconds, got nan"),
        ({"white_noise": -1.0}, "white_noise: expected 0 to 1"),
        ({"time_masks": -1}, "time_masks: expected 0 or more"),
        ({"frequency_mask_bins": -1}, "frequency_mask_bins: expected 0 or more"),
        ({"speed_range": (1.1, 0.9)}, "speed_range: expected two factors above 0, the lower"),
        ({"speed_range": (1.0,)}, "speed_range: expected two factors"),
        ({"gain_range": (0.0, 1.0)}, "gain_range: expected two factors above 0"),
        ({"snr_range_db": (10.0, 0.0)}, "snr_range_db: expected two numbers, the lower first"),
    ],
)
def test_mix_settings_bad_values_raise(change, message):
    with pytest.raises(ValueError, match=message):
        MixSettings(**change)
