"""Time from samples to decision: a stream heard by several engines, in turn.

    python -m experiments.benchmarks.engines --stream s.wav [--cost_weights 0.1,1] [--json out.json]

Batch of one. Each side is a session that is given the audio of a step and answers with a decision,
detector and Python included: XLA, the native step, the exported graph under onnxruntime; "call" is
the native step by itself, from samples to posterior. The trained network decides what it runs, told
each price; last, everything is on, and PyTorch computes the same, each window whole, on the same
features. --plain adds the step in NumPy and numba. Blocks of decisions in turn, the same for all
sides; posteriors and live edges must be the same. µs of CPU time are of single decisions, which
other load on the machine hardly changes. Of XLA and native it is also said where their time goes
(features are timed by themselves), and what is saved of everything on, in arithmetic and in time,
features counted on both sides.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from experiments.benchmarks.decisions.engines import (
    OnnxEngine,
    WindowEngine,
    difference,
    our_engines,
)
from experiments.benchmarks.decisions.plain_step import NAMES as PLAIN
from experiments.benchmarks.decisions.plain_step import PlainEngine
from experiments.benchmarks.decisions.subjects import separable_in_torch
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure_limits, row
from experiments.benchmarks.harness.records import Result, cpu_ratio, footer, result
from experiments.benchmarks.harness.samples import read_samples
from experiments.benchmarks.peers import pytorch
from experiments.flags.many_models import parse_price
from experiments.live.decisions import Spending, frontend_ms
from experiments.machine.host import without_pauses
from experiments.machine.jax_setup import prepare_streaming
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.export.c.library import Library
from sanas_jax.streaming.session import Heard, Session, StreamEngine

__all__ = ["benchmark", "main", "table"]

NAME = "engines"
REPEATS = 5
STEPS, QUICK_STEPS = 500, 20  # decisions, over all blocks
TOLERANCE = 1e-5
EVERYTHING = "everything on"
Times = tuple[list[float], list[float]]  # seconds, and seconds of CPU, of each decision


def benchmark(
    settings: Settings,
    stream: Path,
    steps: int | None = None,
    name: str = "pretrained:kws",
    prices: Sequence[float] = (0.1,),
    plain: bool = False,
) -> Result:
    """Time a trained network on a stream at each price, and with everything on."""
    prepare_streaming()
    adapting = read_model(name)
    notes: list[str] = []
    steps = steps or (QUICK_STEPS if settings.quick else STEPS)
    block = max(1, steps // settings.repeats)
    rates = measure_limits(settings.repeats)
    rows: dict[str, Any] = {}
    agreement: dict[str, float] = {}
    everything = adapting.as_static()
    cases = [] if adapting.static else [(f"λ = {p:g}", adapting, p) for p in prices]
    cases.append((EVERYTHING, everything, prices[0]))
    engines: dict[int, dict[str, StreamEngine]] = {}
    for case, model, price in tqdm(cases, desc="prices", disable=None):
        if id(model) not in engines:
            engines[id(model)] = _engines(model, settings, notes, whole=case == EVERYTHING)
            if plain:
                engines[id(model)] |= _plain_engines(model)
        found = engines[id(model)]
        native = found["native"]
        assert isinstance(native, Library)
        told, hop = price if model.conditioned else None, native.samples.step_advance
        count = native.samples.begin + (block * settings.repeats + 1) * hop
        audio = read_samples(stream, native.frontend, count)
        sides = {
            f"{case}, {engine}": _session(made, told, audio, native)
            for engine, made in found.items()
        }
        sides[f"{case}, native call"] = _call(native, told, audio)
        with without_pauses():
            times, heard = _in_turn(sides, audio[native.samples.begin :], hop, block)
        base = next(iter(sides))
        for side, each in times.items():
            agreement[side] = difference(heard[side], heard[base])
            engine = "native" if "native" in side else "xla"
            macs = _macs(model, heard[base], engine)
            rows[side] = _row(each, times[base], macs, base, block, rates)
        for engine in ("xla", "native"):
            front = frontend_ms(found[engine])
            if front is not None:
                rows[f"{case}, {engine}"]["frontend_seconds"] = front / 1000
    hold(agreement, TOLERANCE, "the engines give other posteriors")
    return result(
        f"from samples to decision, {settings.threads} threads, {settings.repeats} blocks of "
        f"{block} in turn; MACs of controller, new rows and, of XLA and native, features",
        settings.asked | {"model": name, "stream": stream.name, "block": block},
        {"rows": rows, "limits": rates},
        agreement=agreement,
        notes=notes,
    )


def _engines(
    model: TrainedModel, settings: Settings, notes: list[str], *, whole: bool
) -> dict[str, StreamEngine]:
    """Engines by name, ours first; what is missing is noted. `whole`: PyTorch is one of them."""
    xla, native = our_engines(model)
    found: dict[str, StreamEngine] = {"xla": xla, "native": native}
    missing: list[str] = []
    try:
        found[OnnxEngine.name] = OnnxEngine(model, settings.threads)
    except ImportError:
        missing.append("onnxruntime, which is not installed: pip install 'sanas-jax[onnx]'")
    whole = whole and model.info.config.model.family == "separable"
    if whole and (peer := pytorch.import_torch(settings, missing)):
        decide = separable_in_torch(model.sanas, model.params, peer, compiled=False)
        found[pytorch.EAGER] = WindowEngine(model, pytorch.EAGER, decide)
    notes += [note for note in missing if note not in notes]
    return found


def _plain_engines(model: TrainedModel) -> dict[str, StreamEngine]:
    """Those of `--plain`; ValueError for a network that they cannot run."""
    try:
        return {side: PlainEngine(model, side) for side in PLAIN}
    except ValueError as error:
        raise ValueError(f"--plain: {error}") from error


def _row(
    times: Times, base_times: Times, macs: int, base: str, block: int, rates: dict[str, float]
) -> dict[str, Any]:
    """What is known of a side; the first block is timed too, since sides are warm."""
    means, base_means = (
        np.reshape(each[0], (-1, block)).mean(1).tolist() for each in (times, base_times)
    )
    found = row(Side(lambda: None, macs=macs), means, base_means, base, rates)
    cpu = np.array(times[1])
    return found | {
        "cpu_seconds": float(cpu.mean()),
        "cpu_median": float(np.median(cpu)),
        "cpu_p99": float(np.percentile(cpu, 99)),
    }


def _session(
    engine: StreamEngine, price: float | None, audio: np.ndarray, native: Library
) -> Callable[[np.ndarray], list[Heard]]:
    """A session that has heard all but the first step, so that each push decides once."""
    session = Session(engine, cost_weight=price)
    session.push(audio[: native.samples.begin])
    return session.push


def _call(
    native: Library, price: float | None, audio: np.ndarray
) -> Callable[[np.ndarray], list[Any]]:
    """The native step, given the samples that a session would give it."""
    half = native.frontend.n_fft // 2
    stream = native.stream(price)
    pending = np.concatenate([np.zeros(half, np.float32), audio[: native.samples.begin]])
    stream.begin(pending[: native.samples.begin])
    pending = pending[native.samples.begin_advance :]
    needed, advance = native.samples.step, native.samples.step_advance

    def step(samples: np.ndarray) -> list[Any]:
        nonlocal pending
        x = np.concatenate([pending, samples])
        pending = x[advance:]
        return [stream.step(x[:needed])]

    return step


def _in_turn(
    sides: dict[str, Callable[[np.ndarray], list[Any]]], audio: np.ndarray, hop: int, block: int
) -> tuple[dict[str, Times], dict[str, list[Any]]]:
    """Seconds of each decision, and all decisions; the first is not timed."""
    times: dict[str, Times] = {name: ([], []) for name in sides}
    heard: dict[str, list[Any]] = {name: push(audio[:hop]) for name, push in sides.items()}
    for at in range(hop, len(audio) - block * hop + 1, block * hop):
        for name, push in sides.items():
            seconds, cpu_seconds = times[name]
            for start in range(at, at + block * hop, hop):
                samples = audio[start : start + hop]
                cpu, begin = time.process_time(), time.perf_counter()
                heard[name] += push(samples)
                seconds.append(time.perf_counter() - begin)
                cpu_seconds.append(time.process_time() - cpu)
    return times, heard


def _macs(model: TrainedModel, heard: Sequence[Heard], engine: str) -> int:
    """Mean multiply-accumulates of a decision, features included."""
    spending = Spending(model, engine)
    mean = statistics.fmean(spending.add(each.live) for each in heard)
    return round(mean + spending.summary()["frontend_macs"])


def table(found: Result) -> str:
    """A line per side: µs and ratios to XLA's; then where time goes, and what is saved."""
    rows = found["rows"]
    width = max(map(len, rows))
    lines = [found["what"]]
    worst = max(found["agreement"].values())
    lines.append(f"posteriors agree to {worst:.1e}, live edges are the same")
    lines.append(
        f"{'':{width}} {'µs':>8} {'CPU µs':>8} {'median':>7} {'p99':>8} "
        f"{'ratio (rounds)':>22} {'of CPU':>6} {'MACs':>8}"
    )
    for name, each in rows.items():
        low, high = each["ratio_range"]
        of_cpu = cpu_ratio(rows, name)
        cpu = (each[part] for part in ("seconds", "cpu_seconds", "cpu_median", "cpu_p99"))
        mean, *rest = (f"{1e6 * seconds:.1f}" for seconds in cpu)
        ours = ", onnx" not in name and pytorch.EAGER not in name
        lines.append(
            f"{name:{width}} {mean:>8} {rest[0]:>8} {rest[1]:>7} {rest[2]:>8} "
            + f"{each['ratio']:.2f} ({low:.2f} to {high:.2f})".rjust(22)
            + f" {'–' if of_cpu is None else f'{of_cpu:.2f}':>6} "
            + (f"{each['macs'] / 1e6:7.3f}M" if ours else f"{'–':>8}")
        )
    for part in (_shares(rows), _saved(rows)):
        lines += ["", *part] if part else []
    return "\n".join([*lines, *footer(found, found["limits"])])


def _shares(rows: dict[str, Any]) -> list[str]:
    """Where the CPU time of native decisions goes; of XLA's, features and all else.

    Nothing where no front end was timed: it is among the edges.
    """
    if not any("frontend_seconds" in each for each in rows.values()):
        return []
    lines = [
        f"{'CPU µs of a decision':28} {'front end':>10} {'controller, edges':>18} {'Python':>8}"
    ]
    for name, each in rows.items():
        case, _, engine = name.rpartition(", ")
        if "frontend_seconds" not in each:
            continue
        front, whole = 1e6 * each["frontend_seconds"], 1e6 * each["cpu_seconds"]
        if engine == "native":
            call = 1e6 * rows[f"{case}, native call"]["cpu_seconds"]
            rest = f"{call - front:18.1f} {whole - call:8.1f}"
        else:
            rest = f"{whole - front:18.1f} {'(in it)':>8}"
        lines.append(f"{name:28} {front:10.1f} {rest}")
    return lines


def _saved(rows: dict[str, Any]) -> list[str]:
    """Arithmetic and CPU time saved of everything on; features count on both sides."""
    lines = [f"{'saved of everything on':28} {'MACs':>7} {'time':>7}"]
    for name, each in rows.items():
        case, _, engine = name.rpartition(", ")
        whole = rows.get(f"{EVERYTHING}, {engine}")
        if case == EVERYTHING or whole is None:
            continue
        macs = (
            f"{1 - each['macs'] / whole['macs']:7.1%}" if engine != OnnxEngine.name else f"{'–':>7}"
        )
        lines.append(f"{name:28} {macs} {1 - each['cpu_seconds'] / whole['cpu_seconds']:7.1%}")
    return lines


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
    flags.DEFINE_string("model", "pretrained:kws", "Trained network.", flag_values=values)
    flags.DEFINE_string("stream", None, "WAV to hear.", required=True, flag_values=values)
    flags.DEFINE_bool(
        "plain",
        False,
        "Beside them a step in NumPy and numba, of a separable network.",
        flag_values=values,
    )
    flags.DEFINE_list("cost_weights", ["0.1"], "λ that it is told.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    stream = entry.stream_of(values)
    prices = [parse_price(word) for word in values.cost_weights]
    entry.run_one(
        NAME,
        values,
        settings,
        lambda: benchmark(settings, stream, values.steps, values.model, prices, values.plain),
        table,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
