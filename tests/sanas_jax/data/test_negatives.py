"""Negatives in items: where they are heard, how loud, and what they are labelled."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.clips import Clips
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.mixing import draw_batch
from sanas_jax.data.negatives import Negatives, nearness
from sanas_jax.data.tracks import Tracks
from tests.helpers.audio import ratio_by_loop

pytestmark = pytest.mark.usefixtures("branch")

# A clip of 100 samples in a buffer of 300, in windows of 5 frames every 2; no other noise.
PLAIN = MixSettings(
    sample_rate=100,
    window=5,
    hop_frames=2,
    frame_length=40,
    frame_hop=20,
    min_seconds=3.0,
    noise_probability=0.0,
    silence_fraction=0.0,
    negative_gain=(1.0, 1.0),
    negative_snr_db=(20.0, 20.0),
    negative_alone=0.0,
)
WORD, SPEECH = 8000, 3000  # levels, which tell what is heard where
KEY = jax.random.key(5)
draw = jax.jit(draw_batch, static_argnums=(1, 3))


def clips_with(negatives):
    samples = np.full((4, 100), WORD, np.int16)
    return Clips.create(samples, np.full(4, 100), np.array([1, 2, 3, 3]), negatives=negatives)


def speech_of(active):
    """One recording of 600 samples; `active` is of blocks."""
    return Negatives(speech=Tracks.create(np.full(600, SPEECH, np.int16), [0, 600], active))


def levels(batch):
    return np.array(batch.signal, np.float64) * 32768


def test_speech_lies_between_words_and_20_db_under_them():
    batch = draw(clips_with(speech_of([True])), replace(PLAIN, negative_speech=1.0), KEY, 40)
    for signal, labels in zip(levels(batch), np.array(batch.labels).T, strict=True):
        word = np.abs(signal - 1.1 * WORD) < 2  # the word, and a tenth of it below
        assert word.sum() == 100
        start = int(np.flatnonzero(word)[0])
        away = np.maximum(np.maximum(start - np.arange(300), np.arange(300) - start - 99), 0)
        # 50 ms are 5 samples, over which speech falls before a word and rises after it.
        np.testing.assert_allclose(signal[away >= 5], SPEECH, atol=1)
        near = (away > 0) & (away < 5)
        assert ((signal[near] > WORD / 10) & (signal[near] < SPEECH)).all()
        spoken, talked = ratio_by_loop(word, PLAIN), ratio_by_loop(~word, PLAIN)
        expected = np.where(talked > 0.5, 1, 0)
        assert ((labels == expected) | ((spoken > 0.5) & (labels > 0))).all()
        assert (labels[spoken <= 0.5] == expected[spoken <= 0.5]).all()


@pytest.mark.parametrize(("label", "heard"), [("unknown", 1), ("silence", 0)])
def test_speech_alone_is_labelled_by_activity(label, heard):
    # Blocks of 300 samples: an item of 300 begins anywhere in the two.
    settings = replace(PLAIN, negative_speech=1.0, negative_alone=1.0, negative_label=label)
    batch = draw(clips_with(speech_of([True, False])), settings, KEY, 60)
    np.testing.assert_allclose(levels(batch), SPEECH, atol=1)
    labels = np.array(batch.labels)
    assert set(np.unique(labels)) == {0, heard}
    if heard:
        assert (np.diff(labels, axis=0) <= 0).all(), "who speaks stops, and does not begin again"
        assert 0.3 < labels.mean() < 0.7


def test_shares_are_those_of_the_recipe():
    settings = replace(PLAIN, negative_speech=0.4, negative_alone=0.25)
    signal = levels(draw(clips_with(speech_of([True])), settings, KEY, 1500))
    talks, words = np.abs(signal - SPEECH).min(1) < 1, signal.max(1) > WORD - 1
    # Four standard deviations of a share are 0.05 and 0.07.
    assert abs(talks.mean() - 0.4) < 0.05
    assert abs((~words[talks]).mean() - 0.25) < 0.07
    assert words[~talks].all()


def test_a_sound_is_the_background_at_its_ratio():
    rng = np.random.default_rng(0)
    tracks = Tracks.create(rng.normal(0, 500, 5000).astype(np.int16), [0, 2000, 5000])
    settings = replace(PLAIN, negative_sounds=1.0, negative_snr_db=(6.0, 6.0), max_noise_gain=0.9)
    batch = draw(clips_with(Negatives(sounds=tracks)), settings, KEY, 30)
    quiet = draw(clips_with(None), PLAIN, KEY, 30)
    rest = levels(batch) - levels(quiet)
    rms = np.sqrt((rest**2).mean(1))
    np.testing.assert_allclose(rms, WORD * 10 ** (-6 / 20), rtol=1e-2)
    np.testing.assert_array_equal(batch.labels, quiet.labels)


def test_a_segment_is_of_one_recording_and_long_ones_are_drawn_more_often():
    bounds = np.array([0, 1000, 1150, 5000])
    tracks = Tracks.create(np.arange(5000, dtype=np.int16), bounds)
    settings = replace(PLAIN, negative_speech=1.0, negative_alone=1.0)
    used = np.zeros(3, int)
    for signal in levels(draw(clips_with(Negatives(speech=tracks)), settings, KEY, 600)):
        start = round(signal[0])
        track = int(np.searchsorted(bounds, start, side="right")) - 1
        low, high = bounds[track], bounds[track + 1]
        # The recording of 150 samples is shorter than the item: it starts over.
        np.testing.assert_allclose(signal, low + (start - low + np.arange(300)) % (high - low))
        assert track == 1 or start + 300 <= high
        used[track] += 1
    np.testing.assert_allclose(used / 600, np.diff(bounds) / 5000, atol=0.07)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speech_of_another_speed_is_read_between_its_samples(factor):
    # A ramp says where it is read; someone speaks in its second half.
    tracks = Tracks.create(np.arange(2000, dtype=np.int16) * 8, [0, 1000, 2000], [False, True])
    settings = replace(
        PLAIN, negative_speech=1.0, negative_alone=1.0, negative_speed_range=(factor, factor)
    )
    batch = draw(clips_with(Negatives(speech=tracks)), settings, KEY, 60)
    for signal, labels in zip(levels(batch) / 8, np.array(batch.labels).T, strict=True):
        np.testing.assert_allclose(signal, signal[0] + factor * np.arange(300), atol=0.01)
        assert signal[-1] < 1000 or signal[0] >= 1000, "of one recording"
        assert (labels == (signal[0] >= 1000)).all()


def test_the_last_sample_of_slow_speech_is_not_read_beyond_a_recording():
    # 300 samples at 0.503 of the speed: the last lies between samples 150 and 151.
    tracks = Tracks.create(np.arange(152, dtype=np.int16) * 8, [0, 152])
    settings = replace(
        PLAIN, negative_speech=1.0, negative_alone=1.0, negative_speed_range=(0.503, 0.503)
    )
    signal = levels(draw(clips_with(Negatives(speech=tracks)), settings, KEY, 4)) / 8
    np.testing.assert_allclose(signal, np.tile(0.503 * np.arange(300), (4, 1)), atol=0.01)


def test_speech_has_speeds_between_the_bounds():
    tracks = Tracks.create(np.arange(3000, dtype=np.int16) * 8, [0, 3000])
    bounds = (0.8, 1.25)
    settings = replace(PLAIN, negative_speech=1.0, negative_alone=1.0, negative_speed_range=bounds)
    signal = levels(draw(clips_with(Negatives(speech=tracks)), settings, KEY, 200)) / 8
    speeds = np.log(np.diff(signal[:, [0, -1]])[:, 0] / 299)
    low, high = np.log(bounds)
    assert low - 1e-3 < speeds.min() < low + 0.05
    assert high - 0.05 < speeds.max() < high + 1e-3
    assert abs(speeds.mean()) < 0.04  # four standard deviations of a log-uniform mean


def mined_clips():
    """Two recordings that tell where they are read, and mined stretches of a window, 80 samples."""
    bounds = np.array([0, 5000, 5200])
    tracks = Tracks.create(np.arange(5200, dtype=np.int16), bounds)
    mined = jnp.array([[2000, 2080], [4910, 4990], [5050, 5130]], jnp.int32)
    return clips_with(Negatives(speech=tracks, mined=mined))


def test_mined_speech_lies_anywhere_in_an_item():
    settings = replace(PLAIN, negative_speech=1.0, negative_alone=1.0, negative_mined=1.0)
    signal = levels(draw(mined_clips(), settings, KEY, 900))
    first = signal[:, 0].round().astype(int)
    inside = first[(first > 1000) & (first < 3000)]
    assert abs(len(inside) / 900 - 1 / 3) < 0.08
    # The stretch begins 0 to 220 samples after an item of 300, as often at each.
    before = 2000 - inside
    assert (before.min(), before.max()) == pytest.approx((0, 220), abs=6)
    assert (before >= 0).all()
    assert (before <= 220).all()
    assert abs(before.mean() - 110) < 16
    # A recording's end is not passed: at 4910 + 80 the item may begin at 4690 to 4700 alone.
    late = first[(first > 3000) & (first < 5000)]
    assert set(late) <= set(range(4690, 4701))
    assert (late == 4700).mean() > 0.8
    # A recording that is shorter than the item starts over, and is heard whole.
    short = signal[first >= 5000]
    assert len(short) > 200
    assert len(np.unique(short[:, 0])) > 100
    for row in short:
        np.testing.assert_allclose(row, 5000 + (row[0] - 5000 + np.arange(300)) % 200)


def test_what_is_not_mined_is_drawn_as_without():
    settings = replace(PLAIN, negative_speech=0.6, negative_alone=0.5)
    plain = draw(mined_clips(), settings, KEY, 600)
    mined = draw(mined_clips(), replace(settings, negative_mined=0.5), KEY, 600)
    same = (np.array(plain.signal) == np.array(mined.signal)).all(1)
    # Of 0.6 that talk a half; four standard deviations are 0.08.
    assert abs((~same).mean() - 0.3) < 0.08
    none = clips_with(replace(mined_clips().negatives, mined=None))
    jax.tree.map(np.testing.assert_array_equal, draw(none, settings, KEY, 600), plain)
    assert replace(settings, negative_mined=0.5).unperturbed() == settings.unperturbed()


def test_recipes_without_negatives_draw_what_they_drew():
    plain, beside = clips_with(None), clips_with(speech_of([True]))
    settings = replace(PLAIN, silence_fraction=0.1)
    jax.tree.map(
        np.testing.assert_array_equal, draw(plain, settings, KEY, 8), draw(beside, settings, KEY, 8)
    )


def test_nearness_by_hand():
    near = nearness(jnp.array([3, 0]), jnp.array([True, False]), 2, 8, 2)
    np.testing.assert_allclose(near, [0, 0, 0.5, 1, 1, 0.5, 0, 0])


def test_negatives_refuse():
    audio = np.zeros(10, np.int16)
    for arguments, message in (
        ((audio.astype(float), [0, 10]), "samples: expected int16"),
        ((audio, [0, 9]), "bounds: expected integers that rise from 0 to 10"),
        ((audio, [0, 5, 5, 10]), "bounds: expected"),
        ((audio, [0, 10], np.ones(3, bool)), "active: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            Tracks.create(*arguments)
    for change, message in (
        ({"negative_speech": 1.5}, "negative_speech: expected 0 to 1, got 1.5"),
        ({"negative_speech": 0.5, "negative_mined": -0.5}, "negative_mined: expected 0 to 1"),
        ({"negative_mined": 0.5}, "negative_mined: expected negative_speech above 0"),
        ({"negative_gain": (0.0, 1.0)}, "negative_gain: expected two factors above 0"),
        ({"negative_speed_range": (1.2, 0.9)}, "negative_speed_range: expected two factors"),
        ({"negative_snr_db": (3.0, 1.0)}, "negative_snr_db: expected two numbers"),
        ({"negative_label": "word"}, "negative_label: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(PLAIN, **change)
    for name in ("speech", "sounds"):
        with pytest.raises(ValueError, match=f"negative_{name}: expected {name} to draw from"):
            draw_batch(clips_with(None), replace(PLAIN, **{f"negative_{name}": 0.1}), KEY, 1)
    mined = replace(PLAIN, negative_speech=0.1, negative_mined=0.1)
    with pytest.raises(ValueError, match="negative_mined: expected mined stretches"):
        draw_batch(clips_with(speech_of([True])), mined, KEY, 1)
