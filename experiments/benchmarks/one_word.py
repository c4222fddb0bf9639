"""A stream of one word among others: how often a model misses it, how often it fires wrongly.

    python -m data_prep.make_stream --data cache --words stop --unknown_percent 87 --minutes 20 \
        --background negatives --noise_volume 0.3 --out test.wav
    python -m experiments.benchmarks.one_word --pretrained kws --word stop --choose_on val.wav \
        --stream test.wav

MLPerf Tiny asks of a streaming wake word at most eight misses and eight false positives in 20
minutes; this is a stream of our own, in which other words are said too. Of a model for several
words only this one counts: it fires where its mean posterior is the largest and above a threshold,
what else fires is ignored. The threshold is chosen on another stream, --choose_on, where the larger
of both numbers is the smallest; then the stream is looked at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import check_place, write_json
from experiments.evaluation.calibration import check_split
from experiments.evaluation.stream_inference import ModelRun, read_streams, run_models
from experiments.flags.many_models import define_model_flags, read_models
from experiments.machine.jax_setup import keep_programs
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detector, detect
from sanas_jax.streaming.scores import score_stream

THRESHOLDS = tuple(np.arange(0.1, 1.0, 0.02).round(2).tolist())


class Counted(NamedTuple):
    """Of a stream: how often the word is said, how often missed, how often heard wrongly."""

    said: int
    missed: int
    false_positives: int

    @property
    def badness(self) -> tuple[int, int]:
        """Smaller is better: the larger number first, then their sum."""
        return max(self[1:]), self.missed + self.false_positives


def count(run: ModelRun, word: str, threshold: float, tolerance_ms: float) -> Counted:
    """What a detector with a threshold makes of posteriors along a stream."""
    label = run.model.info.classes.index(word)
    posteriors = run.trace.posteriors
    others = np.delete(posteriors, label, axis=1).max(axis=1)
    # Whatever else is most likely stands for silence, which fires freely and makes the word new.
    two = np.stack([others, posteriors[:, label]], axis=1)
    found = detect(two, run.trace.times_ms, Detector(thresholds=(0.0, threshold)))
    stream = run.stream
    times = [ms for said, ms in zip(stream.words, stream.times_ms, strict=True) if said == word]
    score = score_stream(found, [1] * len(times), times, tolerance_ms=tolerance_ms)
    return Counted(len(times), len(times) - score.correct, score.wrong + score.false_alarms)


def measure(runs: Sequence[ModelRun], word: str, tolerance_ms: float) -> list[dict[str, Any]]:
    """For each model and price: the threshold chosen on the first of two streams, the second's
    counts."""
    found = []
    for chosen, tested in zip(runs[::2], runs[1::2], strict=True):
        threshold = min(
            THRESHOLDS, key=lambda each: count(chosen, word, each, tolerance_ms).badness
        )
        found.append(
            {
                "model": tested.model.name,
                "cost_weight": tested.price,
                "word": word,
                "threshold": threshold,
                "minutes": len(tested.stream.samples) / tested.stream.rate / 60,
                "chosen_on": count(chosen, word, threshold, tolerance_ms)._asdict(),
                "stream": count(tested, word, threshold, tolerance_ms)._asdict(),
            }
        )
    return found


def line(found: dict[str, Any]) -> str:
    """A result in a line."""
    stream, chosen, price = found["stream"], found["chosen_on"], found["cost_weight"]
    name = found["model"] + ("" if price is None else f", λ = {price:g}")
    return (
        f"{name:24}{found['word']!r} {stream['said']} times in {found['minutes']:.0f} min: "
        f"{stream['missed']} missed, {stream['false_positives']} false positives "
        f"(threshold {found['threshold']:g}, where {chosen['missed']} and "
        f"{chosen['false_positives']} of {chosen['said']} were)"
    )


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    define_model_flags(values)
    flags.DEFINE_string("word", None, "The word.", required=True, flag_values=values)
    flags.DEFINE_string("stream", None, "WAV of a stream.", required=True, flag_values=values)
    flags.DEFINE_string(
        "choose_on", None, "WAV of another, for the threshold.", required=True, flag_values=values
    )
    flags.DEFINE_float(
        "tolerance_ms", 750, "Largest distance to the word, ms.", 0, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    check_place("json", values.json)
    keep_programs()
    check_split(Path(values.choose_on), "choose_on")
    models, _ = read_models(values)
    streams = read_streams([values.choose_on, values.stream], [], models)
    classes = models[0].info.classes
    if values.word not in classes[FIRST_WORD:]:
        raise ValueError(
            f"--word: expected one of {', '.join(classes[FIRST_WORD:])}, got {values.word}"
        )
    for each in streams:
        if values.word not in each.words:
            raise ValueError(f"--word: expected a word of the streams, not in {each.name}")
    found = measure(list(run_models(models, streams)), values.word, values.tolerance_ms)
    print("\n".join(map(line, found)))
    if values.json:
        write_json(Path(values.json), found)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
