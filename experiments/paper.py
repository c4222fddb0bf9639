"""Make the paper's table and figures again: `python -m experiments.paper --data speech_commands`.

Trains cnn-trad-fpool3, the same with shortcuts, SANAS at six prices and one SANAS that is told its
price, for each seed; evaluates all on three streams mixed from the testing clips, with the
protocol's detector and with one chosen on validation streams, and on the clips themselves. Writes
table1.md, table1.json, figure5.png, figure6.png and report.html to runs/paper/SCALE.

It says beforehand how long that takes on this device. The same command goes on where it was
stopped; --table shows what there is so far.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_prep.command.atomic import json_text, new_files, write_json
from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from data_prep.command.reading import naming, read_json
from data_prep.speech.cache import is_cache
from experiments.replication.scales import SCALES

if TYPE_CHECKING:
    from experiments.replication.plan import Setup, Step

# The toy's own corpus: enough voices for every split.
_VOICES = ("--voices", "12", "--takes", "1", "--noise_seconds", "5")
_WORDS = "yes,no,up,down,left,right,on,off,stop,go,bed,cat"


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "data",
        None,
        "Folder of Speech Commands, or a cache from data_prep.prepare; toy makes its own.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "scale",
        "small",
        list(SCALES),
        "full: the paper's network and hours, for accelerators; short: the same network for as "
        "many steps as small; small: 16 maps in place of 64, for two CPU cores; toy: whether it "
        "runs.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seeds",
        None,
        "How many seeds are trained. 3 at full, 1 else.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "Folder of all that is made. runs/paper/SCALE if not given.",
        flag_values=values,
    )
    flags.DEFINE_string("pattern", None, "File names, as in prepare.", flag_values=values)
    flags.DEFINE_bool("table", False, "Only show what there is so far.", flag_values=values)
    flags.DEFINE_bool(
        "estimate", False, "Only measure and say how long all takes.", flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Run what is not done yet, and write the table and the figures of all that is there."""
    if values.table and values.estimate:
        raise ValueError("--table, --estimate: expected one of them, got both")
    environment = dict(os.environ)
    measures = values.estimate and values.data is not None and is_cache(values.data)
    if not measures:
        # What is left to this process is to count and to draw: an accelerator is the commands'.
        # It must be said before jax is imported.
        os.environ["JAX_PLATFORMS"] = "cpu"
    from experiments.replication.plan import plan

    setup = setup_of(values)
    if measures:
        _measure(setup)
        return
    if values.table:
        print(_publish(setup))
        return
    write_json(setup.out / "setup.json", {"cache": str(setup.cache)})  # --table reads it
    steps = plan(setup)
    number = next(i for i, step in enumerate(steps) if step.name == "estimate") + 1
    _run(setup, steps, steps[:number], environment)
    print("\n".join(_estimate(setup, steps, number)), flush=True)
    if not values.estimate:
        _run(setup, steps, steps, environment)
        print(_publish(setup))


def setup_of(values: flags.FlagValues) -> Setup:
    """What the flags ask for; ValueError for what cannot be."""
    from experiments.replication.plan import Setup

    out = Path(values.out or f"runs/paper/{values.scale}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: expected a folder, got a file: {out}")
    seeds = values.seeds or SCALES[values.scale].seeds
    if values.table:
        there = [int(p.name[5:]) + 1 for p in out.glob("seed_*") if p.name[5:].isdigit()]
        seeds = max(seeds, *there, 0)
        return Setup(values.scale, seeds, out, _cache_of(out))
    cache = out / "cache"
    if values.data is None:
        if values.scale != "toy":
            raise ValueError(
                "--data: expected a folder of Speech Commands, or a cache from data_prep.prepare, "
                "got none"
            )
        corpus = str(out / "corpus")
        speaking = ("data_prep.synthesize", "--out", corpus, "--words", _WORDS, *_VOICES)
        preparing = ("data_prep.prepare", "--data", corpus, "--out", str(cache))
        return Setup(values.scale, seeds, out, cache, (speaking, preparing))
    data = Path(values.data)
    if not data.is_dir():
        raise ValueError(f"--data: expected a folder, got {data}")
    if is_cache(data):
        if values.pattern:
            raise ValueError("--pattern: expected it with a folder of audio, got a cache")
        return Setup(values.scale, seeds, out, data.resolve())
    words = ("data_prep.prepare", "--data", str(data.resolve()), "--out", str(cache))
    words += ("--pattern", values.pattern) if values.pattern else ()
    return Setup(values.scale, seeds, out, cache, (words,))


def _cache_of(out: Path) -> Path:
    """The clips that a run of this command is on; ValueError where there is none."""
    if not (out / "setup.json").is_file():
        raise ValueError(f"--out: expected the folder of a run of this command, got {out}")
    found = read_json(out / "setup.json", "what a run of this command is on")
    with naming(out / "setup.json", "what a run of this command is on"):
        return Path(found["cache"])


def _run(setup: Setup, steps: list[Step], part: list[Step], environment: dict[str, str]) -> None:
    """Run a part of the plan; what there is is published after each that evaluates."""
    from experiments.replication.estimate import read_estimate, seconds_of, spoken, total
    from experiments.replication.running import run_steps, unfinished

    def say(step: Step) -> str:
        measured = setup.out / "estimate.json"
        if part is not steps or not measured.is_file():
            return ""
        rates = read_estimate(measured)[1]
        left = total(unfinished(steps, setup.out), setup, rates)
        return f": about {spoken(seconds_of(step, setup, rates))}, {spoken(left)} in all"

    def finished(step: Step) -> None:
        if step.hears:
            _publish(setup)

    run_steps(part, setup.out, environment, say, finished)


def _estimate(setup: Setup, steps: list[Step], number: int) -> list[str]:
    """How long the steps take that are not done."""
    from experiments.replication.estimate import estimate_lines, read_estimate
    from experiments.replication.running import unfinished

    # Of those that come after the measurement; which they are is known of the whole plan alone.
    left = [step for step in unfinished(steps, setup.out) if step in steps[number:]]
    device, rates = read_estimate(setup.out / "estimate.json")
    return estimate_lines(left, setup, device, rates) if left else ["all is done"]


def _measure(setup: Setup) -> None:
    """Time the trainings of the first seed, and keep it."""
    from experiments.machine.jax_setup import keep_memory, keep_programs

    keep_memory()
    keep_programs()
    from experiments.replication.estimate import estimate_lines, write_estimate
    from experiments.replication.measuring import device_name, measure_all
    from experiments.replication.plan import plan

    steps = [step for step in plan(setup) if step.training or step.hears or step.name == "report"]
    first = [step.training for step in steps if step.training and step.training.seed == 0]
    rates = measure_all(first, setup.cache)
    write_estimate(setup.out / "estimate.json", device_name(), rates)
    print("\n".join(estimate_lines(steps, setup, device_name(), rates)))


def _publish(setup: Setup) -> str:
    """Write the table and the figures of what there is; the table."""
    from experiments.replication.figures import figure_5, figure_6
    from experiments.replication.results import read_rows
    from experiments.replication.table import table_to_json, table_to_markdown

    rows = read_rows(setup)
    table = table_to_markdown(setup, rows)
    contents = {
        "table1.md": table.encode(),
        "table1.json": json_text(table_to_json(setup, rows)).encode(),
        "figure5.png": figure_5(rows),
        "figure6.png": figure_6(setup),
    }
    known = {setup.out / name: data for name, data in contents.items() if data is not None}
    with new_files(*known) as new:
        for path, data in zip(new, known.values(), strict=True):
            path.write_bytes(data)
    return table


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from where it stood"
    leave(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
