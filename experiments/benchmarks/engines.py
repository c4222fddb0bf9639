"""Time from samples to decision: a stream heard by XLA and by the native step, in turn.

    python -m experiments.benchmarks.engines --stream s.wav [--cost_weights 0.1,1] [--json out.json]

Batch of one. Each side is a session that is given the audio of a step and answers with a decision,
detector and Python included; "call" is the native step by itself, from samples to posterior. The
trained network decides what it runs, told each price. Blocks of decisions in turn, the same for all
sides; posteriors and live edges must be the same. Features are timed by themselves: XLA's of a
step's frames, the native ones of the frames before the first step, per step's frames.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile
from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure_limits, row
from experiments.benchmarks.harness.records import Result, cpu_ratio, footer, result
from experiments.flags.many_models import parse_price
from experiments.live.decisions import Spending
from experiments.live.engine import native_runtime, runtime_of
from experiments.machine.compiler import NoCompilerError
from experiments.machine.jax_setup import prepare_streaming
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.costs import count_macs
from sanas_jax.data.features import Frontend, extract
from sanas_jax.export.c.library import Library
from sanas_jax.streaming.session import Heard, Session, StreamEngine

__all__ = ["benchmark", "main", "table"]

NAME = "engines"
REPEATS = 5
STEPS, QUICK_STEPS = 500, 20  # decisions, over all blocks
TOLERANCE = 1e-5
Times = tuple[list[float], list[float]]  # seconds, and seconds of CPU, of each block's decisions


def benchmark(
    settings: Settings,
    stream: Path,
    steps: int | None = None,
    name: str = "pretrained:kws",
    prices: Sequence[float] = (0.1,),
) -> Result:
    """Time a trained network on a stream at each price."""
    prepare_streaming()
    model = read_model(name)
    try:
        native = native_runtime(model)
    except NoCompilerError as error:
        raise ValueError(f"expected a C compiler to compare with, got {error}") from error
    xla = runtime_of(model)
    steps = steps or (QUICK_STEPS if settings.quick else STEPS)
    block = max(1, steps // settings.repeats)
    frontend, hop = model.info.frontend, native.samples.step_advance
    audio = _read(stream, frontend, native.samples.begin + (block * settings.repeats + 1) * hop)
    rates = measure_limits(settings.repeats)
    rows: dict[str, Any] = {}
    agreement: dict[str, float] = {}
    for price in tqdm(prices, desc="prices", disable=None):
        told = price if model.conditioned else None
        base = f"λ = {price:g}, xla"
        sides: dict[str, Callable[[np.ndarray], Any]] = {
            base: _session(xla, told, audio, native),
            f"λ = {price:g}, native": _session(native, told, audio, native),
            f"λ = {price:g}, native call": _call(native, told, audio),
        }
        times, heard = _in_turn(sides, audio[native.samples.begin :], hop, block)
        macs = _macs(model, heard[base])
        for side, answers in heard.items():
            agreement[side] = _difference(answers, heard[base])
        for side, (seconds, cpu) in times.items():
            told_side = Side(lambda: None, macs=macs)
            rows[side] = row(told_side, seconds, times[base][0], base, rates)
            rows[side]["cpu_seconds"] = statistics.median(cpu)
    hold(agreement, TOLERANCE, "the engines give other posteriors")
    rows |= _features(frontend, native, model.sanas.hop, block, settings.repeats, rates)
    return result(
        f"from samples to decision, {settings.threads} threads, median of {settings.repeats} "
        f"blocks of {block} in turn; MACs of controller and new rows, without features",
        settings.asked | {"model": name, "stream": stream.name, "block": block},
        {"rows": rows, "limits": rates},
        agreement=agreement,
    )


def _read(stream: Path, frontend: Frontend, count: int) -> np.ndarray:
    """So many samples of a stream."""
    audio, rate = soundfile.read(stream, dtype="float32", always_2d=True, frames=count)
    if rate != frontend.sample_rate or len(audio) < count:
        raise ValueError(
            f"--stream: expected {count / frontend.sample_rate:.0f} s at {frontend.sample_rate} "
            f"Hz, got {len(audio) / rate:.0f} s at {rate} Hz: {stream}"
        )
    return np.ascontiguousarray(audio.mean(1))


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
    """Mean seconds of a decision in each block, and all decisions; the first is not timed."""
    times: dict[str, Times] = {name: ([], []) for name in sides}
    heard: dict[str, list[Any]] = {name: push(audio[:hop]) for name, push in sides.items()}
    for at in range(hop, len(audio) - block * hop + 1, block * hop):
        for name, push in sides.items():
            begin, cpu = time.perf_counter(), time.process_time()
            for start in range(at, at + block * hop, hop):
                heard[name] += push(audio[start : start + hop])
            times[name][0].append((time.perf_counter() - begin) / block)
            times[name][1].append((time.process_time() - cpu) / block)
    return times, heard


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Largest of posteriors; infinite where other edges ran."""
    if not np.array_equal([f.live for f in found], [e.live for e in expected]):
        return float("inf")
    posteriors = ([each.posterior for each in side] for side in (found, expected))
    one, other = map(np.stack, posteriors)
    return float(np.abs(one - other).max())


def _macs(model: TrainedModel, heard: Sequence[Heard]) -> int:
    """Mean multiplications of a decision."""
    spending = Spending(model)
    return round(statistics.fmean(spending.add(each.live) for each in heard))


def _features(
    frontend: Frontend,
    native: Library,
    hop: int,
    block: int,
    repeats: int,
    rates: dict[str, float],
) -> dict[str, Any]:
    """Rows for the features of a step's frames."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.1, 0.1, native.samples.begin).astype(np.float32)
    stream = native.stream(1.0)

    def form(x: jax.Array) -> jax.Array:
        return extract(frontend, x, centred=False)

    program, x = jax.jit(form), samples[: native.samples.step]
    jax.block_until_ready(program(x))
    runs: dict[str, tuple[Callable[[], Any], float]] = {
        "features, xla": (lambda: np.asarray(program(x)), 1.0),
        "features, native": (lambda: stream.begin(samples), hop / native.first_frames),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (run, share) in runs.items():
            begin = time.perf_counter()
            for _ in range(block):
                run()
            seconds[name].append((time.perf_counter() - begin) / block * share)
    base, other = runs
    side = Side(lambda: None, macs=count_macs(form, x))
    return {
        base: row(side, seconds[base], seconds[base], base, rates),
        other: row(Side(lambda: None), seconds[other], seconds[base], base, rates),
    }


def table(found: Result) -> str:
    """A line per side: microseconds, and ratios to XLA's."""
    rows = found["rows"]
    width = max(map(len, rows))
    lines = [found["what"]]
    worst = max(found["agreement"].values())
    lines.append(f"posteriors agree to {worst:.1e}, live edges are the same")
    lines.append(
        f"{'':{width}} {'µs':>7} {'CPU µs':>7} {'ratio (rounds)':>22} {'of CPU':>6} {'MACs':>8}"
    )
    for name, each in rows.items():
        low, high = each["ratio_range"]
        cpu, of_cpu = each.get("cpu_seconds"), cpu_ratio(rows, name)
        macs = each.get("macs")
        lines.append(
            f"{name:{width}} {1e6 * each['seconds']:7.1f} "
            f"{'–' if cpu is None else f'{1e6 * cpu:.1f}':>7} "
            f"{each['ratio']:6.2f} ({low:.2f} to {high:.2f})".ljust(width + 40)
            + f"{'–' if of_cpu is None else f'{of_cpu:.2f}':>6} "
            f"{'–' if macs is None else f'{macs / 1e6:.3f}M':>8}"
        )
    return "\n".join([*lines, *footer(found, found["limits"])])


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
    flags.DEFINE_list("cost_weights", ["0.1"], "λ that it is told.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    if settings.device != "cpu":
        raise ValueError("--device: expected cpu, where a stream is decided on, got default")
    stream = Path(values.stream)
    if not stream.is_file():
        raise ValueError(f"--stream: expected a file, got {stream}")
    prices = [parse_price(word) for word in values.cost_weights]
    entry.run_one(
        NAME,
        values,
        settings,
        lambda: benchmark(settings, stream, values.steps, values.model, prices),
        table,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
