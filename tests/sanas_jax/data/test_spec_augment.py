"""Masks over features: where they lie, how wide they are, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.variation import spec_augment

KEY = jax.random.key(3)
NUMBERS = ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins")


def runs(masked):
    """Widths of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.pad(masked.astype(int), 1)))
    return edges[1::2] - edges[::2]


def test_spec_augment_masks_whole_frames_or_bins():
    features = 1 + jax.random.uniform(KEY, (600, 50, 12, 1))
    apply = jax.jit(spec_augment, static_argnames=NUMBERS)
    for axis, name in ((1, "time_masks"), (2, "frequency_masks")):
        out = np.array(apply(features, KEY, **{name: 1}, time_mask_frames=20))[..., 0]
        zero = (out == 0).all(3 - axis)
        np.testing.assert_array_equal(out == 0, np.expand_dims(zero, 3 - axis) & (out >= 0))
        np.testing.assert_array_equal(out[out != 0], np.array(features)[..., 0][out != 0])
        widths = np.array([runs(row).sum() for row in zero])
        most = 20 if axis == 1 else 7
        assert max(len(runs(row)) for row in zero) == 1
        # Each width from 0 to the largest is as likely; four standard deviations of its share.
        share = np.bincount(widths, minlength=most + 1) / 600
        np.testing.assert_allclose(share, 1 / (most + 1), atol=4 * (1 / (most + 1) / 600) ** 0.5)
        # They reach both ends.
        assert zero[:, 0].any()
        assert zero[:, -1].any()


def test_spec_augment_several_masks():
    features = jnp.ones((300, 60, 40, 1))
    out = np.array(spec_augment(features, KEY, time_masks=2, frequency_masks=3))[..., 0]
    frames, bins = (out == 0).all(2), (out == 0).all(1)
    np.testing.assert_array_equal(out == 0, frames[:, :, None] | bins[:, None, :])
    assert max(len(runs(row)) for row in frames) == 2
    assert max(len(runs(row)) for row in bins) == 3
    assert frames.sum(1).max() <= 40
    assert bins.sum(1).max() <= 21
    # Masks of frames and of bins are drawn apart.
    assert abs(np.corrcoef(frames.sum(1), bins.sum(1))[0, 1]) < 0.25


def test_spec_augment_default_changes_nothing():
    features = jax.random.normal(KEY, (2, 9, 5, 1))
    np.testing.assert_array_equal(spec_augment(features, KEY), features)


def test_spec_augment_row_depends_on_its_number_alone():
    features = jnp.ones((6, 60, 40, 1))
    out = spec_augment(features, KEY, time_masks=1, frequency_masks=1)
    np.testing.assert_array_equal(
        spec_augment(features[:2], KEY, time_masks=1, frequency_masks=1), out[:2]
    )
    assert len(np.unique(np.array(out).reshape(6, -1), axis=0)) == 6


def test_spec_augment_bad_arguments_raise():
    features = jnp.ones((2, 10, 5, 1))
    with pytest.raises(ValueError, match=r"expected \[B, frames, F, 1\], got \(10, 5\)"):
        spec_augment(features[0, ..., 0], KEY, time_masks=1)
    with pytest.raises(ValueError, match="time_masks: expected 0 or more, got -1"):
        spec_augment(features, KEY, time_masks=-1)
    with pytest.raises(ValueError, match="time_mask_frames: expected 0 to 10, got 20"):
        spec_augment(features, KEY, time_masks=1)
    with pytest.raises(ValueError, match="frequency_mask_bins: expected 0 to 5, got 7"):
        spec_augment(features, KEY, frequency_masks=1)
