"""Speed, gain and noise of clips: by NumPy's interpolation, by hand, and as drawn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.clips import Clips
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.mixing import draw_batch
from sanas_jax.data.variation import TYPICAL_RMS, change_speed, log_uniform, snr_gain, white

SMALL = MixSettings(
    sample_rate=100,
    window=5,
    hop_frames=2,
    frame_length=40,
    frame_hop=20,
    min_seconds=3.0,
    silence_fraction=0.0,
    unknown_fraction=0.0,
)
KEY = jax.random.key(2)
draw = jax.jit(draw_batch, static_argnums=(1, 3))


@pytest.mark.parametrize("factor", [0.7, 0.99, 1.0, 1.3, 2.0])
def test_change_speed_against_numpy(factor):
    clip = np.random.default_rng(0).normal(size=101).astype(np.float32)
    # Around the middle sample, 50, time runs `factor` times as fast.
    source = 50 + (np.arange(101) - 50) * factor
    expected = np.interp(source, np.arange(-1, 102), np.pad(clip, 1), left=0, right=0)
    np.testing.assert_allclose(change_speed(jnp.array(clip), 101, factor), expected, atol=1e-4)


def test_change_speed_by_one_changes_nothing():
    clip = jax.random.normal(KEY, (16000,))
    for length in (16000, 6827):
        sound = jnp.where(jnp.arange(16000) < length, clip, 0)
        np.testing.assert_array_equal(change_speed(sound, length, 1.0), sound)


def test_change_speed_of_a_tone():
    """A tone of 440 Hz at 1.25 times the speed is one of 550 Hz, in the middle of the second."""
    tone = jnp.sin(2 * jnp.pi * 440 * jnp.arange(16000) / 16000)
    for factor, hertz in ((1.25, 550), (0.8, 352)):
        played = np.array(change_speed(tone, 16000, factor))
        assert abs(np.abs(np.fft.rfft(played)).argmax() - hertz) <= 1
    heard = np.flatnonzero(np.array(change_speed(tone, 16000, 1.25)))
    assert (heard[0], heard[-1]) == (1600, 14399)


def test_change_speed_of_a_short_clip_stays_in_the_frame():
    # 40 samples of a frame of 100.
    clip = jnp.where(jnp.arange(100) < 40, 1.0, 0.0)
    for factor, begin, end in ((2.0, 10, 30), (0.5, 0, 80), (0.8, 0, 50)):
        heard = np.array(change_speed(clip, 40, factor))
        inside = np.zeros(100)
        inside[begin:end] = 1
        # Interpolation softens a step by a sample.
        assert np.abs(heard - inside).sum() <= 1 / factor
    # 90 samples at 0.5 fill 180: the frame shows the middle 100, all of it sound.
    clip = jnp.where(jnp.arange(100) < 90, 1.0, 0.0)
    np.testing.assert_allclose(change_speed(clip, 90, 0.5), 1.0)


def test_log_uniform():
    values = np.array(log_uniform(jnp.array([0.0, 0.5, 1.0]), (0.5, 2.0)))
    np.testing.assert_allclose(values, [0.5, 1.0, 2.0], rtol=1e-6)


def test_snr_gain_by_hand():
    # RMS of the present word 0.2; of the three samples of noise heard 0.1.
    words = jnp.array([[0.2, -0.2], [0.0, 0.0]])
    noise = jnp.array([0.1, -0.1, 0.1, 9.0])
    gain = snr_gain(words, jnp.array([True, False]), noise, 3, 20.0)
    np.testing.assert_allclose(gain, 0.2, rtol=1e-6)
    both = snr_gain(words, jnp.array([True, True]), noise, 3, 0.0)
    np.testing.assert_allclose(both, 2 / 2**0.5, rtol=1e-6)
    none = snr_gain(0 * words, jnp.array([False, False]), noise, 3, 0.0)
    np.testing.assert_allclose(none, TYPICAL_RMS / 0.1, rtol=1e-6)
    np.testing.assert_array_equal(snr_gain(words, words[:, 0] > 0, 0 * noise, 3, 0.0), 0.0)


def test_white_is_as_loud_as_a_median_clip():
    noise = white(jax.random.uniform(KEY, (20000,)))
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(noise**2)), TYPICAL_RMS, rtol=0.02)
    np.testing.assert_allclose(noise.mean(), 0, atol=4 * TYPICAL_RMS / 20000**0.5)
    spectrum = np.abs(np.fft.rfft(noise))[1:] ** 2
    low, high = spectrum[:5000].mean(), spectrum[5000:].mean()
    np.testing.assert_allclose(low / high, 1, atol=0.1)


def make_clips(level=1000):
    """Clips of one level, and one track of two."""
    samples = np.full((4, 100), level, np.int16)
    noise = np.tile(np.array([300, -300], np.int16), 500)
    return Clips.create(samples, np.full(4, 100), np.array([2, 3, 2, 3]), noise)


def test_draw_batch_gain_of_clips():
    settings = replace(SMALL, noise_probability=0.0, gain_range=(0.5, 4.0))
    gains = np.array(draw(make_clips(), settings, KEY, 400).signal).max(1) * 32.768
    assert 0.5 <= gains.min() < 0.53
    assert 3.8 < gains.max() <= 4.0001
    # log2 is uniform from -1 to 2.
    np.testing.assert_allclose(
        np.quantile(np.log2(gains), [0.25, 0.5, 0.75]), [-0.25, 0.5, 1.25], atol=0.25
    )


def test_draw_batch_speed_of_clips():
    settings = replace(SMALL, noise_probability=0.0, speed_range=(1.0, 2.0))
    signals = np.array(draw(make_clips(), settings, KEY, 400).signal)
    durations = signals.sum(1) * 32.768
    assert 49 < durations.min() < 53
    assert 97 < durations.max() <= 100.1
    np.testing.assert_allclose(np.median(durations), 100 / 2**0.5, atol=3)


@pytest.mark.parametrize("words", [True, False])
def test_draw_batch_snr_is_that_of_the_sound(words):
    settings = replace(
        SMALL,
        noise_probability=1.0,
        snr_range_db=(3.0, 15.0),
        silence_fraction=0.0 if words else 1e9,
    )
    signals = np.array(draw(make_clips(), settings, KEY, 200).signal)
    # Noise alternates, so that a sum of neighbours holds the clips alone, and half their difference
    # the noise alone, where no word begins or ends.
    noise = np.median(np.abs(np.diff(signals)), 1) / 2
    level = 1000 / 32768 if words else TYPICAL_RMS
    ratios = 20 * np.log10(level / noise)
    assert 3 - 1e-3 <= ratios.min() < 3.5
    assert 14.5 < ratios.max() <= 15 + 1e-3
    np.testing.assert_allclose(ratios.mean(), 9, atol=1)


def test_draw_batch_white_noise_without_tracks():
    tracks = make_clips()
    clips = Clips.create(tracks.samples, tracks.lengths, tracks.labels)
    settings = replace(
        SMALL, noise_probability=1.0, white_noise=0.25, silence_fraction=1e9, max_noise_gain=1.0
    )
    signals = np.array(draw(clips, settings, KEY, 800).signal)
    loud = np.sqrt((signals**2).mean(1))
    assert abs(np.mean(loud > 0) - 0.25) < 4 * (0.25 * 0.75 / 800) ** 0.5
    np.testing.assert_allclose(loud.max(), TYPICAL_RMS, rtol=0.1)
    np.testing.assert_allclose(loud[loud > 0].mean(), TYPICAL_RMS / 2, rtol=0.2)
