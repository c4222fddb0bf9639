"""Drawing of batches: the authors' items replayed, a NumPy loop, and the laws of the draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.clips import Clips
from sanas_jax.data.features import Frontend, extract
from sanas_jax.data.labelling import window_labels, word_ratio
from sanas_jax.data.mix_settings import MixSettings, windows_of
from sanas_jax.data.mixing import draw_batch, mix
from tests.helpers.audio import ratio_by_loop
from tests.helpers.places import GOLDEN as GOLDEN_FOLDER

# A clip of 100 samples in a buffer of 100 to 300, in windows of 5 frames every 2.
SMALL = MixSettings(
    sample_rate=100,
    window=5,
    hop_frames=2,
    frame_length=40,
    frame_hop=20,
)

pytestmark = pytest.mark.usefixtures("branch")
LABELS = np.array([2, 4, 1, 2, 4, 2, 1, 4, 2, 2])
TRACKS = [0, 1000, 1150, 5000]
KEY = jax.random.key(5)
GOLDEN = GOLDEN_FOLDER / "draws.npz"
draw = jax.jit(draw_batch, static_argnums=(1, 3))


@pytest.fixture(scope="module")
def clips():
    """Clip i holds 100 + i everywhere; noise counts upwards, so that its origin can be read."""
    samples = np.repeat(100 + np.arange(10, dtype=np.int16)[:, None], 100, 1)
    noise = np.arange(5000, dtype=np.int16)
    return Clips.create(samples, np.full(10, 100), LABELS, noise, np.array(TRACKS))


@pytest.fixture(scope="module")
def quiet(clips):
    """The same clips without background tracks."""
    return Clips.create(clips.samples, clips.lengths, clips.labels)


def assert_same(batch, other):
    """Equal up to the rounding of a fused multiply-add."""
    np.testing.assert_allclose(batch.signal, other.signal, atol=1e-7)
    np.testing.assert_array_equal(batch.labels, other.labels)
    np.testing.assert_array_equal(batch.mask, other.mask)


@pytest.mark.parametrize("item", range(12))
def test_mix_and_labels_reference(reference, item):
    """A draw is (0: integer, 1: uniform, 2: choice), low, high, value. In order: the length; noise
    where below 0.8; if so the track, its start and gain / 0.3; the offset of the word."""
    file = np.load(reference / "golden_features.npz")
    word, draws, sound, mask, ratio, labels = (
        file[f"random_noise/{item}/{name}"]
        for name in ("word", "draws", "sound", "mask", "signal_per_frame", "y")
    )
    value = draws[:, 3]
    length, offset, noise, gain = int(value[0]), int(value[-1]), np.zeros(48000, np.float32), 0.0
    assert (value[1] < 0.8) == (len(draws) == 6)
    if len(draws) == 6:
        track = file[f"bg/{['pink', 'white', 'hum'][int(value[2])]}"]
        noise[:length] = track[int(value[3]) :][:length]
        gain = np.float32(value[4] * 0.3)
    settings = MixSettings()
    words = jnp.array(word)[None]
    signal, (is_word,) = mix(words, [offset], length, jnp.array(noise), gain)
    np.testing.assert_allclose(signal[:length], sound, atol=1e-7)
    assert not np.any(signal[length:])
    np.testing.assert_array_equal(is_word[:length], mask)
    count = windows_of(length, settings)
    assert count == len(labels) == file["collate/lengths"][item]
    got = word_ratio(is_word, settings)
    np.testing.assert_allclose(got[:count], ratio, rtol=1e-5, atol=1e-6)
    label = int(file[f"random_noise/{item}/label"])
    np.testing.assert_array_equal(window_labels(got[:count], label, settings), labels)


@pytest.mark.parametrize("item", [1, 4])
def test_mix_features_reference(reference, item):
    """The mixed sound through the frontend is what the authors' network was fed."""
    file = np.load(reference / "golden_features.npz")
    sound, x = file[f"random_noise/{item}/sound"], file[f"random_noise/{item}/x"]
    frontend = Frontend.create(file["mel_basis_f32"], padding="reflect")
    features = np.array(extract(frontend, jnp.array(sound)))
    windows = np.stack([features[20 * t : 20 * t + 101] for t in range(len(x))])
    np.testing.assert_allclose(windows, x[:, 0], atol=2e-3, rtol=1e-4)


def test_mix_by_hand():
    words, noise = jnp.array([[0.5, -0.5, 0.9]]), jnp.array([1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0])
    signal, word = mix(words, [1], 5, noise, 0.2)
    np.testing.assert_allclose(signal, [0.2, 0.7, -0.7, 1.0, 0.2, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(word, [[False, True, True, True, False, False, False]])
    # Three words in 5 samples: cut off at the start, overlapping the first, cut off at the end.
    words = jnp.array([[0.1, 0.2, 0.3], [0.4, 0.4, 0.4], [0.5, 0.6, 0.7]])
    signal, word = mix(words, [-1, 1, 4], 5, 0 * noise, 0.0)
    np.testing.assert_allclose(signal, [0.2, 0.7, 0.4, 0.4, 0.5, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(word[0]), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(word[1]), [1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(word[2]), [4])


def test_draw_batch_items_follow_the_recipe(clips):
    """Every item is decoded back into its draws, and made again with NumPy."""
    batch = jax.tree.map(np.array, draw(clips, replace(SMALL, noise_probability=0.3), KEY, 900))
    assert batch.signal.shape == (900, 300)
    assert batch.signal.dtype == np.float32
    assert batch.labels.shape == batch.mask.shape == (SMALL.num_windows, 900) == (6, 900)
    assert batch.labels.dtype == np.int32
    lengths, offsets, noisy = [], [], []
    for signal, labels, mask in zip(batch.signal, batch.labels.T, batch.mask.T, strict=True):
        count = mask.sum()
        np.testing.assert_array_equal(mask, np.arange(6) < count)
        assert not labels[~mask].any()
        values = signal * 32768
        # Without noise there are two levels at most, nothing and the clip.
        noisy.append(len(np.unique(signal)) > 2)
        if not signal.any():
            assert not labels.any()
        if noisy[-1] or not signal.any():
            continue
        start = int(np.flatnonzero(signal)[0])
        clip = round(float(values[start])) - 100
        word = np.zeros(300, bool)
        word[start : start + 100] = True
        np.testing.assert_array_equal(values, np.where(word, 100 + clip, 0))
        expected = np.where(ratio_by_loop(word, SMALL) > 0.5, LABELS[clip], 0)
        np.testing.assert_array_equal(labels, np.where(mask, expected, 0))
        offsets.append(start)
        lengths.append(count)
    assert abs(np.mean(noisy) - 0.3) < 0.06
    assert set(lengths) == set(range(1, 7))
    assert min(offsets) < 5
    assert max(offsets) > 150


def test_draw_batch_draws_as_before(clips):
    """The recipe of the SANAS code does not depend on what else can be asked for."""
    file = np.load(GOLDEN)
    drawn = [
        draw(clips, SMALL, KEY, 8),
        draw(clips, replace(SMALL, balance=True, unknown_fraction=0.5), jax.random.key(6), 8),
    ]
    signal = np.concatenate([batch.signal for batch in drawn])
    np.testing.assert_allclose(signal, file["signal"], atol=1e-7)
    for name in ("labels", "mask"):
        values = np.concatenate([getattr(batch, name) for batch in drawn], 1)
        np.testing.assert_array_equal(values, file[name])


def test_draw_batch_noise_is_one_segment_of_one_track(clips):
    settings = replace(
        SMALL, noise_probability=1.0, silence_fraction=1e9, max_noise_gain=0.25, min_seconds=3.0
    )
    signals = np.array(draw(clips, settings, KEY, 300).signal, np.float64) * 32768
    used = np.zeros(3, int)
    gains = []
    for signal in signals:
        rise = np.diff(signal)
        gain = np.median(rise)
        gains.append(gain)
        assert 0 < gain <= 0.25
        values = signal / gain
        start = round(values[0])
        track = int(np.searchsorted(TRACKS, start + 1e-3, side="right")) - 1
        low, high = TRACKS[track], TRACKS[track + 1]
        # The track of 150 samples is shorter than the item: it starts over.
        expected = low + (start - low + np.arange(300)) % (high - low)
        assert track == 1 or start + 300 <= high
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=0.1 / gain)
        used[track] += 1
    assert used.min() > 60
    np.testing.assert_allclose([np.mean(gains), np.max(gains)], [0.125, 0.25], atol=0.015)


@pytest.mark.parametrize("balance", [False, True])
def test_draw_batch_class_frequencies(quiet, balance):
    # No noise: the clip is read from the level of the signal.
    settings = replace(SMALL, unknown_fraction=0.3, silence_fraction=0.2, balance=balance)
    level = np.round(np.array(draw(quiet, settings, KEY, 9000).signal).max(1) * 32768).astype(int)
    kind = np.where(level == 0, 0, LABELS[np.maximum(level - 100, 0)])
    share = np.bincount(kind, minlength=5) / 9000
    words = [0.5, 0, 0.5] if balance else [5 / 8, 0, 3 / 8]
    # Four standard deviations of a share of 9000 draws are at most 0.021.
    np.testing.assert_allclose(share, np.array([0.2, 0.3, *words]) / 1.5, atol=0.021)
    for label in (1, 2, 4):
        each = np.bincount(level[kind == label] - 100, minlength=10)[label == LABELS]
        assert each.min() > 0.8 * each.mean()


def test_draw_batch_without_unknown_words(quiet):
    known = np.array(quiet.labels) != 1
    clips = Clips.create(
        np.array(quiet.samples)[known], np.array(quiet.lengths)[known], LABELS[known]
    )
    silent = ~np.array(draw(clips, SMALL, KEY, 5000).signal).any(1)
    assert abs(silent.mean() - 0.1 / 1.1) < 0.02


def test_draw_batch_same_key_same_rows(clips):
    eight, four = draw(clips, SMALL, KEY, 8), draw(clips, SMALL, KEY, 4)
    np.testing.assert_array_equal(eight.signal[:4], four.signal)
    np.testing.assert_array_equal(eight.labels[:, :4], four.labels)
    np.testing.assert_array_equal(eight.mask[:, :4], four.mask)
    again = draw(clips, SMALL, jax.random.key(5), 8)
    np.testing.assert_array_equal(eight.signal, again.signal)
    assert np.any(eight.signal != draw(clips, SMALL, jax.random.key(4), 8).signal)
    assert len(np.unique(eight.signal, axis=0)) == 8


def test_draw_batch_vmap_over_keys(clips):
    keys = jnp.stack([KEY, jax.random.key(4)])
    mapped = jax.jit(jax.vmap(lambda key: draw_batch(clips, SMALL, key, 4)))(keys)
    for i, key in enumerate(keys):
        assert_same(draw(clips, SMALL, key, 4), jax.tree.map(lambda a, i=i: a[i], mapped))


@pytest.mark.slow
def test_draw_batch_without_jit(clips):
    assert_same(draw(clips, SMALL, KEY, 4), draw_batch(clips, SMALL, KEY, 4))


def test_draw_batch_bad_arguments_raise(clips):
    with pytest.raises(ValueError, match="batch_size: expected 1 or more, got 0"):
        draw_batch(clips, SMALL, KEY, 0)
    with pytest.raises(ValueError, match="expected one typed key"):
        draw_batch(clips, SMALL, jax.random.PRNGKey(0), 1)
    with pytest.raises(ValueError, match="expected one typed key"):
        draw_batch(clips, SMALL, jax.random.split(KEY), 1)
    with pytest.raises(ValueError, match="room for a clip of 100 samples, got 90"):
        draw_batch(clips, replace(SMALL, min_seconds=0.9), KEY, 1)
    with pytest.raises(ValueError, match="room for 2 words, 200 samples, got 100 samples"):
        draw_batch(clips, replace(SMALL, words_per_item=2), KEY, 1)
    with pytest.raises(ValueError, match="room for 4 words, 400 samples, got 298 samples"):
        draw_batch(clips, replace(SMALL, words_per_item=4, cut_words=True), KEY, 1)
    with pytest.raises(ValueError, match="overlap: expected less than a clip of 100 samples"):
        draw_batch(clips, replace(SMALL, words_per_item=2, overlap=1.0), KEY, 1)
    with pytest.raises(ValueError, match="words, noise: expected"):
        mix(jnp.zeros((1, 3)), [0], 2, jnp.zeros(2), 0.0)
    with pytest.raises(ValueError, match=r"offsets: expected \[1\], got \(2,\)"):
        mix(jnp.zeros((1, 3)), [0, 1], 2, jnp.zeros(4), 0.0)
