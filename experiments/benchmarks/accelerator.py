"""All that waits for an accelerator, in order of worth, within so many minutes.

    python -m experiments.benchmarks.accelerator --out day
    python -m experiments.benchmarks.accelerator --out day --resume
    python -m experiments.benchmarks.accelerator --out rehearsal --toy

    machine      versions, devices, the rate of a matrix product by precision, and of memory
    tests        those of the default suite that compute, on the accelerator
    parity       the gradients of one update beside the CPU's, tensor by tensor
    update       a step of kws_paper by precision and batch, as shares of these rates
    budgets      eight budgets in one program, side by side and in turn, beside one
    dispatch     steps by how many a program makes; how long the host waits
    evaluation   nine prices over three hours of streams
    mixing, features     benchmarks.augmentation and benchmarks.features there
    training     a run of --train for what time is left, in the folder `training`

Each part is a process of its own. results.jsonl has a line as soon as something is known, table.txt
the same for readers, log.txt what the parts printed. A part that fails is written down and the next
one begins; one that would not fit is left out, one that takes half as long again as expected is
cut. --resume goes on with what is not done, within parts too; training goes on from its checkpoint.
Without --data clips are made on the spot: words of tones, to train at full speed, not for use.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import write_atomic
from data_prep.speech.cache import is_cache, open_cache
from experiments.benchmarks.day import plan, process, results
from experiments.benchmarks.day.commands import (
    LOG,
    RESULTS,
    TABLE,
    Day,
    collect,
    command_of,
    environment_of,
    missing_packages,
)
from experiments.benchmarks.day.made_clips import write_made_clips
from experiments.benchmarks.day.plan import TRAINING, Part
from experiments.benchmarks.day.scale import FULL, TOY, Scale

NAME = "accelerator"
CONFIG = str(Path(__file__).parents[1] / "configs" / "kws_paper.py")


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_string("out", None, "Folder for all results.", required=True, flag_values=values)
    flags.DEFINE_float("minutes", 10.0, "Of the whole day.", lower_bound=0, flag_values=values)
    flags.DEFINE_list("only", [], f"Some of {', '.join(plan.NAMES)}.", flag_values=values)
    flags.DEFINE_bool("resume", False, "Go on with what is not done.", flag_values=values)
    flags.DEFINE_bool(
        "toy", False, "Small sizes, also on a CPU: whether it runs.", flag_values=values
    )
    flags.DEFINE_string("data", None, "Cache of data_prep.prepare.", flag_values=values)
    flags.DEFINE_string("train", CONFIG, "Config of the training.", flag_values=values)
    flags.DEFINE_multi_string("set", [], "Override of a field of that config.", flag_values=values)
    flags.DEFINE_enum(
        "part",
        None,
        plan.HERE,
        "One part, in this process: how the others are run.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    cache = Path(values.data) if values.data else Path(values.out) / "cache"
    made = values.data is None
    day = Day(Path(values.out), values.toy, cache, made, values.train, tuple(values.set))
    if values.part:
        run_here(values.part, day)
        return
    # What is told to end needs some time for it.
    deadline = time.monotonic() + 60 * values.minutes - process.GRACE_SECONDS
    parts = plan.chosen(command.word_list(values.only))
    if values.data:
        open_cache(cache)
    if not Path(day.config).is_file():
        raise ValueError(f"--train: expected a config file, got {day.config}")
    open_results(day, resume=values.resume)
    ended = {part.name: run_part(part, day, deadline - time.monotonic()) for part in parts}
    left_out = [name for name, state in ended.items() if state == results.LEFT_OUT]
    if left_out:
        print(f"no time for {', '.join(left_out)}: --resume goes on")
    bad = [name for name, state in ended.items() if _is_bad(name, state)]
    if bad:
        raise ValueError(f"expected all to end well, got an error from {', '.join(bad)}")


def open_results(day: Day, resume: bool) -> None:
    """Make the folder, or see that its results are of the same day."""
    path = day.out / RESULTS
    lines = results.read(path)
    if lines and not resume:
        raise ValueError(f"--out: expected a new folder, or --resume, got results in {day.out}")
    asked = next((line["asked"] for line in lines if "asked" in line), None)
    if lines and asked != day.asked:
        raise ValueError(f"--resume: expected what was asked before, {asked}, got {day.asked}")
    day.out.mkdir(parents=True, exist_ok=True)
    if not lines:
        results.add(path, asked=day.asked)


def run_part(part: Part, day: Day, left: float) -> str:
    """Run a part unless it is done; how it ended."""
    path, log = day.out / RESULTS, day.out / LOG
    before = results.state_of(results.read(path), part.name)
    if before and before["state"] == results.DONE:
        print(f"{part.name}: done before", flush=True)
        return results.DONE
    # At toy size a part takes longer to start than to run, on a slow CPU longer than expected.
    seconds = left if day.toy else plan.time_for(part, left)
    if seconds is None or seconds <= 0:
        why = f"expected {part.seconds:.0f} s, of {max(0.0, left):.0f} s that are left"
        return _ended(part, day, results.LEFT_OUT, 0.0, why)
    print(f"{part.name}: up to {seconds:.0f} s", flush=True)
    begin = time.monotonic()
    try:
        missing = missing_packages(part.needs)
        if missing:
            raise ValueError(f"expected {', '.join(missing)} to be installed, got none")
        if part.clips and day.made and not is_cache(day.cache):
            write_made_clips(day.cache, (TOY if day.toy else FULL).clips)
        given = command_of(part, day)
    except (ValueError, OSError) as error:
        why = command.one_line(error)
        return _ended(part, day, results.FAILED, time.monotonic() - begin, why)
    start = log.stat().st_size if log.is_file() else 0
    rest = max(1.0, seconds - (time.monotonic() - begin))
    status = process.run(given, log, rest, environment_of(part))
    collect(part, day)
    state = results.DONE if status == 0 else results.CUT if status is None else results.FAILED
    why = "" if state != results.FAILED else process.last_line(log, start)
    return _ended(part, day, state, time.monotonic() - begin, why)


def _ended(part: Part, day: Day, state: str, seconds: float, why: str) -> str:
    """Write down how a part ended, and the table anew; its state."""
    path = day.out / RESULTS
    results.add(path, part=part.name, state=state, seconds=round(seconds, 2), why=why)
    lines = results.read(path)
    write_atomic(day.out / TABLE, results.table(lines, plan.NAMES))
    print(results.table(lines, [part.name]), flush=True)
    return state


def _is_bad(name: str, state: str) -> bool:
    """Training takes what time there is: that it is cut is no fault."""
    return state == results.FAILED or (state == results.CUT and name != TRAINING)


def run_here(name: str, day: Day) -> None:
    """A part of this package, in this process."""
    from experiments.benchmarks.day import device
    from experiments.benchmarks.harness import machine
    from experiments.machine.host import num_cores

    machine.prepare("default", num_cores(), training=True)
    device.check_accelerator(day.toy)
    tell = results.Teller(day.out / RESULTS, name)
    scale = TOY if day.toy else FULL
    if name == "machine":  # which takes fewer packages than the others
        device.machine(scale, tell)
    else:
        from experiments.benchmarks.day import steps, streams

        parts: dict[str, Callable[[Scale, results.Teller], None]] = {
            "parity": steps.parity,
            "update": steps.update,
            "budgets": steps.budgets,
            "dispatch": partial(steps.dispatch, clips=day.cache),
            "evaluation": streams.evaluation,
        }
        parts[name](scale, tell)
    if tell.failed:
        raise ValueError(f"expected all rows, got an error from {', '.join(tell.failed)}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv, "what was known was written")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
