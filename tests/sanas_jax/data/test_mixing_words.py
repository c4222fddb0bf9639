"""Items of several words, cut off or not: labels against their sound, sample by sample."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.clips import Clips
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.mixing import draw_batch
from tests.helpers.audio import ratio_by_loop

SIZE = 100
SMALL = MixSettings(
    sample_rate=100,
    window=5,
    hop_frames=2,
    frame_length=40,
    frame_hop=20,
    noise_probability=0.0,
    silence_fraction=0.3,
    unknown_fraction=0.3,
)
LABELS = np.array([2, 4, 1, 2, 4, 3, 1, 4, 2, 5])
KEY = jax.random.key(8)
draw = jax.jit(draw_batch, static_argnums=(1, 3))


@pytest.fixture(scope="module")
def clips():
    """Sample j of clip i is 1 + 100 i + j, so that each sample of an item tells its origin."""
    samples = 1 + np.arange(len(LABELS) * SIZE, dtype=np.int16).reshape(-1, SIZE)
    return Clips.create(samples, np.full(len(LABELS), SIZE), LABELS)


def words_of(signal):
    """Masks of the words of an item by (clip, sample at which it begins), from its sound."""
    values = np.round(signal * 32768).astype(int)
    places = {}
    for position in np.flatnonzero(values):
        clip, sample = divmod(values[position] - 1, SIZE)
        mask = places.setdefault((clip, position - sample), np.zeros(len(signal), bool))
        mask[position] = True
    return places


def labels_by_loop(words, windows, settings):
    """The label of each window: of the word that has most of it, if that is more than half."""
    best, labels = np.zeros(windows), np.zeros(windows, int)
    for (clip, _), mask in words.items():
        ratio = ratio_by_loop(mask, settings)
        labels = np.where(ratio > best, LABELS[clip], labels)
        best = np.maximum(ratio, best)
    return np.where(best > settings.signal_threshold, labels, 0)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("words", "seconds"), [(1, 1.0), (2, 2.3), (3, 4.0)])
def test_draw_batch_labels_are_those_of_the_sound(clips, words, seconds, cut):
    settings = replace(
        SMALL, min_seconds=seconds, max_seconds=4.0, words_per_item=words, cut_words=cut
    )
    batch = jax.tree.map(np.array, draw(clips, settings, KEY, 300))
    counts, early, late, gaps = [], 0, 0, []
    for signal, labels, mask in zip(batch.signal, batch.labels.T, batch.mask.T, strict=True):
        placed = words_of(signal)
        expected = labels_by_loop(placed, len(labels), settings)
        np.testing.assert_array_equal(labels, np.where(mask, expected, 0))
        counts.append(len(placed))
        begins = np.sort([begin for _, begin in placed])
        gaps.extend(np.diff(begins) - SIZE)
        lengths = [each.sum() for each in placed.values()]
        early += sum(begin < 0 for begin in begins)
        late += sum(n < SIZE for n in lengths) - sum(begin < 0 for begin in begins)
    # 3 of 16 slots are silent; all of an item's with the product of their chances.
    silent = np.mean(np.array(counts) == 0)
    assert abs(silent - (3 / 16) ** words) < 4 * (silent / 300 + 1e-3) ** 0.5
    assert max(counts) == words
    assert (early > 10) == (late > 10) == cut
    assert early + late == 0 or cut
    if words > 1:
        assert 0 <= min(gaps) < 5
        # Two words in one window: both are cut short by it, so that it may well be silence.
        assert sum(gap < 50 for gap in gaps) > 20


def test_draw_batch_window_of_two_words_and_of_half_a_word(clips):
    """The hard negatives occur: windows with sound that are silence all the same."""
    settings = replace(SMALL, min_seconds=3.0, words_per_item=2, cut_words=True)
    batch = jax.tree.map(np.array, draw(clips, settings, KEY, 200))
    partial = two = 0
    for signal, labels in zip(batch.signal, batch.labels.T, strict=True):
        ratios = [ratio_by_loop(mask, settings) for mask in words_of(signal).values()]
        if ratios:
            partial += ((np.max(ratios, 0) > 0.3) & (labels == 0)).sum()
            two += ((np.sum(ratios, 0) > 0.5) & (labels == 0)).sum()
    assert partial > 50
    assert two > 10


@pytest.mark.parametrize("overlap", [0.3, -0.2])
def test_draw_batch_overlap(overlap):
    """Clip i is 3^i everywhere: digits of the sum in base 3 tell how many words there are."""
    samples = np.repeat(3 ** np.arange(9, dtype=np.int16)[:, None], SIZE, 1)
    clips = Clips.create(samples, np.full(9, SIZE), np.arange(2, 11))
    settings = replace(SMALL, min_seconds=2.5, max_seconds=2.5, words_per_item=2, overlap=overlap)
    shared = []
    for signal in np.array(draw(clips, settings, KEY, 200).signal):
        values = np.round(signal * 32768).astype(int)
        digits = values[:, None] // 3 ** np.arange(9) % 3
        assert digits.sum() in (0, SIZE, 2 * SIZE)
        if digits.sum() == 2 * SIZE:
            sounding = np.flatnonzero(digits.any(1))
            shared.append(2 * SIZE - (sounding[-1] - sounding[0] + 1))
    assert round(overlap * 100) - 3 <= max(shared) <= round(overlap * 100)


def test_draw_batch_slots_are_drawn_apart(clips):
    settings = replace(SMALL, min_seconds=2.0, words_per_item=2, balance=True, unknown_fraction=0.0)
    first, second = np.zeros(1500, int), np.zeros(1500, int)
    for i, signal in enumerate(np.array(draw(clips, settings, KEY, 1500).signal)):
        words = sorted(words_of(signal), key=lambda place: place[1])
        if len(words) == 2:
            first[i], second[i] = (LABELS[clip] for clip, _ in words)
    both = first > 0
    for drawn in (first, second):
        share = np.bincount(drawn[both], minlength=6)[2:] / both.sum()
        np.testing.assert_allclose(share, 0.25, atol=0.055)
    equal = np.mean(first[both] == second[both])
    assert abs(equal - 0.25) < 0.055


@pytest.mark.slow
def test_draw_batch_all_switches_on(clips):
    """A row depends on its key alone; vmapped over keys it is the same."""
    settings = replace(
        SMALL,
        min_seconds=2.0,
        words_per_item=2,
        cut_words=True,
        noise_probability=1.0,
        white_noise=0.5,
        snr_range_db=(0.0, 20.0),
        speed_range=(0.8, 1.25),
        gain_range=(0.5, 2.0),
    )
    eight, three = draw(clips, settings, KEY, 8), draw(clips, settings, KEY, 3)
    np.testing.assert_array_equal(eight.signal[:3], three.signal)
    np.testing.assert_array_equal(eight.labels[:, :3], three.labels)
    keys = jax.random.split(KEY, 2)
    mapped = jax.jit(jax.vmap(lambda key: draw_batch(clips, settings, key, 3)))(keys)
    for i, key in enumerate(keys):
        alone = draw(clips, settings, key, 3)
        np.testing.assert_allclose(mapped.signal[i], alone.signal, atol=1e-6)
        np.testing.assert_array_equal(mapped.labels[i], alone.labels)
    # Words stay where they are: a clip that is faster keeps its second, and its label.
    plain = replace(settings, speed_range=(1.0, 1.0), gain_range=(1.0, 1.0))
    np.testing.assert_array_equal(draw(clips, plain, KEY, 8).labels, eight.labels)
    assert jnp.any(draw(clips, plain, KEY, 8).signal != eight.signal)
