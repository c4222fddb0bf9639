"""Labels of windows: the authors' masks, a loop over frames, and sums by hand."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.labelling import item_labels, window_labels, word_ratio
from sanas_jax.data.mix_settings import MixSettings, windows_of
from tests.helpers.audio import ratio_by_loop

# In windows of 5 frames every 2.
SMALL = MixSettings(
    sample_rate=100,
    window=5,
    hop_frames=2,
    frame_length=40,
    frame_hop=20,
)


def test_word_ratio_reference(reference):
    file = np.load(reference / "golden_features.npz")
    for name in ("silence", "noise_1p3s"):
        ratio = word_ratio(jnp.array(file[f"{name}/mask"]), MixSettings())
        np.testing.assert_allclose(ratio, file[f"{name}/signal_ratio_per_conv_frame"], rtol=1e-6)
        labels = window_labels(ratio, 7, MixSettings())
        np.testing.assert_array_equal(labels, file[f"{name}/labels_for_label7_thr0.5"])


@pytest.mark.parametrize("samples", [80, 121, 300])
def test_word_ratio_against_loop(samples):
    rng = np.random.default_rng(samples)
    for settings in (SMALL, replace(SMALL, frame_length=50), replace(SMALL, frame_hop=13)):
        mask = rng.random(samples) < 0.5
        expected = ratio_by_loop(mask, settings)
        got = word_ratio(jnp.array(mask), settings)
        assert got.shape == (windows_of(samples, settings),)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_word_ratio_by_hand():
    # Frames of 40 samples at -20, 0, 20, 40, 60 in 81 samples, word from sample 20 on:
    # 0, 20, 40, 40 and (the end is padded) 21 of 40 samples.
    mask = jnp.arange(81) >= 20
    np.testing.assert_allclose(word_ratio(mask, SMALL), [121 / 200], rtol=1e-6)


def test_window_labels_half_is_silence():
    ratio = jnp.array([0.0, 0.5, 0.501, 1.0])
    np.testing.assert_array_equal(window_labels(ratio, 9, SMALL), [0, 0, 9, 9])
    strict = replace(SMALL, signal_threshold=0.6)
    np.testing.assert_array_equal(window_labels(ratio, 9, strict), [0, 0, 0, 9])


def test_word_ratio_bad_mask_raises():
    with pytest.raises(ValueError, match="mask: expected"):
        word_ratio(jnp.zeros(79), SMALL)


def test_item_labels_larger_part_wins():
    # Windows of 100 samples begin (frames are centred) at -20, 20, 60, ... of 200 samples.
    position = np.arange(200)
    masks = jnp.array([(position >= 20) & (position < 90), (position >= 90) & (position < 200)])
    ratios = np.stack([ratio_by_loop(np.array(mask), SMALL) for mask in masks])
    # First only; both, neither with more than half; then the second.
    assert (ratios[:, 0] > [0.5, -1]).all()
    lax = replace(SMALL, signal_threshold=0.2)
    for settings in (SMALL, lax):
        threshold = settings.signal_threshold
        expected = [0 if max(a, b) <= threshold else 3 if a >= b else 5 for a, b in ratios.T]
        got, _ = item_labels(masks, jnp.array([3, 5]), settings)
        np.testing.assert_array_equal(got, expected)
        assert {3, 5} <= set(expected)
    # What is no word does not hide one.
    np.testing.assert_array_equal(
        item_labels(masks, jnp.array([0, 5]), lax)[0], np.where(ratios[1] > 0.2, 5, 0)
    )


def test_item_labels_two_halves_are_silence():
    # One window of frames at 0, 20, 40, 60, 80 in 81 samples; half of each word lies in it.
    position = jnp.arange(81)
    masks = jnp.stack([position < 30, position >= 50])
    ratios = [float(word_ratio(mask, SMALL)[0]) for mask in masks]
    assert 0.2 < min(ratios) <= max(ratios) < 0.5 < sum(ratios)
    np.testing.assert_array_equal(item_labels(masks, jnp.array([2, 2]), SMALL)[0], [0])


def test_item_labels_say_how_much_of_a_window_its_word_fills():
    masks = np.zeros((2, 240), bool)
    masks[0, 30:90] = masks[1, 100:220] = True
    labels, ratio = item_labels(jnp.asarray(masks), jnp.array([3, 5]), SMALL)
    ratios = np.stack([word_ratio(jnp.asarray(mask), SMALL) for mask in masks])
    np.testing.assert_array_equal(ratio, ratios.max(0))
    np.testing.assert_array_equal(labels > 0, ratios.max(0) > SMALL.signal_threshold)
