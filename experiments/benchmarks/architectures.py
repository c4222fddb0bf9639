"""Does time follow arithmetic? A thousand decisions, as different as they come.

    python -m experiments.benchmarks.architectures --stream s.wav [--figure line.png]

Before every other step the controller's state is drawn anew, so that it asks for something else;
the step after it goes on from there and is the one that is timed, since to set a state costs an
engine time of its own. What is computed are the edges that are asked for, the rows that they
missed, controller and features. Both engines, the native step and XLA's, decide on the same audio
with the same states, and must choose the same edges. A pass hears the whole stream; passes are in
turn, and of a decision the median over passes counts. The line is fitted by least squares; of a
step whose time is its arithmetic r² is 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from data_prep.command.atomic import new_files
from experiments.benchmarks.decisions.engines import difference, our_engines
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure_limits, row
from experiments.benchmarks.harness.records import Result, footer, result
from experiments.benchmarks.harness.samples import read_samples
from experiments.figures.straight import straight_figure
from experiments.figures.style import to_png
from experiments.live.decisions import Spending
from experiments.machine.jax_setup import prepare_streaming
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.controller import Constant
from sanas_jax.export.c.library import Library
from sanas_jax.streaming.session import StreamEngine

__all__ = ["Line", "benchmark", "fit", "main", "table"]

NAME = "architectures"
REPEATS = 7
STEPS, QUICK_STEPS = 1000, 20
TOLERANCE = 1e-5
SPREAD = 3.0  # of the states: a trained controller, told what it never felt, asks for anything


class Line(NamedTuple):
    """seconds ≈ intercept + slope · MACs, and the share r² of their variance that it explains."""

    intercept: float
    slope: float
    r2: float


def fit(macs: np.ndarray, seconds: np.ndarray) -> Line:
    """The line of least squares through [n] and [n]."""
    slope, intercept = np.polyfit(macs, seconds, 1)
    left = seconds - (intercept + slope * macs)
    return Line(float(intercept), float(slope), float(1 - left.var() / seconds.var()))


def benchmark(
    settings: Settings,
    stream: Path,
    steps: int | None = None,
    name: str = "pretrained:kws",
    price: float = 0.1,
) -> Result:
    """Time each of so many decisions of a trained network on a stream."""
    prepare_streaming()
    model = read_model(name)
    if model.static or isinstance(model.sanas.controller.cell, Constant):
        raise ValueError(f"--model: expected a network with a controller, got one without: {name}")
    steps = steps or (QUICK_STEPS if settings.quick else STEPS)
    xla, native = our_engines(model)
    engines: dict[str, StreamEngine] = {"native": native, "xla": xla}
    count = native.samples
    length = count.begin_advance + (2 * steps - 1) * count.step_advance + count.step
    audio = read_samples(stream, native.frontend, max(length, count.begin))
    told = price if model.conditioned else None
    size = model.sanas.controller.cell.features
    states = SPREAD * np.random.default_rng(0).normal(size=(steps, size)).astype(np.float32)
    seconds: dict[str, list[np.ndarray]] = {each: [] for each in engines}
    answers: dict[str, list[Any]] = {}
    for _ in tqdm(range(settings.repeats), desc="passes", disable=None):
        for each, engine in engines.items():
            times, answers[each] = _pass(engine, native, told, audio, states)
            seconds[each].append(times)
    rates = measure_limits(settings.repeats)
    rows, agreement = {}, {}
    base = [float(times.mean()) for times in seconds["xla"]]
    for each, passes in seconds.items():
        agreement[each] = difference(answers[each], answers["xla"])
        macs, computed = _macs(model, answers[each], each)
        medians = np.median(passes, axis=0)
        line = fit(macs, medians)
        means = [float(times.mean()) for times in passes]
        rows[each] = row(Side(lambda: None, macs=round(macs.mean())), means, base, "xla", rates)
        rows[each] |= {"line": line._asdict(), "computed": computed}
        rows[each] |= {"decisions": {"macs": macs.tolist(), "seconds": medians.tolist()}}
    hold(agreement, TOLERANCE, "the engines give other posteriors")
    return result(
        f"{steps} decisions, {settings.threads} threads, medians of {settings.repeats} passes in "
        "turn; MACs of controller, new rows and features",
        settings.asked | {"model": name, "stream": stream.name, "steps": steps},
        {"rows": rows, "limits": rates},
        agreement=agreement,
    )


def _pass(
    engine: StreamEngine,
    native: Library,
    price: float | None,
    audio: np.ndarray,
    states: np.ndarray,
) -> tuple[np.ndarray, list[Any]]:
    """Seconds [n] of the steps after those whose states [n, Z] are set; all answers, 2n."""
    count, size = native.samples, states.shape[1]
    stream = engine.stream(price)
    stream.begin(audio[: count.begin])
    times, answers = np.empty(len(states)), []
    at = count.begin_advance
    for t, z in enumerate(states):
        memory = stream.memory
        # z is the first of the state (`streaming.carry_of`).
        state: Any = np.concatenate([z, np.asarray(memory.state)[size:]])
        stream.memory = memory._replace(state=state)
        answers.append(stream.step(audio[at : at + count.step]))
        at += count.step_advance
        x = audio[at : at + count.step]
        begin = time.perf_counter()
        answer = stream.step(x)
        times[t] = time.perf_counter() - begin
        answers.append(answer)
        at += count.step_advance
    return times, answers


def _macs(model: TrainedModel, answers: Sequence[Any], engine: str) -> tuple[np.ndarray, int]:
    """MACs of each timed step [n], and how many different computations: edges and their rows."""
    spending = Spending(model, engine)
    spent, different = [], set()
    for number, answer in enumerate(answers):
        turns = spending.turns(answer.live).tobytes()
        macs = spending.add(answer.live)
        if number % 2:
            different.add(turns)
            spent.append(macs)
    return np.array(spent) + spending.summary()["frontend_macs"], len(different)


def table(found: Result) -> str:
    """A line per engine: times, and the line through them."""
    rows = found["rows"]
    lines = [found["what"]]
    lines.append(f"posteriors agree to {max(found['agreement'].values()):.1e}")
    lines.append(
        f"{'':8} {'different':>9} {'µs, least':>9} {'median':>8} {'p99':>8} "
        f"{'µs at none':>10} {'µs a million MACs':>17} {'r²':>6}"
    )
    for name, each in rows.items():
        micro = 1e6 * np.array(each["decisions"]["seconds"])
        line = Line(**each["line"])
        lines.append(
            f"{name:8} {each['computed']:9d} {micro.min():9.1f} {np.median(micro):8.1f} "
            f"{np.percentile(micro, 99):8.1f} {1e6 * line.intercept:10.1f} "
            f"{1e12 * line.slope:17.1f} {line.r2:6.3f}"
        )
    return "\n".join([*lines, *footer(found, found["limits"])])


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS, threads=1)
    flags.DEFINE_integer(
        "steps",
        None,
        f"Decisions; {STEPS}, or {QUICK_STEPS} with --quick.",
        2,
        flag_values=values,
    )
    flags.DEFINE_string("model", "pretrained:kws", "Trained network.", flag_values=values)
    flags.DEFINE_string("stream", None, "WAV to hear.", required=True, flag_values=values)
    flags.DEFINE_float("cost_weight", 0.1, "λ that it is told.", 1e-9, flag_values=values)
    flags.DEFINE_string("figure", None, "PNG file for a plot.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    stream = entry.stream_of(values)
    figure = entry.figure_of(values)

    def measured_and_drawn() -> Result:
        found = benchmark(settings, stream, values.steps, values.model, values.cost_weight)
        if figure:
            with new_files(figure) as (new,):
                new.write_bytes(to_png(straight_figure(found["rows"])))
        return found

    entry.run_one(NAME, values, settings, measured_and_drawn, table)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
