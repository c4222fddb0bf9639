"""One word among others: its misses and false positives, and the threshold chosen elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmarks import one_word
from experiments.benchmarks.one_word import Counted

CLASSES = ["silence", "unknown", "go", "stop"]


def run_of(level, said, at, seconds=20, price=0.1):
    """A model that is as sure as `level` [T] says, every 100 ms, that it hears "stop"."""
    p = np.asarray(level, float)
    posteriors = np.stack([0.6 * (1 - p), 0 * p, 0.4 * (1 - p), p], axis=1)
    model = SimpleNamespace(info=SimpleNamespace(classes=CLASSES), name="m")
    stream = SimpleNamespace(
        words=said, times_ms=at, samples=np.zeros(16_000 * seconds), rate=16_000
    )
    trace = SimpleNamespace(posteriors=posteriors, times_ms=100.0 * np.arange(len(p)))
    return SimpleNamespace(model=model, price=price, stream=stream, trace=trace)


def level(*bursts, steps=200):
    """0 but for a second from each of the times (ms), at its height."""
    found = np.zeros(steps)
    for ms, height in bursts:
        found[ms // 100 : ms // 100 + 10] = height
    return found


def test_only_the_word_counts_and_it_fires_again():
    run = run_of(
        level((3000, 0.9), (8000, 0.9), (15_000, 0.9)), ["stop", "go", "stop"], [3000, 8000, 15_000]
    )
    # "go" is no word here: what fires there is a false positive, and missing it is no miss.
    assert one_word.count(run, "stop", 0.6, 750) == Counted(2, 0, 1)
    assert one_word.count(run, "stop", 0.95, 750) == Counted(2, 2, 0)


def test_the_threshold_is_the_other_streams():
    chosen = run_of(level((3000, 0.9), (9000, 0.7)), ["stop", "go"], [3000, 9000])
    told = run_of(level((3000, 0.75), (9000, 0.9)), ["stop", "stop"], [3000, 9000])
    (found,) = one_word.measure([chosen, told], "stop", 750)
    assert 0.66 <= found["threshold"] < 0.9  # above the false positive, below the word
    assert found["chosen_on"] == {"said": 1, "missed": 0, "false_positives": 0}
    assert found["stream"] == {"said": 2, "missed": 0, "false_positives": 0}
    assert "'stop' 2 times in 0 min: 0 missed, 0 false positives" in one_word.line(found)


@pytest.mark.parametrize(("one", "other"), [((9, 5, 5), (9, 6, 0)), ((9, 5, 3), (9, 5, 4))])
def test_the_larger_number_counts_first(one, other):
    assert Counted(*one).badness < Counted(*other).badness


def test_no_threshold_is_chosen_on_a_testing_stream(tmp_path, capsys):
    (tmp_path / "val.json").write_text('{"split": "testing"}')
    streams = [f"--choose_on={tmp_path / 'val.wav'}", f"--stream={tmp_path / 'test.wav'}"]
    assert one_word.main(["one_word", "--pretrained=kws", "--word=stop", *streams]) == 1
    error = capsys.readouterr().err
    assert "--choose_on: expected a stream of validation clips, got testing" in error
    assert error.count("\n") == 1


def test_a_word_below_the_chosen_threshold_is_missed():
    chosen = run_of(level((3000, 0.95), (9000, 0.85)), ["stop", "go"], [3000, 9000])
    tested = run_of(level((3000, 0.75), (9000, 0.99)), ["stop", "stop"], [3000, 9000])
    (found,) = one_word.measure([chosen, tested], "stop", 750)
    assert found["threshold"] > 0.75
    assert found["stream"] == {"said": 2, "missed": 1, "false_positives": 0}
