"""Sources of household sounds: each where its energy should lie, and scenes of them."""

from collections.abc import Callable

import numpy as np
import pytest

from data_prep.voices import household as sources
from data_prep.voices.noises import band, ring, wander

RATE = 16_000
SEEDS = range(12)


def spectrum(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, Hz, and power of a sound."""
    return np.fft.rfftfreq(len(sound), 1 / RATE), np.abs(np.fft.rfft(sound)) ** 2


def centroid(sound: np.ndarray) -> float:
    """Mean frequency of its power, Hz."""
    hertz, power = spectrum(sound)
    return float((hertz * power).sum() / power.sum())


def peakiness(sound: np.ndarray) -> float:
    """Share of the power in the strongest hundredth of the bins: of white noise some 5 %."""
    power = np.sort(spectrum(sound)[1])[::-1]
    return float(power[: len(power) // 100].sum() / power.sum())


def typical(measure: Callable[[np.ndarray], float], name: str) -> float:
    """Median of a measure of an event over some seeds."""
    make = getattr(sources, name)
    return float(np.median([measure(make(np.random.default_rng(seed))) for seed in SEEDS]))


def test_ring_is_the_mean_of_its_modes() -> None:
    got = ring(np.array([100.0, 400.0]), np.array([0.1, 0.2]), 0.5)
    assert len(got) == 8_000
    time = 10 / RATE  # of one sample
    first = np.exp(-time / 0.1) * np.sin(2 * np.pi * 100 * time)
    second = np.exp(-time / 0.2) * np.sin(2 * np.pi * 400 * time)
    assert got[10] == pytest.approx((first + second) / 2)


def test_band_falls_off_outside_and_wander_stays_within() -> None:
    rng = np.random.default_rng(0)
    noise = band(rng, 160_000, 500, 2_000)
    hertz, power = spectrum(noise)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].mean() for low in (62.5, 125, 1_000)]
    assert octaves[1] / octaves[0] == pytest.approx(4, rel=0.3)  # 6 dB
    assert octaves[2] > 4 * octaves[1]
    course = wander(rng, 160_000, 4.0)
    assert course.shape == (160_000,)
    assert 0 <= course.min() < 0.2 < 0.8 < course.max() <= 1
    assert np.abs(np.diff(course)).max() <= 4 / RATE, "one unit from value to value at most"


@pytest.mark.parametrize("make", sources.STEADY, ids=lambda make: make.__name__)
def test_steady_sources_last_and_follow_the_seed(
    make: Callable[[np.random.Generator, int], np.ndarray],
) -> None:
    for samples in (160_000, 200_001):
        sound = make(np.random.default_rng(1), samples)
        assert sound.shape == (samples,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0
        np.testing.assert_array_equal(sound, make(np.random.default_rng(1), samples))


@pytest.mark.parametrize("make", sources.EVENTS, ids=lambda make: make.__name__)
def test_events_are_short_heard_and_differ(
    make: Callable[[np.random.Generator], np.ndarray],
) -> None:
    made = [make(np.random.default_rng(seed)) for seed in range(50)]
    for sound in made:
        assert 0.01 < len(sound) / RATE < 30
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0.001
    assert len({sound.tobytes() for sound in made}) == 50


def test_events_lie_where_they_should() -> None:
    assert typical(centroid, "footsteps") < 400
    assert typical(centroid, "paper") > 2_500
    assert typical(centroid, "keyboard") > 1_000
    assert typical(peakiness, "beeps") > 0.8
    assert typical(peakiness, "paper") < 0.2


def test_a_vacuum_cleaner_whines_between_two_silences() -> None:
    sound = sources.vacuum_cleaner(np.random.default_rng(0), 320_000)
    tenths = np.sqrt(np.mean(sound.reshape(10, -1) ** 2, axis=1))
    assert tenths.max() > 10 * tenths[-1]
    assert tenths[0] < tenths.max()


def test_household_scenes_have_events_over_a_quiet_room() -> None:
    scenes = [sources.household(np.random.default_rng(seed), 240_000) for seed in range(20)]
    spans = []
    for scene in scenes:
        assert scene.shape == (240_000,)
        assert np.abs(scene).max() == pytest.approx(1)
        frames = np.sqrt(np.mean(scene.reshape(-1, 480) ** 2, axis=1))
        assert frames.min() > 0, "a room is never quite silent"
        spans.append(frames.max() / np.quantile(frames, 0.1))
    assert np.median(spans) > 5, "steady noise alone has about 1.5"
    assert len({scene.tobytes() for scene in scenes}) == 20
