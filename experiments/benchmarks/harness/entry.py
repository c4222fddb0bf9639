"""Flags and body that the benchmarks' commands share: measure, print, write, compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import check_place
from experiments.benchmarks.harness import compare, entry, machine, records
from experiments.benchmarks.harness.records import Result
from experiments.machine.host import num_cores

QUICK_REPEATS = 2


class Settings(NamedTuple):
    """What every benchmark is told.

    threads: of each side on the CPU.
    repeats: timed rounds; medians count.
    quick: small sizes, to see that it runs.
    device: "cpu", or "default" for what jax finds.
    """

    threads: int
    repeats: int
    quick: bool = False
    device: str = "cpu"

    @property
    def asked(self) -> dict[str, Any]:
        """What two results must share to be compared; medians of more rounds are of the same."""
        return {"threads": self.threads, "quick": self.quick, "device": self.device}


def define_device_flag(values: flags.FlagValues) -> None:
    """The flag that says where sides compute; NumPy and librosa do on the CPU in any case."""
    flags.DEFINE_enum(
        "device",
        "cpu",
        ["cpu", "default"],
        "Where both sides compute; default: what jax finds, and CUDA for PyTorch.",
        flag_values=values,
    )


def define_output_flags(values: flags.FlagValues) -> None:
    """Flags that say where results go."""
    flags.DEFINE_string("json", None, "File for the result.", flag_values=values)
    flags.DEFINE_string(
        "compare", None, "Result of an earlier run: print new over old.", flag_values=values
    )


def define_flags(values: flags.FlagValues, *, repeats: int, threads: int = 2) -> None:
    """Flags of every benchmark.

    Args:
      values: to define them in.
      repeats: default of --repeats; a quick run has `QUICK_REPEATS`.
      threads: default of --threads, or all CPUs if there are fewer.
    """
    flags.DEFINE_integer(
        "threads", min(threads, num_cores()), "Threads of each side.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "repeats",
        None,
        f"Timed rounds; medians count. {repeats} if not given, {QUICK_REPEATS} with --quick.",
        1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "quick",
        False,
        "Small sizes, few rounds: whether it runs, not how fast.",
        flag_values=values,
    )
    define_device_flag(values)
    define_output_flags(values)


def settings_of(values: flags.FlagValues, repeats: int) -> Settings:
    """Settings from the flags; ValueError for more threads than CPUs."""
    check_threads(values.threads)
    rounds = values.repeats or (QUICK_REPEATS if values.quick else repeats)
    return Settings(values.threads, rounds, values.quick, values.device)


def check_threads(threads: int | None) -> None:
    """ValueError for more threads than CPUs."""
    if threads is not None and threads > num_cores():
        raise ValueError(f"--threads: expected at most {num_cores()}, the CPUs here; got {threads}")


def stream_of(values: flags.FlagValues) -> Path:
    """--stream of a benchmark of decisions; ValueError if it is no file, or for another device."""
    if values.device != "cpu":
        raise ValueError("--device: expected cpu, where a stream is decided on, got default")
    stream = Path(values.stream)
    if not stream.is_file():
        raise ValueError(f"--stream: expected a file, got {stream}")
    return stream


def figure_of(values: flags.FlagValues) -> Path | None:
    """--figure, looked at before anything is measured; ValueError if it cannot be written."""
    figure = Path(values.figure) if values.figure else None
    if figure and not (figure.suffix == ".png" and figure.parent.is_dir()):
        raise ValueError(f"--figure: expected a PNG file in a folder that exists, got {figure}")
    check_place("figure", values.figure)
    return figure


def output(values: flags.FlagValues) -> tuple[Path | None, dict[str, records.Result] | None]:
    """Where to write and what to compare with, looked at before anything is measured."""
    out = Path(values.json) if values.json else None
    if out and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"--json: expected a file in a folder that exists, got {out}")
    check_place("json", values.json)
    if values.compare and not Path(values.compare).is_file():
        raise ValueError(f"--compare: expected a file, got {values.compare}")
    return out, records.read(Path(values.compare)) if values.compare else None


def run_one(
    name: str,
    values: flags.FlagValues,
    settings: Settings,
    benchmark: Callable[[], records.Result],
    table: Callable[[records.Result], str] = records.table,
    *,
    training: bool = False,
) -> None:
    """Body of a benchmark's command.

    Args:
      name: of the benchmark in the file.
      values: of the flags.
      settings: as checked.
      benchmark: gives the result.
      table: the result as text.
      training: as in `machine.prepare`.
    """
    out, old = output(values)
    machine.prepare(settings.device, settings.threads, training=training)
    found = json.loads(json.dumps(benchmark()))  # as it would be read from a file
    print(table(found))
    if out:
        records.write(out, {name: found})
    if old is not None:
        shared = {name: old[name]} if name in old else {}
        print(compare.compare(shared, {name: found}))


def main(
    doc: str,
    name: str,
    benchmark: Callable[[Settings], records.Result],
    argv: Sequence[str],
    *,
    repeats: int,
    threads: int = 2,
) -> int:
    """A whole command for a benchmark without flags of its own; returns its exit status."""

    def define(values: flags.FlagValues) -> None:
        define_flags(values, repeats=repeats, threads=threads)

    def body(values: flags.FlagValues) -> None:
        settings = settings_of(values, repeats)
        run_one(name, values, settings, lambda: benchmark(settings))

    return command.run(define, body, doc, argv)


def run_with_batch(
    doc: str,
    name: str,
    benchmark: Callable[[Settings, int | None], Result],
    argv: Sequence[str],
    *,
    repeats: int,
    training: bool = False,
) -> int:
    """A whole command for a benchmark on this network, with a --batch; returns its exit status."""

    def define(values: flags.FlagValues) -> None:
        entry.define_flags(values, repeats=repeats)
        flags.DEFINE_integer(
            "batch", None, "Streams; 64, or 8 with --quick.", 2, flag_values=values
        )

    def body(values: flags.FlagValues) -> None:
        settings = entry.settings_of(values, repeats)
        entry.run_one(
            name, values, settings, lambda: benchmark(settings, values.batch), training=training
        )

    return command.run(define, body, doc, argv)
