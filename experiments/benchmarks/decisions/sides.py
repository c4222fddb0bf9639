"""The sides of `benchmarks.streaming`: a decision of ours or of PyTorch's per window, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import soundfile

from experiments.benchmarks.decisions.subjects import Decide, Subject
from experiments.benchmarks.decisions.table import OURS, OWN
from experiments.benchmarks.harness.programs import build, num_bytes
from sanas_jax import gates as gates_lib
from sanas_jax.data.features import extract
from sanas_jax.streaming.runtime import Answer, Runtime, Stream

WARM_UP = 100
LEARNING_SECONDS = 180.0  # of a stream, before it is timed: programs are compiled meanwhile
PROGRAMS = 16


class StreamSide(NamedTuple):
    """A side on a stream: `window → answer and its seconds`, and what is known of its program."""

    decide: Callable[[np.ndarray], tuple[Any, float]]
    compile_seconds: float | None = None
    memory_bytes: int | None = None


class Turns(NamedTuple):
    """What a side answered, and the mean seconds of a decision in each block."""

    answers: list[Any]
    seconds: list[float]


def forced_sides(
    subject: Subject, live: np.ndarray, steps: int
) -> tuple[dict[str, StreamSide], list[np.ndarray]]:
    """All sides on random frames in one architecture, warm, and the windows that are timed."""
    model = subject.model
    rng = np.random.default_rng(0)
    shape = (model.window - model.hop + (steps + WARM_UP) * model.hop, *model.net.input_shape[1:])
    stream = rng.standard_normal(shape).astype(np.float32)
    gates = jnp.asarray(live)[None]
    first = stream[: model.window - model.hop]
    windows = [stream[t * model.hop :][: model.window] for t in range(steps + WARM_UP)]
    sides = {
        OURS: our_side(subject, lambda gamma, key: gates, 0, first),
        OWN: our_side(subject, lambda gamma, key: gates, 1, first),
        **their_sides(subject, live),
    }
    in_turn(sides, windows[:WARM_UP], WARM_UP)
    return sides, windows[WARM_UP:]


def stream_sides(
    subject: Subject, wav: Path, steps: int, price: float
) -> tuple[dict[str, StreamSide], list[np.ndarray]]:
    """The network decides by itself on a real stream; PyTorch computes everything beside it."""
    model, frontend = subject.model, subject.frontend
    assert frontend is not None
    learn = round(LEARNING_SECONDS * frontend.sample_rate / frontend.hop / model.hop)
    samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    if rate != frontend.sample_rate:
        raise ValueError(f"--stream: expected {frontend.sample_rate} Hz, got {rate} Hz: {wav}")
    count = model.window - model.hop + (learn + steps) * model.hop
    frames = np.asarray(extract(frontend, jnp.asarray(samples[: count * frontend.hop].mean(1))))
    stream = frames[..., None]
    first = stream[: model.window - model.hop]
    windows = [
        stream[t * model.hop :][: model.window]
        for t in range(min(learn + steps, model.num_steps(len(stream))))
    ]
    if len(windows) <= learn:
        raise ValueError(
            f"--stream: expected more than {LEARNING_SECONDS + 2:g} s of audio, "
            f"got {len(samples) / rate:.1f} s"
        )
    sides = {
        OURS: our_side(subject, gates_lib.mode, 0, first, price),
        OWN: our_side(subject, gates_lib.mode, PROGRAMS, first, price),
    }
    in_turn(sides, windows[:learn], learn)
    return sides | their_sides(subject, np.ones(len(model.net.edges), np.float32)), windows[learn:]


def our_side(
    subject: Subject, policy: Any, programs: int, first: np.ndarray, price: float = 1.0
) -> StreamSide:
    """Ours on a stream that begins with these frames.

    Compile time and memory are those of the program for all architectures; its weights, which are
    constants of it, count as memory.
    """
    runtime = Runtime(subject.model, subject.params, None, policy=policy, programs=programs)
    stream = Stream(runtime, price)
    stream.begin(first)
    program = None
    if not programs:
        program = build(runtime.anything, stream.memory, first[-runtime.model.hop :])

    def decide(window: np.ndarray) -> tuple[Answer, float]:
        runtime.settle()  # on a stream as fast as speech there is time to compile
        begin = time.perf_counter()
        answer = stream.step(window[-runtime.model.hop :])
        return answer, time.perf_counter() - begin

    if program is None or program.memory_bytes is None:
        return StreamSide(decide)
    memory = program.memory_bytes + num_bytes(subject.params)
    return StreamSide(decide, program.compile_seconds, memory)


def their_sides(subject: Subject, live: np.ndarray) -> dict[str, StreamSide]:
    """PyTorch's, with these edges."""

    def side(name: str, logits_of: Decide) -> StreamSide:
        def decide(window: np.ndarray) -> tuple[np.ndarray, float]:
            begin = time.perf_counter()
            logits = logits_of(window, live)
            return logits, time.perf_counter() - begin

        return StreamSide(decide, subject.compile_seconds.get(name))

    return {name: side(name, logits_of) for name, logits_of in subject.theirs.items()}


def in_turn(
    sides: dict[str, StreamSide], windows: Sequence[np.ndarray], block: int
) -> dict[str, Turns]:
    """A block of decisions by each side after the other.

    In blocks, since one that has just waited for the other begins with cold caches, each
    of many programs anew.
    """
    turns = {name: Turns([], []) for name in sides}
    for at in range(0, len(windows), block):
        for name, side in sides.items():
            answers, seconds = zip(*map(side.decide, windows[at : at + block]), strict=True)
            turns[name].answers.extend(answers)
            turns[name].seconds.append(statistics.fmean(seconds))
    return turns
