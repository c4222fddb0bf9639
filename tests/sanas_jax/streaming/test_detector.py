"""The streaming detector against TensorFlow's tool (golden files) and streams worked by hand."""

import numpy as np
import pytest

from sanas_jax.streaming.detector import (
    Detection,
    Detector,
    detect,
    detect_steps,
    detector_init,
    detector_step,
)
from tests.helpers.places import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "detector.npz"
SMALL_CASES = ["overlapping_words", "end_cut_up_to_time", "two_detections_one_truth", "fuzz1"]
OTHER_CASES = ["clean_200ms", "false_alarms", "fuzz0", "fuzz2"]


def assert_matches(file, case):
    window, _, suppression, count, threshold, _ = file[
        f"{case}/params_window_tol_supp_mincount_thr_upto"
    ]
    detector = Detector(window, threshold, suppression, int(count))
    posteriors, times = file[f"{case}/preds"], file[f"{case}/times"]
    steps = detect_steps(posteriors, times, detector)
    assert [step.label for step in steps] == file[f"{case}/found_word_per_step"].tolist()
    assert [step.score for step in steps] == file[f"{case}/score_per_step"].tolist()
    assert [step.fired for step in steps] == file[f"{case}/is_new_per_step"].astype(bool).tolist()
    detections = detect(posteriors, times, detector)
    assert [d.label for d in detections] == file[f"{case}/found_word"].tolist()
    assert [d.time_ms for d in detections] == file[f"{case}/found_time"].tolist()


@pytest.mark.parametrize("case", SMALL_CASES)
def test_detect_golden(case):
    assert_matches(np.load(GOLDEN), case)


@pytest.mark.parametrize("case", OTHER_CASES)
def test_detect_reference(reference, case):
    assert_matches(np.load(reference / "golden_metrics.npz"), case)


def stream(labels, score=0.9, classes=3):
    """Posteriors [T, classes] of `score` on the labels, the rest evenly on the others."""
    rows = np.full((len(labels), classes), (1 - score) / (classes - 1))
    rows[np.arange(len(labels)), labels] = score
    return rows, 200.0 * np.arange(len(labels))


def test_detect_by_hand():
    # At 800 ms the window holds the results of 400, 600 and 800 ms, all on word 1.
    rows, times = stream([0, 0, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2])
    found = detect(rows, times)
    assert [(d.label, d.time_ms) for d in found] == [(1, 800.0)]
    assert found[0].score == pytest.approx(0.9)
    # Silence would fire at 1600 ms and does not: only 800 ms have passed. The same holds for
    # word 2 at 2200 ms (1400 ms), but not one step later.
    rows, times = stream([0, 0, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2, 2])
    assert [(d.label, d.time_ms) for d in detect(rows, times)] == [(1, 800.0), (2, 2400.0)]


def test_detect_suppression_is_strict():
    rows, times = stream([1] * 5 + [2] * 10)
    # Word 1 fires at 400 ms, word 2 has the window from 1400 ms on.
    at = [
        [d.time_ms for d in detect(rows, times, Detector(suppression_ms=wait))]
        for wait in (999, 1000, 1200, 1201)
    ]
    assert at == [[400, 1400], [400, 1600], [400, 1800], [400, 1800]]


def test_detect_no_wait_after_silence():
    # Word 1 fires at 400 ms, silence as soon as allowed, at 2000 ms, and word 2 when its three
    # results are there, 600 ms later.
    rows, times = stream([1] * 3 + [0] * 8 + [2] * 3)
    fired = [(s.label, t) for s, t in zip(detect_steps(rows, times), times, strict=True) if s.fired]
    assert fired == [(1, 400.0), (0, 2000.0), (2, 2600.0)]
    assert [(d.label, d.time_ms) for d in detect(rows, times)] == [(1, 400.0), (2, 2600.0)]
    # Silence is whichever label the detector is told.
    other = detect(rows, times, Detector(silence_label=1))
    assert [(d.label, d.time_ms) for d in other] == [(0, 1000.0), (2, 2600.0)]


def test_detect_threshold_is_strict():
    rows, times = stream([1] * 4, score=0.75)
    assert not detect(rows, times, Detector(threshold=0.75))
    assert len(detect(rows, times, Detector(threshold=0.74))) == 1


def test_labels_may_have_thresholds_of_their_own():
    rows, times = stream([1] * 4, score=0.75)
    for own, fires in (((0.9, 0.74), 1), ((0.1, 0.75), 0), ((0.9,), 1), ((), 1)):
        found = detect(rows, times, Detector(threshold=0.7, thresholds=own))
        assert len(found) == fires
    assert Detector(thresholds=[0.5, 0.4]) == Detector(thresholds=(0.5, 0.4))  # as files have them


def test_more_may_be_asked_of_a_word_where_people_talk():
    """Other words at 0.9 for n + 1 results, then a word, which could fire at its third.

    The mean posterior of other words is then 0.9 (1 - e^-n/20) e^-0.1 + 0.05 (1 - e^-0.1): over 0.2
    from n = 6 on.
    """
    never = (2.0, 2.0)  # of silence and other words, which are not looked at here
    detector = Detector(
        threshold=0.7, suppression_ms=0, thresholds=never, talk_threshold=0.95, talk_ms=4000
    )
    for n, fires in ((5, True), (6, False)):
        rows, times = stream([1] * (n + 1) + [2] * 3)
        assert bool(detect(rows, times, detector)) == fires, n
    for quiet, fires in ((20, False), (25, True)):  # after a while it is forgotten
        rows, times = stream([1] * 20 + [0] * quiet + [2] * 3)
        assert bool(detect(rows, times, detector)) == fires, quiet
    rows, times = stream([1] * 20 + [2] * 3, score=0.97)
    assert detect(rows, times, detector)[0].label == 2


def test_what_is_asked_where_people_talk_is_never_less():
    detector = Detector(threshold=0.7, thresholds=(0.1, 0.2, 0.99), talk_threshold=0.95)
    assert [detector.threshold_of(k, talking=True) for k in range(4)] == [0.1, 0.2, 0.99, 0.95]
    with pytest.raises(ValueError, match="talk_ms: expected more than 0, got 0"):
        Detector(talk_ms=0)
    with pytest.raises(ValueError, match=r"with talk_threshold K > unknown_label = 1, got \(1,\)"):
        detect(np.ones((1, 1)), [0.0], detector)
    assert detect(np.ones((4, 1)), np.arange(4) * 200.0, Detector(unknown_label=7)) == []
    for label in (-1, 1.5):
        with pytest.raises(ValueError, match="unknown_label: expected a label, 0 or more, got"):
            Detector(unknown_label=label)


def test_talk_is_followed_by_a_detector_that_asks_nothing_of_it():
    """So that one which does, from the next step on, knows what came before."""
    plain, state = Detector(), detector_init(Detector())
    rows, times = stream([1] * 30)
    for row, time in zip(rows, times, strict=True):
        state, _ = detector_step(plain, state, row, time)
    assert state.talk == pytest.approx(0.9 * (1 - np.exp(-29 / 20)))


def test_detect_needs_count_and_span():
    rows, _ = stream([1] * 6)
    # A quarter of the window is 125 ms.
    assert not detect(rows, np.arange(6) * 24.0)
    assert [d.time_ms for d in detect(rows, np.arange(6) * 25.0)] == [125]
    # At 200 ms a window of 500 ms never has four results: the Python tool's default never fires.
    assert not detect(rows, np.arange(6) * 200.0, Detector(min_count=4))
    # A result as old as the window still counts.
    assert detect(rows, np.arange(6) * 250.0)
    assert not detect(rows, np.arange(6) * 251.0)


def test_detector_step_online_equals_detect():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(4) * 0.1, 300).astype(np.float32).repeat(4, 0)
    times = np.cumsum(rng.integers(50, 200, len(rows)))
    detector = Detector(suppression_ms=300)
    state, found = detector_init(detector), []
    for row, time in zip(rows, times, strict=True):
        before = state
        state, step = detector_step(detector, state, row, float(time))
        again, same = detector_step(detector, before, row, float(time))
        assert (again.fired_ms, same) == (state.fired_ms, step)
        if step.fired and step.label != 0:
            found.append(Detection(step.label, float(time), step.score))
    assert len(found) > 20
    assert found == detect(rows, times, detector)


def test_detect_empty_stream():
    assert detect(np.zeros((0, 3)), np.zeros(0)) == []


def test_detect_bad_arguments_raise():
    rows, times = stream([1] * 4)
    with pytest.raises(ValueError, match=r"expected posteriors \[T, K\] and times"):
        detect(rows, times[:3])
    with pytest.raises(ValueError, match="finite"):
        detect(np.full((4, 3), np.nan), times)
    with pytest.raises(ValueError, match=r"at 600.0 ms or later, got \(3,\) at 400.0 ms"):
        detect(rows, times[::-1])
    with pytest.raises(ValueError, match=r"K > silence_label = 3"):
        detect(rows, times, Detector(silence_label=3))
    state, _ = detector_step(Detector(), detector_init(Detector()), rows[0], 0)
    with pytest.raises(ValueError, match=r"expected \(3,\) at 0 ms"):
        detector_step(Detector(), state, np.ones(4), 200)
    with pytest.raises(ValueError, match="min_count: expected 1"):
        Detector(min_count=0)
    with pytest.raises(ValueError, match="window_ms: expected 0"):
        Detector(window_ms=-1)
    with pytest.raises(ValueError, match=r"thresholds: expected 0 or more, got \(0.5, nan\)"):
        Detector(thresholds=(0.5, float("nan")))
