"""Models over streams: many runs, prices and streams in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.progress import Progress
from experiments.datasets.streams import Stream, read_stream, window_labels
from experiments.machine.execution import Execution
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel
from sanas_jax import gates as gates_lib
from sanas_jax.data.features import Frontend, extract, num_frames
from sanas_jax.rollout import Carry, Sanas, init_carry, unroll
from sanas_jax.sharding import BUDGET, make_mesh, place
from sanas_jax.training.budgets import over_budgets

CHUNK_STEPS = 128
# Frames computed beyond each end of a chunk: a frame reaches n_fft/2 = 1.5 hops to either side.
_MARGIN = 2

Own = tuple[Any, Frontend]  # params of a run, and its features


class GroupOutputs(NamedTuple):
    """What a group of runs says of streams, one row per step, and the time that it took.

    Fields:
      posteriors: [T, K] for each run, price and stream: `posteriors[g][p][s]`.
      live: [T, E], likewise.
      ms_per_frame: of one model on one stream, compilation not counted.
    """

    posteriors: list[list[list[np.ndarray]]]
    live: list[list[list[np.ndarray]]]
    ms_per_frame: float


class ModelRun(NamedTuple):
    """A model over a stream.

    Fields:
      model: trained.
      price: λ that it was told; None if it hears none.
      stream: labelled.
      trace: what it said, and which edges were live.
      ms_per_frame: of the batched run that it was part of.
    """

    model: TrainedModel
    price: float | None
    stream: Stream
    trace: Trace
    ms_per_frame: float


def run_group(
    model: Sanas,
    static: bool,
    runs: Sequence[Own],
    prices: Sequence[float],
    signals: Sequence[np.ndarray],
    budgets_per_step: int | None = None,
    architectures: np.ndarray | None = None,
) -> GroupOutputs:
    """Every run at every price on every stream, each step in its most probable architecture.

    Streams go through side by side, in chunks of steps that hand on the controller's state, so
    that memory does not grow with their length. Prices share the trunk.

    Args:
      model: static description that all runs share.
      static: all gates on.
      runs: G parameters and features, of one structure.
      prices: P values of λ that a conditioned controller is told; one, of any value, for others.
      signals: S mono signals [n] at the features' rate.
      budgets_per_step: runs per program, as in the train loop.
      architectures: gates [P, E], one for each price, that stay the same at every step.
    """
    frontend = runs[0][1]
    hop, overlap = model.hop * frontend.hop, frontend.overlap
    totals = [model.num_steps(num_frames(len(s), frontend.hop) + overlap) for s in signals]
    if min(totals) < 1:
        seconds = (model.window - overlap) * frontend.hop / frontend.sample_rate
        raise ValueError(f"--stream: expected at least {seconds:.2f} s of audio, got less")
    steps = max(16, CHUNK_STEPS // len(signals))
    num_chunks = -(-max(totals) // steps)
    margin = _MARGIN * frontend.hop
    frames = (steps - 1) * model.hop + model.window - overlap
    length = (frames - 1) * frontend.hop + 2 * margin
    padded = np.zeros((len(signals), num_chunks * steps * hop + length), np.float32)
    for row, signal in zip(padded, signals, strict=True):
        row[margin : margin + len(signal)] = signal

    size = Execution(budgets_per_step).group_size(len(runs))
    groups = [runs[i : i + size] for i in range(0, len(runs), size)]
    outs, seconds = [], 0.0
    with Progress(len(groups) * num_chunks, "chunk", "streams") as shown:
        for group in groups:
            devices = jax.local_devices()[: math.gcd(len(group), jax.local_device_count())]
            mesh = make_mesh(devices, len(group), 1)
            run_chunk = jax.jit(over_budgets(_make_chunk(model, static), (2, 3), mesh))
            own = place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *group), mesh, BUDGET)
            carry = _start(model, len(group), prices, len(signals))
            first = run_chunk(own, carry, padded[:, :length], architectures)
            jax.block_until_ready(first)  # compile
            parts, begin = [], time.perf_counter()
            for i in range(num_chunks):
                chunk = padded[:, i * steps * hop :][:, :length]
                carry, part = run_chunk(own, carry, chunk, architectures)
                parts.append(jax.device_get(part))
                shown.add()
            seconds += time.perf_counter() - begin
            outs.append([np.concatenate(p, axis=2) for p in zip(*parts, strict=True)])
    posteriors, live = (np.concatenate(p) for p in zip(*outs, strict=True))

    def split(array: np.ndarray) -> list[list[list[np.ndarray]]]:
        """[G, P, T, S, …] → [g][p][s], each as long as its stream."""
        return [[[at[:n, s] for s, n in enumerate(totals)] for at in run] for run in array]

    decisions = len(runs) * len(prices) * sum(totals)
    return GroupOutputs(split(posteriors), split(live), 1000 * seconds / decisions)


def _make_chunk(model: Sanas, static: bool) -> Any:
    policy = gates_lib.all_on if static else gates_lib.mode

    def chunk(own: Own, carry: Carry, samples: jax.Array, forced: jax.Array | None) -> Any:
        params, frontend = own
        # The first and last frames of a chunk see its ends instead of the audio around it.
        frames = extract(frontend, samples)[:, _MARGIN:-_MARGIN, :, None]

        def at_price(carry: Carry, gates: jax.Array | None) -> Any:
            carry = carry._replace(stats=params.get("stats"))
            if gates is not None:
                steps = model.num_steps(frames.shape[1])
                gates = jnp.broadcast_to(gates, (steps, len(frames), len(gates)))
            key = jax.random.key(0)
            carry, outs = unroll(model, params, carry, frames, key, policy=policy, gates=gates)
            return carry._replace(stats=None), (jax.nn.softmax(outs.logits), outs.live)

        return jax.vmap(at_price)(carry, forced)

    return chunk


def _start(model: Sanas, runs: int, prices: Sequence[float], streams: int) -> Carry:
    """Carries [G, P, ...] at the start of every stream."""
    carries = [init_carry(model, streams, price) for price in prices]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * runs), stacked)


def read_streams(
    wavs: Sequence[str], labels: Sequence[str], models: Sequence[TrainedModel]
) -> list[Stream]:
    """Streams that all models can hear; ValueError for anything else."""
    if labels and len(labels) != len(wavs):
        raise ValueError(
            f"--labels: expected one per --stream or none, got {len(labels)} for {len(wavs)}"
        )
    info = models[0].info
    for model in models[1:]:
        ours = (model.info.classes, model.info.frontend.sample_rate)
        if ours != (info.classes, info.frontend.sample_rate):
            raise ValueError(
                f"--workdir: expected runs of the same classes and rate, got {models[0].workdir} "
                f"and {model.workdir}"
            )
    paths = list(map(Path, wavs))
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError("--stream: expected files of different names, got one twice")
    beside = [str(path.with_name(f"{path.stem}_labels.txt")) for path in paths]
    return [
        read_stream(path, Path(text), info.classes, info.frontend.sample_rate)
        for path, text in zip(paths, labels or beside, strict=True)
    ]


def run_models(
    models: Sequence[TrainedModel], streams: Sequence[Stream], budgets_per_step: int | None = None
) -> Iterator[ModelRun]:
    """Every model at every price over every stream; alike models share a pass."""
    groups: dict[Any, list[TrainedModel]] = {}
    for model in models:
        groups.setdefault(_program(model), []).append(model)
    for group in groups.values():
        first = group[0]
        own = [(model.params, model.info.frontend) for model in group]
        signals = [stream.samples for stream in streams]
        out = run_group(first.sanas, first.static, own, first.prices, signals, budgets_per_step)
        for g, model in enumerate(group):
            for p, price in enumerate(model.prices):
                for s, stream in enumerate(streams):
                    trace = trace_of(model, stream, out.posteriors[g][p][s], out.live[g][p][s])
                    own_price = price if model.conditioned else None
                    yield ModelRun(model, own_price, stream, trace, out.ms_per_frame)


def _program(model: TrainedModel) -> Any:
    """What runs must have in common to be vmapped; only conditioned ones hear their prices."""
    config = model.info.config.model
    prices = tuple(model.prices) if config.conditioned else ()
    features = jax.tree.structure(model.info.frontend)
    return model.sanas, config.static, prices, features


def trace_of(
    model: TrainedModel, stream: Stream, posteriors: np.ndarray, live: np.ndarray
) -> Trace:
    """What a model said of a stream, posteriors [T, K] and live edges [T, E], with the truth."""
    frontend, sanas = model.info.frontend, model.sanas
    frame_ms = 1000 * frontend.hop / frontend.sample_rate
    times = (sanas.hop * frame_ms * np.arange(len(posteriors))).round().astype(int)
    window_ms = (sanas.window - frontend.overlap) * frame_ms
    labels = window_labels(stream, times, window_ms, model.info.classes)
    return Trace(times, posteriors, live, labels)
