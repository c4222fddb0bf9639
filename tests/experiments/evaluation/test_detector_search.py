"""The search for a detector: its detections are `detect`'s, and the choice is the best one."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments.datasets.streams import Stream
from experiments.evaluation import detector_search as choice
from experiments.runs.stored_results import Trace
from sanas_jax.streaming.detector import Detector, detect
from sanas_jax.streaming.scores import score_stream

CLASSES = ("_silence_", "_unknown_", "yes", "no")


def trace_of(rows, times):
    return Trace(times, rows, np.ones((len(times), 1)), np.zeros(len(times), np.int32))


def stream_of(words, starts, seconds):
    return Stream("s", np.zeros(16_000 * seconds, np.float32), 16_000, words, starts)


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(choice, "WINDOWS_MS", (0, 300, 400, 500))
    monkeypatch.setattr(choice, "THRESHOLDS", (0.3, 0.5, 0.7))
    monkeypatch.setattr(choice, "SUPPRESSIONS_MS", (500, 1500))
    monkeypatch.setattr(choice, "OWN", ())


def chosen(streams, traces, limit, negatives=None):
    """The detector, and its scores on the streams."""
    search = choice.Search(streams, traces, CLASSES, negatives=negatives)
    detector = search.choose(search.try_all(limit if negatives else np.inf), limit).detector
    return detector, choice.mean_scores(streams, traces, CLASSES, detector)


def noisy_streams(rng):
    """Two streams with a word every 3 s, heard more or less clearly, and as often where none is."""
    streams, traces = [], []
    for words in (20, 30):
        steps = 15 * words
        logits = rng.normal(size=(steps, len(CLASSES))) + np.array([2, 0, 0, 0])
        truth = rng.integers(2, 4, words)
        for slot, word in enumerate(truth):
            at, heard = 15 * slot, rng.choice([word, word, word, 5 - word])
            logits[at : at + 5, heard] += rng.uniform(2, 7)
            logits[at + 8 : at + rng.integers(8, 13), rng.integers(1, 4)] += rng.uniform(0, 6)
        rows = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        starts = [3000 * slot + int(rng.integers(0, 900)) for slot in range(words)]
        streams.append(stream_of([CLASSES[k] for k in truth], starts, 3 * words))
        traces.append(trace_of(rows, 200 * np.arange(steps)))
    return streams, traces


@pytest.mark.parametrize("limit", [100.0, 200.0, 1e9])
def test_choice_equals_brute_force(small_grid, limit):
    streams, traces = noisy_streams(np.random.default_rng(1))
    best = None
    windows = {0: 1, 300: 2, 400: 3, 500: 3}  # and the results that a full one holds
    for (window, count), threshold, suppression in itertools.product(
        windows.items(), (0.3, 0.5, 0.7), (500, 1500)
    ):
        detector = Detector(window, threshold, suppression, count)
        scores = [
            score_stream(
                detect(trace.posteriors, trace.times_ms, detector),
                [CLASSES.index(word) for word in stream.words],
                stream.times_ms,
            )
            for stream, trace in zip(streams, traces, strict=True)
        ]
        alarms = sum(s.false_alarms for s in scores) * 3600 / (60 + 90)
        if alarms > limit:
            continue
        gain = np.mean([s.correct_pct - s.wrong_pct for s in scores])
        far = abs(window / 500 - 1) + abs(threshold / 0.7 - 1) + abs(suppression / 1500 - 1)
        if best is None or (-round(gain, 9), alarms, far) < best[:3]:
            best = -round(gain, 9), alarms, far, detector
    detector, scores = chosen(streams, traces, limit)
    assert detector == best[3]
    assert scores["correct_pct"] - scores["wrong_pct"] == pytest.approx(-best[0])
    assert scores["false_alarms_per_hour"] == pytest.approx(best[1])
    assert scores["false_alarms_per_hour"] <= limit


def test_thresholds_of_silence_and_unknown_words_are_refined():
    """Unknown words at 0.35, known ones at 0.9: a low threshold of their own finds both."""
    times = 200 * np.arange(200)
    rows = np.tile(np.array([0.9, 0.1, 0, 0], np.float32), (200, 1))
    starts = list(range(2000, 38_000, 4000))
    for number, start in enumerate(starts):
        said = (times >= start) & (times < start + 1400)
        rows[said] = [0.25, 0.35, 0.2, 0.2] if number % 2 else [0.1, 0, 0.9, 0]
    words = ["_unknown_" if number % 2 else "yes" for number in range(len(starts))]
    stream, trace = stream_of(words, [start + 300 for start in starts], 40), trace_of(rows, times)
    talk = np.tile(np.array([0, 0.1, 0.8, 0.1], np.float32), (200, 1))
    negatives = choice.AlarmCounter([trace_of(talk, times)], lambda found: [len(found[0])], [0.5])
    search = choice.Search([stream], [trace], CLASSES, negatives=negatives)
    trials = search.try_all(1.0)
    best, refined = choice.best_trial(trials, 1.0), search.choose(trials, 1.0)
    assert best.detector.threshold >= 0.8  # or there would be an alarm
    assert best.gain < 60 < 99 < refined.gain
    assert refined.detector.thresholds[1] in (0.2, 0.3)
    assert refined.alarms == 0


def test_more_is_asked_of_a_word_where_people_talk():
    """Words at 0.85 after silence; 0.9 in the midst of talk, which none is."""
    times = 200 * np.arange(200)
    rows = np.tile(np.array([0.9, 0.1, 0, 0], np.float32), (200, 1))
    starts = list(range(2000, 38_000, 4000))
    for start in starts:
        rows[(times >= start) & (times < start + 1400)] = [0.1, 0.05, 0.85, 0]
    stream = stream_of(["yes"] * len(starts), [start + 300 for start in starts], 40)
    talk = np.tile(np.array([0, 1, 0, 0], np.float32), (200, 1))
    talk[100:105] = [0, 0.1, 0.9, 0]
    negatives = choice.AlarmCounter([trace_of(talk, times)], count_of_words, [0.5])
    search = choice.Search([stream], [trace_of(rows, times)], CLASSES, negatives=negatives)
    best = search.choose(search.try_all(1.0), 1.0)
    assert best.gain > 99
    assert best.alarms == 0
    # As much as can be without a word less; a posterior of 0.85 in float32 is a little over it.
    assert best.detector.threshold == 0.85
    assert best.detector.talk_threshold == choice.TALK[-1]
    plain = choice.Search([stream], [trace_of(rows, times)], CLASSES, 750, negatives, talk=False)
    assert not any(trial.detector.talk_threshold for trial in plain.try_all())


def count_of_words(found):
    """Of one set."""
    return [sum(detection.label >= 2 for each in found for detection in each)]


def test_other_suppressions_are_tried_at_last():
    """Two words 0.6 s apart, the second 0.4 s long, which the first setting loses."""
    times = 200 * np.arange(60)
    quiet = np.tile(np.array([1, 0, 0, 0], np.float32), (60, 1))
    rows = quiet.copy()
    rows[10:13], rows[13:15] = [0, 0, 1, 0], [0, 0, 0, 1]
    stream, trace = stream_of(["yes", "no"], [1500, 2900], 12), trace_of(rows, times)
    negatives = choice.AlarmCounter([trace_of(quiet, times)], count_of_words, [0.5])
    search = choice.Search([stream], [trace], CLASSES, negatives=negatives)
    trials = search.try_all(1.0)
    first = choice.best_trial(trials, 1.0)
    assert first.detector.suppression_ms == choice.FIRST_SUPPRESSION_MS
    refined = search.choose(trials, 1.0)
    assert refined.gain > first.gain
    assert refined.detector.suppression_ms < choice.FIRST_SUPPRESSION_MS


def test_windows_that_hold_the_same_steps_are_tried_once():
    rows = np.full((40, len(CLASSES)), 0.25, np.float32)
    tried = choice._windows([trace_of(rows, 200 * np.arange(40))])
    assert tried == [(0, 1), (300, 2), (500, 3), (600, 3), (800, 3), (1000, 3)]
    finer = choice._windows([trace_of(rows, 50 * np.arange(40))])
    assert [window for window, _ in finer] == list(choice.WINDOWS_MS)


def test_limit_that_no_setting_keeps(small_grid):
    """A sure word every four seconds, where none was said."""
    times = 200 * np.arange(100)
    rows = np.zeros((100, len(CLASSES)), np.float32)
    said = times % 4000 < 1000
    rows[~said, 0], rows[said, 2] = 1, 1
    stream = stream_of(["no"], [16_500], 20)
    # Four of the five are away from the one word; 20 s.
    search = choice.Search([stream], [trace_of(rows, times)], CLASSES)
    trials = search.try_all()
    assert search.choose(trials, 700) is None
    assert choice.fewest_alarms(trials) == pytest.approx(720)
    detector, scores = chosen([stream], [trace_of(rows, times)], 720)
    assert scores["false_alarms_per_hour"] == 720
    assert scores["correct_pct"] == 0
    assert detector.suppression_ms in (500, 1500)


def test_ties_go_to_the_protocols_detector():
    """A word that every threshold and smoothing finds."""
    times = 200 * np.arange(60)
    rows = np.zeros((60, len(CLASSES)), np.float32)
    said = (times >= 4000) & (times < 7000)
    rows[~said, 0], rows[said, 2] = 1, 1
    stream = stream_of(["yes"], [4300], 12)
    detector, scores = chosen([stream], [trace_of(rows, times)], 0)
    assert detector == dataclasses.replace(choice.PROTOCOL, threshold=detector.threshold)
    assert detector.threshold == pytest.approx(0.7)
    assert scores["correct_pct"] == 100


def test_scores_are_means_over_streams_and_false_alarms_of_all_time():
    times = 200 * np.arange(40)
    rows = np.zeros((40, len(CLASSES)), np.float32)
    said = (times >= 3000) & (times <= 4400)
    rows[~said, 0], rows[said, 2] = 1, 1
    trace = trace_of(rows, times)
    right, away = stream_of(["yes"], [3400], 10), stream_of(["yes", "no"], [8500, 9000], 30)
    scores = choice.mean_scores([right, away], [trace, trace], CLASSES, Detector())
    assert scores["correct_pct"] == scores["match_pct"] == 50
    assert scores["false_alarm_pct"] == 25  # 0 of one word, 1 of two
    assert scores["false_alarms_per_hour"] == pytest.approx(3600 / 40)


def test_negatives_limit_what_a_word_may_cost():
    """A word at 0.9; where no words are, 0.8 is held at one place and 0.97 at another."""
    times = 200 * np.arange(60)

    def rows_with(*held):
        rows = np.tile(np.array([0.98, 0.02, 0, 0], np.float32), (60, 1))
        for start, value in held:
            said = (times >= start) & (times < start + 1400)
            rows[said] = [1 - value, 0, value, 0]
        return trace_of(rows, times)

    streams, traces = [stream_of(["yes"], [4300], 12)], [rows_with((4000, 0.9))]
    talk = rows_with((2000, 0.8), (8000, 0.97))
    negatives = choice.AlarmCounter([talk], lambda found: [len(found[0])], [0.5])
    trials = choice.Search(streams, traces, CLASSES, negatives=negatives).try_all()
    # One alarm in half an hour leaves the word; none does not.
    for limit, alarms, gain in ((4.0, 2.0, 100), (2.0, 2.0, 100), (1.0, 0.0, 0), (0.0, 0.0, 0)):
        best = choice.best_trial(trials, limit)
        assert (best.alarms, best.gain) == (alarms, gain)
    assert choice.fewest_alarms(trials) == 0
    assert choice.best_trial([t for t in trials if t.alarms], 1.0) is None


def test_search_refuses_bad_input():
    rows = np.full((10, len(CLASSES)), 0.25, np.float32)
    trace, stream = trace_of(rows, 200 * np.arange(10)), stream_of(["yes"], [500], 2)
    with pytest.raises(ValueError, match="a trace for each, got 0 and 0"):
        choice.Search([], [], CLASSES)
    with pytest.raises(ValueError, match="a trace for each, got 1 and 2"):
        choice.Search([stream], [trace, trace], CLASSES)
    search = choice.Search([stream], [trace], CLASSES)
    for limit in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a limit of 0 or more, got"):
            search.choose(search.try_all(), limit)


def alarm_sets(rng):
    """Half a minute of talk and four calmer minutes, in which words seem to be said."""
    traces = []
    for steps, every in ((150, 5), (1200, 40)):
        logits = rng.normal(size=(steps, len(CLASSES))) + np.array([2, 2, 0, 0])
        for at in range(0, steps - 5, every):
            logits[at : at + 4, rng.integers(2, 4)] += rng.uniform(1, 8)
        rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        traces.append(trace_of(rows.astype(np.float32), 200 * np.arange(steps)))

    def count(found):
        return [sum(detection.label >= 2 for detection in each) for each in found]

    return choice.AlarmCounter(traces, count, [30 / 3600, 240 / 3600])


@pytest.mark.parametrize("limit", [1300.0, 2050.0, 2400.0])
def test_choice_with_negatives_equals_brute_force(small_grid, monkeypatch, limit):
    monkeypatch.setattr(choice, "WINDOWS_MS", (300, 500))
    monkeypatch.setattr(choice, "STRICT", (0.3, 0.6, 0.9))
    monkeypatch.setattr(choice, "TALK", (0.0, 0.8, 0.95))
    monkeypatch.setattr(choice, "SUPPRESSIONS_MS", ())
    streams, traces = noisy_streams(np.random.default_rng(1))
    negatives = alarm_sets(np.random.default_rng(2))
    best = None
    for (window, count), threshold, talk in itertools.product(
        {300: 2, 500: 3}.items(), (0.3, 0.6, 0.9), (0.0, 0.8, 0.95)
    ):
        own = (min(0.5, threshold), min(0.4, threshold))
        detector = Detector(window, threshold, 900, count, thresholds=own, talk_threshold=talk)
        if 0 < talk <= threshold:
            continue
        counts = [
            sum(d.label >= 2 for d in detect(each.posteriors, each.times_ms, detector))
            for each in negatives.traces
        ]
        alarms = sum(counts) / sum(negatives.hours)
        for number, hours in zip(counts, negatives.hours, strict=True):
            if number > 1:
                alarms = max(alarms, number / hours)
        if alarms > limit:
            continue
        scores = choice.mean_scores(streams, traces, CLASSES, detector)
        on_streams = scores["false_alarms_per_hour"]
        gain = scores["correct_pct"] - scores["wrong_pct"]
        order = -round(gain, 9), alarms, on_streams, -threshold - max(threshold, talk)
        if best is None or order < best[0]:
            best = order, detector
    assert chosen(streams, traces, limit, negatives)[0] == best[1]


def test_quiet_hours_pay_for_no_alarm_while_people_talk():
    """Two alarms at 0.8 in an hour of talk; ten hours of silence beside it."""
    times = 200 * np.arange(60)
    quiet = np.tile(np.array([0.98, 0.02, 0, 0], np.float32), (60, 1))
    talk = quiet.copy()
    talk[10:17] = talk[40:47] = [0.2, 0, 0.8, 0]
    heard, silent = trace_of(talk, times), trace_of(quiet, times)
    said = quiet.copy()
    said[20:27] = [0.25, 0, 0.75, 0]
    search = choice.Search(
        [stream_of(["yes"], [4300], 12)],
        [trace_of(said, times)],
        CLASSES,
        negatives=choice.AlarmCounter(
            [heard, silent], lambda found: [len(each) for each in found], [1, 10]
        ),
    )
    best = search.choose(search.try_all(1.0), 1.0)
    assert (best.alarms, best.gain) == (0, 0)
    best = search.choose(search.try_all(2.0), 2.0)
    assert (best.alarms, best.gain) == (2, 100)


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        ([0, 0, 0], 0.0),
        ([1, 0, 0], 1 / 4),  # Not 10 an hour of six minutes.
        ([1, 1, 1], 3 / 4),
        ([2, 0, 0], 20.0),
        ([0, 3, 0], 3.0),
        ([1, 1, 5], 7 / 4),
        ([0, 0, 12], 12 / 2.9),
    ],
)
def test_a_single_alarm_counts_among_all_sets_and_several_in_their_own(counts, rate):
    negatives = choice.AlarmCounter([], lambda found: counts, [0.1, 1.0, 2.9])
    assert negatives.rate([]) == pytest.approx(rate)
