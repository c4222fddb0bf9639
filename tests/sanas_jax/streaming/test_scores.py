"""Scores against TensorFlow's tool (golden files), NumPy loops and cases worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.streaming.detector import Detection
from sanas_jax.streaming.scores import StreamScore, score_stream
from sanas_jax.training.metrics import confusion, frame_accuracy
from tests.helpers.places import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "detector.npz"
SMALL_CASES = ["overlapping_words", "end_cut_up_to_time", "two_detections_one_truth", "fuzz1"]
OTHER_CASES = ["clean_200ms", "false_alarms", "fuzz0", "fuzz2"]


def counts(score):
    return [score.num_words, score.matched, score.correct, score.wrong, score.false_alarms]


def found(*pairs):
    return [Detection(label, time, 1.0) for label, time in pairs]


def assert_matches(file, case):
    *_, up_to = params = file[f"{case}/params_window_tol_supp_mincount_thr_upto"]
    detections = found(*zip(file[f"{case}/found_word"], file[f"{case}/found_time"], strict=True))
    score = score_stream(
        detections,
        file[f"{case}/gt_word"],
        file[f"{case}/gt_time"],
        tolerance_ms=params[1],
        rule="list",
        up_to_ms=None if up_to < 0 else up_to,
    )
    assert counts(score) == file[f"{case}/stats_gtwords_matched_correct_wrong_fp"].tolist()


@pytest.mark.parametrize("case", SMALL_CASES)
def test_score_stream_golden(case):
    assert_matches(np.load(GOLDEN), case)


@pytest.mark.parametrize("case", OTHER_CASES)
def test_score_stream_reference(reference, case):
    assert_matches(np.load(reference / "golden_metrics.npz"), case)


def test_score_stream_by_hand():
    words, times = [2, 3, 4], [1000, 5000, 9000]
    # Right; right again; wrong label; near nothing; at the very edge of the tolerance.
    detections = found((2, 1200), (2, 1700), (5, 5000), (3, 7000), (4, 9750))
    by_set = score_stream(detections, words, times)
    assert counts(by_set) == [3, 3, 2, 2, 1]
    by_list = score_stream(detections, words, times, rule="list")
    assert counts(by_list) == [3, 4, 2, 2, 1]
    assert by_list.match_pct == pytest.approx(400 / 3)
    assert by_set.match_pct == 100
    assert by_set.correct_pct == by_set.wrong_pct == pytest.approx(200 / 3)
    assert by_set.false_alarm_pct == pytest.approx(100 / 3)
    assert by_set.false_alarms_per_hour(1800) == 2
    late = score_stream(found((4, 9751)), words, times)
    assert counts(late) == [3, 0, 0, 0, 1]


def test_score_stream_first_word_in_reach_is_taken():
    # The detection is nearer to the second word, whose label it has; the first is taken.
    assert counts(score_stream(found((3, 1500)), [2, 3], [1000, 1500])) == [2, 1, 0, 1, 0]


def test_score_stream_order_does_not_matter():
    words, times = [2, 3, 4], [1000, 5000, 9000]
    detections = found((2, 1200), (2, 1700), (3, 5000), (3, 7000))
    assert score_stream(detections[::-1], words[::-1], times[::-1]) == score_stream(
        detections, words, times
    )


def test_score_stream_up_to_cuts_words_only():
    score = score_stream(found((2, 1000), (3, 5000)), [2, 3], [1000, 5000], up_to_ms=4000)
    assert counts(score) == [1, 1, 1, 0, 1]
    score = score_stream(found((3, 5000)), [2, 3], [1000, 5000], up_to_ms=4250)
    assert counts(score) == [2, 1, 1, 0, 0]


def test_score_stream_without_words():
    score = score_stream(found((2, 1000)), [], [])
    assert score == StreamScore(0, 0, 0, 0, 1)
    assert np.isnan([score.match_pct, score.correct_pct, score.false_alarm_pct]).all()
    assert score.false_alarms_per_hour(60) == 60


def test_score_stream_bad_arguments_raise():
    with pytest.raises(ValueError, match="as many words as times, got 1 and 2"):
        score_stream([], [1], [1, 2])
    with pytest.raises(ValueError, match="rule: expected one of"):
        score_stream([], [], [], rule="dict")
    with pytest.raises(ValueError, match="tolerance_ms: expected 0 or more"):
        score_stream([], [], [], tolerance_ms=-1)
    with pytest.raises(ValueError, match="seconds: expected a positive"):
        StreamScore(1, 1, 1, 0, 0).false_alarms_per_hour(0)


@pytest.fixture
def steps():
    """Labels, predictions, costs and mask [11, 7] of 5 classes; class 4 is only in the padding."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (11, 7))
    predictions = rng.integers(0, 5, (11, 7))
    mask = rng.random((11, 7)) < 0.7
    labels[~mask] = rng.choice([-7, 4, 9], (~mask).sum())
    costs = rng.uniform(0, 1e8, (11, 7)).astype(np.float32)
    costs[~mask] = np.nan
    return labels, predictions, costs, mask


def test_confusion_against_loop(steps):
    labels, predictions, _, mask = steps
    expected = np.zeros((5, 5), int)
    for label, prediction in zip(labels[mask], predictions[mask], strict=True):
        expected[label, prediction] += 1
    arrays = jnp.array(labels), jnp.array(predictions), jnp.array(mask)
    np.testing.assert_array_equal(confusion(*arrays, 5), expected)
    compiled = jax.jit(confusion, static_argnums=3)
    np.testing.assert_array_equal(compiled(*arrays, 5), expected)
    each = jax.vmap(lambda *row: confusion(*row, 5))(*arrays)
    np.testing.assert_array_equal(each.sum(0), expected)
    np.testing.assert_array_equal(each[2], confusion(*(a[2] for a in arrays), 5))


def test_confusion_out_of_range_is_not_counted():
    labels, predictions = jnp.array([-1, 0, 5, 1]), jnp.array([0, -1, 0, 0])
    np.testing.assert_array_equal(
        confusion(labels, predictions, jnp.ones(4, bool), 2), [[0, 0], [1, 0]]
    )


def test_frame_accuracy_by_hand(steps):
    labels, predictions, mask = jnp.array([1, 2, 3, 0]), jnp.array([1, 0, 3, 0]), [1, 1, 1, 0]
    assert frame_accuracy(labels, predictions, jnp.array(mask)) == pytest.approx(2 / 3)
    assert np.isnan(frame_accuracy(labels, predictions, jnp.zeros(4)))
    labels, predictions, _, mask = map(jnp.array, steps)
    table = confusion(labels, predictions, mask, 5)
    got = jax.jit(frame_accuracy)(labels, predictions, mask)
    np.testing.assert_allclose(got, jnp.trace(table) / table.sum(), rtol=1e-6)


def test_step_metrics_bad_arguments_raise():
    ones = jnp.ones(3, jnp.int32)
    with pytest.raises(ValueError, match="expected arrays of one shape"):
        confusion(ones, ones, jnp.ones(2, bool), 2)
    with pytest.raises(ValueError, match="predictions: expected integers, got float32"):
        frame_accuracy(ones, jnp.ones(3), ones)
    with pytest.raises(ValueError, match="labels: expected integers"):
        confusion(jnp.ones(3), ones, ones, 2)
    with pytest.raises(ValueError, match="num_classes: expected 1"):
        confusion(ones, ones, ones, 0)
