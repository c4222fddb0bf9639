"""How the time of a training step grows with batch, steps of a stream, edges, budgets and devices.

    python -m experiments.benchmarks.growth [--repeats 7] [--json out.json] [--figure growth.png]

The update of the train loop on kws_small (16 maps, 8 samples) and random features, one thing
changed at a time; edges are those of a graph of dense layers in which every layer sees all before
it. Several devices share one batch of 64; on a CPU they are virtual ones on the same cores, which
shows what sharing costs and cannot show a gain. Each axis is timed in turn, in a process of its
own, and its rows are compared with its first one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.command import cli as command
from experiments.benchmarks.day.training_step import Point, side_of
from experiments.benchmarks.harness import entry, records
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import measure
from experiments.benchmarks.harness.records import Result, result, table
from experiments.figures.growth import growth_figure

__all__ = ["benchmark", "main", "table"]

NAME = "growth"
AXES: dict[str, tuple[int, ...]] = {
    "batch": (8, 16, 32, 64, 128, 256),
    "steps": (6, 11, 21, 41, 81),
    "edges": (6, 28, 66, 120, 231),
    "budgets": (1, 2, 4, 8),
    "devices": (1, 2, 4, 8),
}
REPEATS = 7


def points_of(axis: str, quick: bool) -> list[Point]:
    """The points of an axis; the first ones, with a small batch, where it is quick."""
    base = Point(batch=8) if quick else Point()
    counts = AXES[axis][: 2 if quick else None]
    return [base._replace(**{axis: count}) for count in counts]


def benchmark(settings: Settings, only: Sequence[str] = ()) -> Result:
    """All axes, or those of `only`, each in a process of its own."""
    measured: dict[str, Any] = {"rows": {}, "limits": {}}
    for axis in only or AXES:
        found = _in_a_process(settings, axis)
        measured["rows"] |= found["rows"]
        measured["limits"] = measured["limits"] or found["limits"]
    return result(
        f"growth of a training step, kws_small, batch 64 × 11 steps unless said otherwise, "
        f"{settings.threads} threads, median of {settings.repeats} in turn",
        settings.asked,
        measured,
    )


def measure_axis(settings: Settings, axis: str) -> Result:
    """The points of one axis, in this process."""
    points = points_of(axis, settings.quick)
    sides = {f"{axis} {getattr(point, axis)}": side_of(point) for point in points}
    return result(axis, settings.asked, measure(sides, settings.repeats))


def _in_a_process(settings: Settings, axis: str) -> Result:
    """`measure_axis`, with as many virtual devices as it needs."""
    count = points_of(axis, settings.quick)[-1].devices
    environment = dict(os.environ)
    if settings.device == "cpu" and count > 1:
        several = f"--xla_force_host_platform_device_count={count}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {several}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "axis.json"
        asked = [
            *(sys.executable, "-m", "experiments.benchmarks.growth", f"--axis={axis}"),
            *(f"--json={file}", f"--device={settings.device}", f"--threads={settings.threads}"),
            f"--repeats={settings.repeats}",
            *(["--quick"] if settings.quick else []),
        ]
        done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise ValueError(f"growth with {axis}: expected it to end well, got an error (above)")
        return records.read(file)[NAME]


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS)
    flags.DEFINE_enum("axis", None, list(AXES), "One axis only.", flag_values=values)
    flags.DEFINE_string("figure", None, "PNG file for a plot of all axes.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    measured: Callable[[], Result] = partial(benchmark, settings)
    if values.axis:
        measured = partial(measure_axis, settings, values.axis)
    figure = entry.figure_of(values)

    def measured_and_drawn() -> Result:
        found = measured()
        if figure:
            growth_figure(found["rows"]).savefig(figure, dpi=150)
        return found

    entry.run_one(NAME, values, settings, measured_and_drawn, training=True)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
