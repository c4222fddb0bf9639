"""Milliseconds per decision on a stream, beside the same network in plain PyTorch.

    python -m experiments.benchmarks.streaming [--threads 1] [--stream s.wav] [--json out.json]

Batch of one, 200 ms of features per decision, network and controller (features of audio are the
same for both sides and are timed alone). Ours skips edges and keeps rows (`sanas_jax.streaming`),
with one program for all architectures and, "own", with programs of their own for those that occur
most (`sanas_jax.runtime`). PyTorch, run eagerly and under `torch.compile`, computes each window
whole and multiplies by gates, as the method's own code does. Architectures are forced: everything,
about a half and a tenth of the MACs, the cheapest path; and trained networks (--model) decide for
themselves on a stream (--stream), told each price of --cost_weights, timed from its fourth minute
on. All must give the same posteriors. They run in turn, a block of decisions each: seconds are the
median over blocks of a decision's mean. Without PyTorch (pip install torch) ours is timed alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from experiments.benchmarks.decisions.sides import (
    StreamSide,
    Turns,
    forced_sides,
    in_turn,
    stream_sides,
)
from experiments.benchmarks.decisions.subjects import Subject, architectures, paper, trained
from experiments.benchmarks.decisions.table import FEATURES, OURS, OWN, table
from experiments.benchmarks.harness import entry, records
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure_limits, relative_error, row
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.benchmarks.harness.records import Result
from experiments.flags.many_models import parse_price
from experiments.machine.jax_setup import prepare_streaming
from sanas_jax.costs import count_macs
from sanas_jax.costs.incremental import incremental_macs
from sanas_jax.data.features import Frontend, extract
from sanas_jax.streaming.runtime import Answer

__all__ = ["benchmark", "main", "table"]

NAME = "streaming"
REPEATS = 5
STEPS, QUICK_STEPS = 500, 20  # decisions, over all blocks
TOLERANCE = 1e-3


def benchmark(
    settings: Settings,
    steps: int | None = None,
    models: Sequence[str] = ("pretrained:kws",),
    stream: Path | None = None,
    prices: Sequence[float] = (0.1,),
) -> Result:
    """Time every network in every architecture, and on a stream if there is one."""
    prepare_streaming()
    notes: list[str] = []
    steps = steps or (QUICK_STEPS if settings.quick else STEPS)
    block = max(1, steps // settings.repeats)
    rates = measure_limits(settings.repeats)
    subjects = [paper(settings, notes), *(trained(name, settings, notes) for name in models)]
    rows: dict[str, Any] = {}
    agreement: dict[str, float] = {}
    for subject in subjects:
        named = architectures(subject.model.net, settings.quick)
        for label, live in tqdm(named.items(), desc=subject.name, disable=None):
            name = f"{subject.name}, {label}"
            sides, windows = forced_sides(subject, live, block * settings.repeats)
            turns = in_turn(sides, windows, block)
            agreement[name] = _disagreement(turns)
            new_rows = _new_rows(subject, np.stack([live] * 8))[-1]  # once it is under way
            rows |= rows_of(name, subject, sides, turns, live, float(new_rows), rates)
        if stream is not None and subject.frontend is not None:
            for price in prices:
                name = f"{subject.name}, λ = {price:g} on a stream"
                sides, windows = stream_sides(subject, stream, block * settings.repeats, price)
                turns = in_turn(sides, windows, block)
                live = np.stack([answer.live for answer in turns[OURS].answers])
                new_rows = _new_rows(subject, live).mean()
                rows |= rows_of(name, subject, sides, turns, live, float(new_rows), rates)
    hold(agreement, TOLERANCE, "the networks give other log posteriors")
    frontend = next((each.frontend for each in subjects if each.frontend), None)
    if frontend is not None:
        hop = subjects[-1].model.hop
        rows[FEATURES] = time_features(frontend, hop, block, settings.repeats, rates)
    return records.result(
        f"decisions on a stream, {settings.threads} threads, {settings.repeats} blocks of {block} "
        "in turn",
        settings.asked | {"models": list(models), "stream": stream and stream.name},
        {"rows": rows, "limits": rates},
        agreement=agreement,
        notes=notes,
    )


def rows_of(
    name: str,
    subject: Subject,
    sides: dict[str, StreamSide],
    turns: dict[str, Turns],
    live: np.ndarray,
    new_rows: float,
    rates: dict[str, float],
) -> dict[str, Any]:
    """A row per side. Ours computes new rows and reads live weights, PyTorch everything.

    Args:
      name: of the row of ours, which the others are compared with.
      subject: network.
      sides: that were timed.
      turns: what came of it.
      live: [E] or [T, E], edges of ours.
      new_rows: MACs that ours computes for a decision.
      rates: limits of the machine.
    """
    all_on = np.ones(len(subject.model.net.edges), np.float32)
    found = {}
    for side_name, side in sides.items():
        is_ours = side_name in (OURS, OWN)
        told = Side(
            lambda: None,
            macs=round(new_rows if is_ours else subject.macs(all_on)),
            moved=subject.weights_bytes(live if is_ours else all_on),
            compile_seconds=side.compile_seconds,
            memory_bytes=side.memory_bytes,
        )
        label = name if side_name == OURS else f"{name}, {side_name}"
        found[label] = row(told, turns[side_name].seconds, turns[OURS].seconds, name, rates)
        found[label]["window_macs"] = subject.macs(live)
    return found


def _new_rows(subject: Subject, live: np.ndarray) -> np.ndarray:
    """MACs [T] of live edges [T, E] where rows are kept."""
    model = subject.model
    return np.asarray(incremental_macs(model.net, model.hop).along(jnp.asarray(live)))


def time_features(
    frontend: Frontend, hop: int, block: int, repeats: int, rates: dict[str, float]
) -> dict[str, Any]:
    """A row for the features of one decision's frames."""
    samples = np.zeros(frontend.span(hop), np.float32)

    def form(samples: jax.Array) -> jax.Array:
        return extract(frontend, samples, centred=False)

    program = build(jax.jit(form), samples)
    run = program.on(samples)
    moved = num_bytes((samples, run()))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(block):
            run()
        seconds.append((time.perf_counter() - begin) / block)
    side = Side(run, macs=count_macs(form, samples), moved=moved).compiled(program)
    return row(side, seconds, seconds, FEATURES, rates)


def _disagreement(turns: dict[str, Turns]) -> float:
    """Largest relative error of log posteriors against those of ours."""
    expected = [np.log(answer.posterior) for answer in turns[OURS].answers]
    return max(
        relative_error(_log_posterior(answer), logs)
        for name, turn in turns.items()
        if name != OURS
        for answer, logs in zip(turn.answers, expected, strict=True)
    )


def _log_posterior(answer: Any) -> np.ndarray:
    """Of an answer of ours, or of PyTorch's logits."""
    if isinstance(answer, Answer):
        return np.log(answer.posterior)
    return answer - np.logaddexp.reduce(answer)


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS, threads=1)
    flags.DEFINE_integer(
        "steps",
        None,
        f"Timed decisions, over all rounds; {STEPS}, or {QUICK_STEPS} with --quick.",
        1,
        flag_values=values,
    )
    flags.DEFINE_list("model", ["pretrained:kws"], "Trained networks to time.", flag_values=values)
    flags.DEFINE_string("stream", None, "WAV on which they decide.", flag_values=values)
    flags.DEFINE_list("cost_weights", ["0.1"], "λ that they are told there.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    if settings.device != "cpu":
        raise ValueError("--device: expected cpu, where a stream is decided on, got default")
    if values.stream and not Path(values.stream).is_file():
        raise ValueError(f"--stream: expected a file, got {values.stream}")
    stream = Path(values.stream) if values.stream else None
    prices = [parse_price(word) for word in values.cost_weights]
    entry.run_one(
        NAME,
        values,
        settings,
        lambda: benchmark(settings, values.steps, values.model, stream, prices),
        table,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
