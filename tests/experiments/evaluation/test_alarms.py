"""False alarms on audio without words: counts, exact bounds, and what is kept apart."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import poisson

from experiments.datasets.recordings import Recording, lay_out
from experiments.evaluation.alarms import (
    Traced,
    fired,
    negative_summary,
    poisson_bounds,
    score_negatives,
)
from experiments.runs.stored_negatives import (
    NegativeResult,
    read_negative_results,
    save_negative_result,
)
from experiments.runs.stored_results import Trace
from sanas_jax.data.features import Frontend
from sanas_jax.streaming.detector import Detector, detect

CLASSES = ("_silence_", "_unknown_", "yes", "no")
DETECTOR = Detector(window_ms=0, min_count=1, suppression_ms=300)


@pytest.mark.parametrize("count", [1, 2, 12, 403])
def test_poisson_bounds_leave_a_fortieth_on_each_side(count):
    low, high = poisson_bounds(count, 2.0)
    assert poisson.sf(count - 1, 2 * low) == pytest.approx(0.025)
    assert poisson.cdf(count, 2 * high) == pytest.approx(0.025)


def test_poisson_bounds_of_nothing_are_one_sided():
    low, high = poisson_bounds(0, 3.0)
    assert low == 0
    assert poisson.pmf(0, 3 * high) == pytest.approx(0.05)
    assert f"{high:.1f}" == "1.0"
    for count, hours in ((-1, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="expected a count of 0 or more in some time"):
            poisson_bounds(count, hours)


@pytest.fixture
def traced():
    """Two recordings of 36 s: in `a` yes, unknown and yes fire, in `b`, where one was heard, no."""
    recordings = [Recording(n, np.ones(16_000 * 36, np.int16), n == "b") for n in "ab"]
    negatives = lay_out("speech", recordings)
    times = np.arange(0, 39_000, 200)
    traces = []
    for spoken in ({6_000: 2, 9_000: 1, 12_000: 2}, {8_000: 3}):
        posteriors = np.full((len(times), 4), 0.02)
        posteriors[:, 0] = 0.94
        for ms, label in spoken.items():
            posteriors[times == ms] = 0.05
            posteriors[times == ms, label] = 0.85
        labels = np.zeros(len(times), int)
        traces.append(Trace(times, posteriors, np.ones((len(times), 2)), labels))
    model = SimpleNamespace(
        name="run",
        step=7,
        static=True,
        info=SimpleNamespace(classes=CLASSES, frontend=Frontend.create(np.ones((1, 241)))),
        sanas=SimpleNamespace(window=101),
        edge_macs={"a": 100, "b": 20},
        controller_macs=3,
        frontend_macs=lambda: 50,
    )
    return Traced(model, None, negatives, traces)


def test_fired_are_words_in_their_recordings_as_detect_finds_them(traced):
    found = fired(traced, DETECTOR)
    assert [(d.label, d.time_ms, place.recording) for d, place in found] == [
        (2, 6_000, "a"),
        (2, 12_000, "a"),
        (3, 8_000, "b"),
    ]
    slow = [
        d
        for trace in traced.traces
        for d in detect(trace.posteriors, trace.times_ms, DETECTOR)
        if d.label > 1
    ]
    assert [d for d, _ in found] == slow


def test_costs_are_of_the_recordings_that_count(traced):
    """Not of the silence around them, nor of those in which a word was heard."""
    times = traced.traces[0].times_ms
    # A window of 1.01 s has its middle in `a`, which is heard from 1.5 s on, in 180 steps.
    half = (times >= 1_000) & (times < 19_000)
    traced.traces[0].live[half, 0] = 0
    traced.traces[1].live[:, 1] = 0
    assert score_negatives(traced, DETECTOR, {"kind": "default"}, None).macs_per_frame == 70
    # Recordings shorter than a step have no middle of a window in them.
    short = [[place._replace(length_ms=1.0) for place in own] for own in traced.negatives.places]
    none = traced._replace(negatives=traced.negatives._replace(places=short))
    own = [120 - 100 * half.mean(), 100]
    found = score_negatives(none, DETECTOR, {"kind": "default"}, None).macs_per_frame
    assert found == pytest.approx(np.mean(own))


def test_score_negatives_counts_words_and_keeps_apart_what_was_heard(traced, tmp_path):
    described = {"kind": "calibrated"}
    result = score_negatives(traced, DETECTOR, described, None)
    assert (result.alarms, result.seconds, result.recordings) == (2, 36.0, 1)
    assert result.alarms_per_hour == pytest.approx(200)
    assert (result.alarms_per_hour_low, result.alarms_per_hour_high) == poisson_bounds(2, 0.01)
    assert result.by_word["yes"]["alarms"] == 2
    assert result.by_word["no"] == {
        "alarms": 0,
        "per_hour": 0.0,
        "low": 0.0,
        "high": pytest.approx(299.6, abs=0.1),
    }
    assert result.heard == {"recordings": 1, "seconds": 36.0, "detections": 1}
    assert (result.macs_per_frame, result.macs_per_frame_with_controller) == (120, 123)
    assert result.frontend_macs == 50
    rates = {step["threshold"]: step["alarms_per_hour"] for step in result.roc}
    assert rates[0.8] == pytest.approx(200)
    assert rates[0.9] == 0
    assert result.detections[0] == {
        "word": "yes",
        "ms": 4_500,
        "score": pytest.approx(0.85),
        "recording": "a",
        "heard": False,
    }
    of_cache = traced._replace(negatives=traced.negatives._replace(split="validation"))
    assert result.split is None
    assert score_negatives(of_cache, DETECTOR, described, None).split == "validation"
    text = negative_summary(result)
    assert "on speech, 0.01 h without words: 2, 200.0/h (24.2 to 722.5)" in text
    assert "1 in 0.01 h where a word was heard" in text

    assert not save_negative_result(tmp_path, result)
    # That a word was heard in one was not known before.
    unknown = dataclasses.replace(result, recordings=2, seconds=72.0, heard=None)
    assert not save_negative_result(tmp_path, unknown)
    assert save_negative_result(tmp_path, dataclasses.replace(unknown, seconds=73.0))
    assert save_negative_result(tmp_path, result)
    assert read_negative_results(tmp_path) == [result]
    file = tmp_path / "evaluations" / "negatives" / "calibrated" / "speech.json"
    assert NegativeResult.from_json(result.to_json()) == result
    file.write_text("{}")
    with pytest.raises(ValueError, match="expected a result of evaluate"):
        read_negative_results(tmp_path)
    save_negative_result(tmp_path, result)
    assert read_negative_results(tmp_path) == [result]
