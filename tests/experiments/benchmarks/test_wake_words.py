"""False alarms and misses of a detector, counted as they should be."""

import json

import numpy as np
import pytest
import soundfile

from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments.benchmarks import wake_words
from experiments.benchmarks.peers import wake_word_engines
from experiments.evaluation.alarms import poisson_bounds

LOUD, QUIET = 0.5, 0.01


def loud(samples):
    return int(np.abs(samples).max() > 8000)


def save(path, level, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(16_000 * seconds), level), 16_000)


def test_alarms_by_kind_and_misses(tmp_path, monkeypatch, capsys):
    for i in range(4):
        save(tmp_path / "speech" / f"{i}.wav", LOUD if i < 2 else QUIET, 30)
        save(tmp_path / "rain" / f"{i}.wav", QUIET, 15)
        save(tmp_path / "mine" / f"{i}.wav", LOUD if i else QUIET)
    (tmp_path / "heard.tsv").write_text("file\theard\nspeech/0.wav\tmine\n")
    monkeypatch.setattr(wake_words, "ours", lambda name, price, rate: loud)

    def absent(word):
        raise ImportError(word)

    monkeypatch.setattr(wake_words, "PEERS", {"one": lambda word: loud, "other": absent})
    folders = [f"--negatives={tmp_path / kind}" for kind in ("speech", "rain")]
    out = ["--recordings", str(tmp_path / "mine"), "--json", str(tmp_path / "out.json")]
    heard = ["--heard", str(tmp_path / "heard.tsv")]
    assert wake_words.main(["wake_words", *folders, *out, *heard]) == 0
    printed = capsys.readouterr()
    assert "other: not installed" in printed.err
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"pretrained:kws", "one, alexa"}
    mine = found["pretrained:kws"]
    assert mine["misses"] == {"recordings": 4, "missed": 1}
    speech, rain = mine["negatives"]["speech"], mine["negatives"]["rain"]
    assert (speech["alarms"], speech["minutes"]) == (1, 1.5)  # the file in which one was heard: out
    assert speech["per_hour"] == pytest.approx(40)
    assert [speech["low"], speech["high"]] == pytest.approx(poisson_bounds(1, 1.5 / 60))
    assert rain["alarms"] == 0
    assert found["one, alexa"]["misses"] is None
    assert "25.0 % of 4 missed" in printed.out


def test_of_a_cache_the_testing_negatives_without_a_word_are_read(tmp_path):
    samples = np.arange(160, dtype=np.int16)  # a block
    rows = [
        NegativeRow(samples + i, f"{i}.wav", "speech", split, heard)
        for i, (split, heard) in enumerate([(0, False), (1, False), (2, False), (2, True)])
    ]
    (tmp_path / "dataset.json").write_text("{}")
    write_negatives(tmp_path, iter(rows))
    (found,) = wake_words.read([str(tmp_path)])["speech"]
    np.testing.assert_array_equal(found, samples + 2)


def test_a_rate_that_the_detectors_are_not_for_is_named(tmp_path, capsys):
    save(tmp_path / "speech" / "0.wav", QUIET)
    flags = [f"--negatives={tmp_path / 'speech'}", "--false_alarms_per_hour=17"]
    assert wake_words.main(["wake_words", *flags]) == 1
    assert "expected one of the rates" in capsys.readouterr().err


def test_an_engine_that_has_fired_is_not_asked_again_for_a_while():
    class Engine:
        """Fires where it is loud; a chunk is a feature."""

        def reset(self):
            pass

        def process_streaming(self, audio):
            yield np.frombuffer(audio, np.int16)

    count = wake_word_engines._counting(Engine(), Engine(), lambda chunk: bool(loud(chunk)))
    samples = np.zeros(6 * 16_000, np.int16)
    samples[100], samples[16_000], samples[50_000] = 9000, 9000, 9000
    assert count(samples) == 2
