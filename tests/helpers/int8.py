"""The C file with weights of int8 beside that of float32: clips, words of a stream, and size.

    python -m tests.helpers.int8 --data cache --stream val_0.wav --minutes 10

Each validation clip is one decision, as `evaluate_clips` has it: a stream with silence around the
clip, of which the window that is aligned with it answers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.speech.cache import CLIP_SAMPLES, open_cache
from experiments.datasets.clips import ClipSet, read_clips
from experiments.datasets.streams import WORD_MS, Stream, read_stream, window_labels
from experiments.evaluation.scoring import score
from experiments.live import native
from experiments.machine.compiler import compiled
from experiments.runs.detectors import chosen_detector
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.export.c.library import Library
from sanas_jax.export.c.text import WEIGHTS
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Heard, Session

TOLERANCE_MS = 750
STEPS_AROUND = 2


def library_of(model: TrainedModel, weights: str, folder: Path) -> Library:
    """The model as C with weights of that kind, compiled."""
    return native.library_of(model, compiled(native.source_of(model, weights=weights), folder))


def answers(library: Library, price: float | None, samples: np.ndarray) -> np.ndarray:
    """Labels [N] of clips [N, 16000]."""
    hop = library.samples.step_advance
    frames = library.model.window - library.frontend.overlap
    window = (frames - 1) * library.frontend.hop
    if window != CLIP_SAMPLES:
        raise ValueError(f"expected windows of a second, got {window} samples")
    silence, found = np.zeros(STEPS_AROUND * hop, np.int16), []
    session = Session(library, cost_weight=price)
    for clip in samples:
        session.reset()
        heard = session.push(np.concatenate([silence, clip, silence]))
        found.append(heard[STEPS_AROUND].posterior.argmax())
    return np.array(found)


def hear(library: Library, price: float | None, stream: Stream, detector: Detector) -> list[Heard]:
    """All decisions on a stream."""
    session = Session(library, cost_weight=price, detector=detector)
    return session.push(stream.samples) + session.finish()


def first_minutes(stream: Stream, minutes: float) -> Stream:
    """The beginning of a stream."""
    samples = stream.samples[: int(60 * minutes * stream.rate)]
    last = 1000 * len(samples) / stream.rate - 1000
    kept = [i for i, ms in enumerate(stream.times_ms) if ms <= last]
    words, times = ([values[i] for i in kept] for values in (stream.words, stream.times_ms))
    return Stream(stream.name, samples, stream.rate, words, times)


def clip_line(sides: dict[str, Any], price: float | None, clips: ClipSet) -> str:
    """Accuracies, and how many answers differ."""
    one, other = (answers(library, price, clips.samples) for library in sides.values())
    right = [100 * float((found == clips.labels).mean()) for found in (one, other)]
    return (
        f"{len(clips.labels)} clips: right {right[0]:.2f} % with float32, {right[1]:.2f} % with "
        f"int8 ({right[1] - right[0]:+.2f}); {int((one != other).sum())} answers differ"
    )


def stream_line(
    sides: dict[str, Any], price: float | None, stream: Stream, model: TrainedModel
) -> str:
    """Words found, and how many decisions and edges differ."""
    detector = chosen_detector(model, price, None)
    heard = [hear(library, price, stream, detector) for library in sides.values()]
    found = [[h.detection for h in side if h.detection] for side in heard]
    right = [
        score(stream, words, model.info.classes, TOLERANCE_MS)["correct_pct"] for words in found
    ]
    one, other = (np.array([h.posterior.argmax() for h in side]) for side in heard)
    times = np.array([h.time_ms for h in heard[0]])
    truth = window_labels(stream, times, WORD_MS, model.info.classes)
    windows = [100 * float((answer == truth).mean()) for answer in (one, other)]
    live = [np.array([h.live for h in side]) for side in heard]
    return (
        f"{len(stream.words)} words in {len(stream.samples) / stream.rate / 60:.0f} min: right "
        f"{right[0]:.2f} % with float32, {right[1]:.2f} % with int8 ({right[1] - right[0]:+.2f}); "
        f"of {len(one)} windows {windows[0]:.2f} and {windows[1]:.2f} % "
        f"({windows[1] - windows[0]:+.2f}); "
        f"{100 * float((live[0] != live[1]).mean()):.2f} % of the edges' decisions differ"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pretrained:kws")
    parser.add_argument("--data", required=True)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cost_weights", default="0.03,0.1,0.4,2")
    asked = parser.parse_args()
    model = read_model(asked.model)
    prices: list[float | None] = [None]
    if model.conditioned:
        prices = [float(word) for word in asked.cost_weights.split(",")]
    clips = read_clips(open_cache(asked.data), "validation")
    labels = asked.stream.with_name(f"{asked.stream.stem}_labels.txt")
    rate = model.info.frontend.sample_rate
    stream = read_stream(asked.stream, labels, model.info.classes, rate)
    stream = first_minutes(stream, asked.minutes)
    with tempfile.TemporaryDirectory() as folder:
        sides = {weights: library_of(model, weights, Path(folder)) for weights in WEIGHTS}
    for price in prices:
        told = "" if price is None else f"λ = {price:g}, "
        print(told + clip_line(sides, price, clips))
        print(told + stream_line(sides, price, stream, model), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
