"""Many budgets at once: `python -m experiments.sweep --config C --workdir W --budgets 1M,5M`.

Each budget is a run of its own, in a folder of its own under W, with its own optimiser, baseline,
λ and checkpoints, as `launch` would leave it; all are trained together, on the same batches. One
that diverges is frozen at its last finite step and the others go on. The same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from absl import flags

from data_prep.cli import run, word_list
from experiments import config as config_lib
from experiments import launch
from experiments.config import Config
from experiments.config.build import Built, in_units
from experiments.config.wording import format_macs, parse_budget, verdict
from experiments.machine import execution
from experiments.machine.multihost import failing_at_once, is_first, say
from experiments.runs import folder as run_folder
from experiments.training.begin import begin
from experiments.training.loop import run_loop

Number = TypeVar("Number", int, float)


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    launch.define_flags(values)
    flags.DEFINE_list(
        "budgets",
        [],
        "MACs per frame to be reached, or units of train.cost, e.g. 800k,5M; or shares of "
        "the whole network's cost, e.g. 25%,50%.",
        flag_values=values,
    )
    flags.DEFINE_list("cost_weights", [], "Prices λ, in place of budgets.", flag_values=values)
    flags.DEFINE_list(
        "seeds",
        [],
        "Seeds of initial weights and gates; the batches are shared.",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Train all, or go on training; print what was asked and what was reached."""
    how = execution.start(values)
    with failing_at_once():
        members = expand(
            launch.read_config(values),
            [parse_budget(word) for word in word_list(values.budgets)],
            [_number(float, "--cost_weights", word) for word in word_list(values.cost_weights)],
            [_number(int, "--seeds", word) for word in word_list(values.seeds)],
        )
        workdir = launch.workdir_of(values)
        folders = [workdir / name for name in members]
        _check_same_members(workdir, list(members))
        job = begin(list(members.values()), folders, values.config, how)
        if is_first():
            run_folder.write_sweep(workdir, list(members))
        run_loop(job)
        say(reached_table(folders, job.built))


def expand(
    config: Config, budgets: Sequence[float], cost_weights: Sequence[float], seeds: Sequence[int]
) -> dict[str, Config]:
    """Members of a sweep by name: every budget (or price) with every seed."""
    if budgets and cost_weights:
        raise ValueError("expected either --budgets or --cost_weights, got both")
    if not (budgets or cost_weights or seeds):
        raise ValueError("expected --budgets, --cost_weights or --seeds, got none")
    amounts = {f"budget_{format_macs(macs)}": f"train.budget={macs!r}" for macs in budgets}
    amounts |= {f"lambda_{weight:g}": f"train.cost_weight={weight!r}" for weight in cost_weights}
    seeded = {f"seed_{seed}": f"train.seed={seed}" for seed in seeds}
    if len(amounts) < len(budgets) + len(cost_weights) or len(seeded) < len(seeds):
        raise ValueError("expected each budget, price and seed once, got one twice")
    axes = [list(axis.items()) for axis in (amounts, seeded) if axis]
    out = {}
    for choice in product(*axes):
        names, settings = zip(*choice, strict=True)
        out["-".join(names)] = config_lib.override(config, settings)
    return out


def reached_table(folders: Sequence[Path], built: Built) -> str:
    """A line per run: what was asked, λ, and the last validation, in the cost's unit."""
    rows = [("run", "asked", f"reached ({built.charged.unit})", "", "λ", "frame accuracy")]
    for folder in folders:
        lines = list(run_folder.read_metrics(folder))
        budget = run_folder.read(folder).config.train.budget
        budget = budget and in_units(budget, built.charged)
        asked = format_macs(budget) if budget else "–"
        if lines and lines[-1]["split"] == "diverged":
            rows.append((folder.name, asked, "diverged", lines[-1]["reason"], "", ""))
            continue
        validation = [line for line in lines if line["split"] == "validation"][-1]
        training = [line for line in lines if line["split"] == "training"][-1]
        reached = validation["charged"]
        rows.append(
            (
                folder.name,
                asked,
                format_macs(float(f"{reached:.4g}")),
                verdict(reached, budget, training["cost_weight"]) if budget else "",
                f"{training['cost_weight']:.3g}",
                f"{validation['frame_accuracy']:.1%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _number(kind: Callable[[str], Number], flag: str, word: str) -> Number:
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{flag}: expected numbers, got {word!r}") from None


def _check_same_members(workdir: Path, members: list[str]) -> None:
    """A folder that holds another sweep, or a single run, is left alone."""
    if run_folder.is_run(workdir):
        raise ValueError(f"--workdir: expected a new folder or a sweep, got a run: {workdir}")
    known = run_folder.read_sweep(workdir)
    if known is not None and known != members:
        raise ValueError(
            f"--workdir {workdir} holds a sweep of {', '.join(known)}; expected the same members "
            f"or a new folder, got {', '.join(members)}"
        )


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from the last checkpoints"
    sys.exit(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
