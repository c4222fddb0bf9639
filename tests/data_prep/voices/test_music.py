"""Notes by their closed forms, and pieces: tonal, seeded, unlike each other."""

import numpy as np
import pytest

from data_prep.voices.music import Instrument, Score, draw_instrument, music, note

RATE = 16_000
PLAIN = Instrument(
    partials=np.array([1.0, 0.5]),
    body=np.array([1e9]),  # resonates nowhere: all harmonics are at a fifth
    attack=1e-6,
    release=0.1,
    decay=0.0,
    vibrato=0.0,
    glide=0.0,
)


def test_note_is_the_sum_of_its_harmonics() -> None:
    got = note(PLAIN, 250.0, 0.5)
    assert len(got) == 9_600
    time = np.arange(8_000) / RATE
    expected = 0.2 * np.sin(2 * np.pi * 250 * time) + 0.1 * np.sin(2 * np.pi * 500 * time)
    np.testing.assert_allclose(got[:8_000], expected, atol=1e-9)
    assert np.abs(got[-100:]).max() < 0.03, "it is let go"


def test_note_of_a_plucked_string_decays_the_faster_the_higher() -> None:
    got = note(PLAIN._replace(decay=2.0), 250.0, 2.0)
    bins = {250: 25, 500: 50}  # of windows of a tenth of a second
    first, later = (np.abs(np.fft.rfft(got[at : at + 1_600])) for at in (0, RATE))
    assert later[bins[250]] / first[bins[250]] == pytest.approx(np.exp(-2), rel=1e-3)
    assert later[bins[500]] / first[bins[500]] == pytest.approx(np.exp(-4), rel=1e-3)


def test_note_leaves_out_harmonics_that_the_rate_cannot_hold() -> None:
    got = note(PLAIN, 5_000.0, 1.0)[:RATE]
    power = np.abs(np.fft.rfft(got)) ** 2
    assert power[5_000] > 0.999 * power.sum(), "10 kHz would fold to 6 kHz"


def test_note_glides_up_to_its_pitch_and_resonates_in_its_body() -> None:
    got = note(PLAIN._replace(partials=np.array([1.0]), glide=1.0), 1_000.0, 1.0)
    crossings = np.flatnonzero((got[:-1] < 0) & (got[1:] >= 0))
    assert RATE / np.diff(crossings)[:2].mean() == pytest.approx(1_000 * 2 ** (-1 / 12), rel=0.03)
    assert RATE / np.diff(crossings)[-200:-100].mean() == pytest.approx(1_000, rel=1e-3)
    loud = note(PLAIN._replace(body=np.array([500.0])), 250.0, 0.1)[:1_600]
    spectrum = np.abs(np.fft.rfft(loud))
    # By hand: 0.5 · (0.2 + 1) at the resonance, 0.2 + 1 / (1 + (250 / 150)²) beside it.
    assert spectrum[50] / spectrum[25] == pytest.approx(0.6 / (0.2 + 9 / 34), rel=1e-6)


def test_score_hertz_are_those_of_the_scale() -> None:
    score = Score(0.5, 4, [0], (0, 2, 4, 5, 7, 9, 11), 55.0)
    assert score.hertz(0, 1) == 110
    assert score.hertz(7, 0) == 110
    assert score.hertz(4, 0) == pytest.approx(82.407, abs=1e-3)  # E2
    assert score.hertz(-1, 1) == pytest.approx(103.826, abs=1e-3)  # G#2


def test_instruments_are_plucked_or_held() -> None:
    drawn = [draw_instrument(np.random.default_rng(seed)) for seed in range(100)]
    plucked = [each for each in drawn if each.decay > 0]
    assert 30 < len(plucked) < 70
    assert max(each.attack for each in plucked) < 0.01
    assert any(each.vibrato > 0 for each in drawn)


def test_music_is_tonal_and_follows_the_seed() -> None:
    flatness = []
    pieces = [music(np.random.default_rng(seed), 160_000) for seed in range(12)]
    for piece in pieces:
        assert piece.shape == (160_000,)
        assert np.abs(piece).max() == pytest.approx(1)
        seconds = np.sqrt(np.mean(piece.reshape(10, RATE) ** 2, axis=1))
        assert np.median(seconds) > 0.01, "no silence with a click in it"
        power = np.abs(np.fft.rfft(piece)) ** 2 + 1e-12
        flatness.append(np.exp(np.log(power).mean()) / power.mean())
    assert max(flatness) < 0.05, "white noise has 0.56"
    assert len({piece.tobytes() for piece in pieces}) == 12
    np.testing.assert_array_equal(pieces[3], music(np.random.default_rng(3), 160_000))
