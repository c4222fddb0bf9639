"""The streaming protocol: `python -m experiments.evaluate --workdir W --stream s.wav --labels L`.

Runs a trained model over a long labelled stream, decodes its posteriors into detections and scores
them (FACTS of the paper: TensorFlow's streaming accuracy test). Every step takes its most probable
architecture. Cost is counted in MACs of the live edges.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
from absl import flags
from tqdm import tqdm

from data_prep.cli import run
from experiments import workdir as workdir_lib
from experiments.build import build, macs_per_step
from experiments.launch import restore_params
from sanas_jax import gates as gates_lib
from sanas_jax.decoding import Detection, Detector, detect
from sanas_jax.features import Frontend, mfcc, num_frames
from sanas_jax.metrics import score_stream
from sanas_jax.rollout import Carry, Sanas, init_carry, unroll
from sanas_jax.training import init_state

CHUNK_STEPS = 128
WORD_MS = 1000


class Stream(NamedTuple):
    """A labelled stream: samples [n] float32 at `rate` Hz; truth as (word, start in ms)."""

    name: str
    samples: np.ndarray
    rate: int
    words: list[str]
    times_ms: list[int]


class Trace(NamedTuple):
    """A model's run over a stream, one row per step.

    times_ms [T] start of the window; posteriors [T, K]; live [T, E]; labels [T] its class.
    """

    times_ms: np.ndarray
    posteriors: np.ndarray
    live: np.ndarray
    labels: np.ndarray


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run.", required=True, flag_values=values)
    flags.DEFINE_string("stream", None, "WAV of the stream.", required=True, flag_values=values)
    flags.DEFINE_string(
        "labels", None, "Its labels, lines of `word, ms`.", required=True, flag_values=values
    )
    flags.DEFINE_string("json", None, "Where to write the result as JSON.", flag_values=values)
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )
    flags.DEFINE_float(
        "threshold", 0.7, "Mean posterior above which a word fires.", flag_values=values
    )
    flags.DEFINE_float(
        "tolerance_ms", 750, "Largest distance to the truth, ms.", flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Evaluate one model on one stream; print the figures and write them."""
    workdir = Path(values.workdir)
    info = workdir_lib.read(workdir)
    stream = read_stream(Path(values.stream), Path(values.labels), info.classes, info.frontend)
    detector = Detector(threshold=values.threshold)
    result, trace = evaluate(
        workdir, stream, detector, values.tolerance_ms, checkpoint=values.checkpoint
    )
    save(workdir, stream, result, trace)
    if values.json:
        workdir_lib.write_atomic(Path(values.json), json.dumps(result, indent=1) + "\n")
    print(describe(result))


def read_stream(wav: Path, labels: Path, classes: Sequence[str], frontend: Frontend) -> Stream:
    """A mono stream at the model's rate and its labels; ValueError for anything else."""
    for path, what in ((wav, "--stream"), (labels, "--labels")):
        if not path.is_file():
            raise ValueError(f"{what}: expected a file, got {path}")
    try:
        samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"--stream: expected an audio file, got {wav}: {error}") from error
    if rate != frontend.sample_rate:
        raise ValueError(f"--stream: expected {frontend.sample_rate} Hz, got {rate} Hz: {wav}")
    words, times = [], []
    for number, line in enumerate(labels.read_text().splitlines(), 1):
        if not line.strip():
            continue
        word, comma, time_ms = (part.strip() for part in line.partition(","))
        if not comma or not time_ms.replace(".", "", 1).isdigit():
            raise ValueError(f"{labels}:{number}: expected `word, ms`, got {line!r}")
        if word not in classes[1:]:
            raise ValueError(
                f"{labels}:{number}: expected a word of {list(classes[1:])}, got {word!r}"
            )
        words.append(word)
        times.append(round(float(time_ms)))
    if not words:
        raise ValueError(f"--labels: expected at least one line `word, ms`, got none in {labels}")
    return Stream(wav.stem, samples.mean(1), rate, words, times)


def evaluate(
    workdir: Path,
    stream: Stream,
    detector: Detector,
    tolerance_ms: float = 750,
    *,
    checkpoint: str = "latest",
) -> tuple[dict[str, Any], Trace]:
    """The protocol's figures for one model on one stream, and the run behind them."""
    info = workdir_lib.read(workdir)
    built = build(info.config, len(info.classes), info.hooks)
    like = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    step, params = restore_params(workdir, like, checkpoint)
    static = info.config.model.static
    outs, seconds = run_stream(built.model, params, info.frontend, stream.samples, static)
    hop_ms = 1000 * built.model.hop * info.frontend.hop // info.frontend.sample_rate
    times = hop_ms * np.arange(len(outs[0]))
    window_ms = 1000 * built.model.window * info.frontend.hop / info.frontend.sample_rate
    labels = window_labels(stream, times, window_ms, info.classes)
    trace = Trace(times, *outs, labels)
    detections = detect(trace.posteriors, times, detector)
    macs, controller = macs_per_step(built.model, static)
    result = {
        "workdir": workdir.name,
        "step": step,
        "static": static,
        "stream": stream.name,
        "threshold": detector.threshold,
        "tolerance_ms": tolerance_ms,
        **score(stream, detections, info.classes, tolerance_ms),
        **costs(trace, macs, controller, info.classes),
        "ms_per_frame": 1000 * seconds / len(times),
        "detections": [
            {"word": info.classes[d.label], "ms": int(d.time_ms), "score": float(d.score)}
            for d in detections
        ],
    }
    return result, trace


def run_stream(
    model: Sanas, params: Any, frontend: Frontend, samples: np.ndarray, static: bool
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Posteriors [T, K] and live edges [T, E] of a stream, and the seconds it took (compiled).

    The stream goes through in chunks of steps that hand on the controller's state, so that memory
    does not grow with its length.
    """
    policy = gates_lib.all_on if static else gates_lib.mode
    total = model.num_steps(num_frames(len(samples), frontend.hop))
    if total < 1:
        seconds = model.window * frontend.hop / frontend.sample_rate
        raise ValueError(f"--stream: expected at least {seconds:.2f} s of audio, got less")

    @jax.jit
    def run_chunk(
        params: Any, carry: Carry, samples: jax.Array
    ) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        # The first and last frames of a chunk see its ends instead of the audio around it.
        frames = mfcc(frontend, samples)[_MARGIN:-_MARGIN]
        carry, outs = unroll(
            model, params, carry, frames[None, ..., None], jax.random.key(0), policy=policy
        )
        return carry, (jax.nn.softmax(outs.logits[:, 0]), outs.live[:, 0])

    chunk_frames = (CHUNK_STEPS - 1) * model.hop + model.window
    num_chunks = -(-total // CHUNK_STEPS)
    margin = _MARGIN * frontend.hop
    length = (chunk_frames - 1 + 2 * _MARGIN) * frontend.hop
    padded = np.zeros((num_chunks * CHUNK_STEPS * model.hop + chunk_frames) * frontend.hop, "f4")
    padded[: len(samples)] = samples
    padded = np.concatenate([np.zeros(margin, "f4"), padded])

    def chunk(i: int) -> np.ndarray:
        start = i * CHUNK_STEPS * model.hop * frontend.hop
        return padded[start : start + length]

    carry = init_carry(model, 1)
    jax.block_until_ready(run_chunk(params, carry, jnp.asarray(chunk(0))))  # compile
    parts, begin = [], time.perf_counter()
    for i in tqdm(range(num_chunks), unit="chunk", desc="stream", mininterval=1.0):
        carry, out = run_chunk(params, carry, jnp.asarray(chunk(i)))
        parts.append(jax.device_get(out))
    seconds = time.perf_counter() - begin
    posteriors, live = (np.concatenate(p)[:total] for p in zip(*parts, strict=True))
    return (posteriors, live), seconds


# Frames computed beyond each end of a chunk: a frame reaches n_fft/2 = 1.5 hops to either side.
_MARGIN = 2


def window_labels(
    stream: Stream, times_ms: np.ndarray, window_ms: float, classes: Sequence[str]
) -> np.ndarray:
    """Class of each window [T]: a word that covers more than half of it, else silence (0)."""
    labels = np.zeros(len(times_ms), np.int32)
    for word, start in zip(stream.words, stream.times_ms, strict=True):
        overlap = np.minimum(times_ms + window_ms, start + WORD_MS) - np.maximum(times_ms, start)
        labels[overlap > window_ms / 2] = classes.index(word)
    return labels


def score(
    stream: Stream, detections: Sequence[Detection], classes: Sequence[str], tolerance_ms: float
) -> dict[str, Any]:
    """Percentages over the stream's words under both counting rules."""
    seconds = len(stream.samples) / stream.rate
    truth = [classes.index(word) for word in stream.words]
    out: dict[str, Any] = {"num_words": len(truth), "seconds": seconds}
    for rule, suffix in (("set", ""), ("list", "_list_rule")):
        counted = score_stream(
            detections, truth, stream.times_ms, tolerance_ms=tolerance_ms, rule=rule
        )
        for name in ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct"):
            out[name + suffix] = getattr(counted, name)
        if rule == "set":
            out["false_alarms_per_hour"] = counted.false_alarms_per_hour(seconds)
    return out


def costs(
    trace: Trace, edge_macs: dict[str, int], controller_macs: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Cost and usage of the live edges, frame accuracy."""
    macs = trace.live @ np.array(list(edge_macs.values()), np.float64)
    present = [k for k in range(len(classes)) if np.any(trace.labels == k)]
    names = {0: "silence", 1: "unknown"}
    return {
        "macs_per_frame": float(macs.mean()),
        "macs_per_frame_with_controller": float(macs.mean()) + controller_macs,
        "full_macs_per_frame": sum(edge_macs.values()),
        "macs_per_frame_by_label": {
            names.get(k, classes[k]): float(macs[trace.labels == k].mean()) for k in present
        },
        "frame_accuracy": float(np.mean(trace.posteriors.argmax(1) == trace.labels)),
        "gate_usage": dict(zip(edge_macs, map(float, trace.live.mean(0)), strict=True)),
    }


def save(workdir: Path, stream: Stream, result: dict[str, Any], trace: Trace) -> None:
    """Keep the result and the run in workdir/evaluations, for the report."""
    folder = workdir / "evaluations"
    folder.mkdir(exist_ok=True)
    temporary = folder / f"{stream.name}.npz.tmp"
    envelope = _envelope(stream.samples, stream.rate // 100)
    with open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **trace._asdict(),
            envelope=envelope,
            truth_words=np.array(stream.words),
            truth_ms=np.array(stream.times_ms),
        )
    temporary.replace(folder / f"{stream.name}.npz")
    workdir_lib.write_atomic(folder / f"{stream.name}.json", json.dumps(result, indent=1) + "\n")


def _envelope(samples: np.ndarray, size: int) -> np.ndarray:
    """Peak of every `size` samples (10 ms), float16, for drawing."""
    usable = len(samples) // size * size
    return np.abs(samples[:usable].reshape(-1, size)).max(1).astype(np.float16)


def describe(result: dict[str, Any]) -> str:
    """The figures on a few lines."""
    share = result["macs_per_frame"] / result["full_macs_per_frame"]
    return (
        f"{result['workdir']} step {result['step']} on {result['stream']}: "
        f"{result['num_words']} words, {result['seconds']:.0f} s\n"
        f"  match {result['match_pct']:.1f} %, correct {result['correct_pct']:.1f} %, "
        f"wrong {result['wrong_pct']:.1f} %, false alarms {result['false_alarm_pct']:.1f} % "
        f"({result['false_alarms_per_hour']:.1f} per hour)\n"
        f"  {result['macs_per_frame'] / 1e6:.3f}M MACs/frame ({share:.1%} of the full network), "
        f"{result['macs_per_frame_with_controller'] / 1e6:.3f}M with the controller\n"
        f"  frame accuracy {result['frame_accuracy']:.1%}, "
        f"{result['ms_per_frame']:.2f} ms per frame in this batched run"
    )


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
