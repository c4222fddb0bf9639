"""Train many budgets at once: `python -m experiments.sweep --config C --workdir W --budgets 1M,5M`.

Each budget is a run of its own, in a folder of its own under W, with its own optimiser, baseline,
λ and checkpoints, as `launch` would leave it; all are trained together, on the same batches. One
that diverges is frozen at its last finite step and the others go on. The same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from absl import flags

from data_prep.command.cli import run, word_list
from data_prep.command.interrupts import leave
from experiments.config.wording import parse_budget
from experiments.flags import training
from experiments.flags.training import read_config, start, workdir_of

Number = TypeVar("Number", int, float)


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    training.define_flags(values)
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
    from experiments.machine.multihost import failing_at_once, is_first, say
    from experiments.runs import folder as run_folder
    from experiments.training.begin import begin
    from experiments.training.loop import run_loop
    from experiments.training.members import check_same_members, expand, reached_table

    how = start(values)
    with failing_at_once():
        members = expand(
            read_config(values),
            [parse_budget(word) for word in word_list(values.budgets)],
            [_number(float, "--cost_weights", word) for word in word_list(values.cost_weights)],
            [_number(int, "--seeds", word) for word in word_list(values.seeds)],
        )
        workdir = workdir_of(values)
        folders = [workdir / name for name in members]
        check_same_members(workdir, list(members))
        with begin(list(members.values()), folders, values.config, how, trust=values.trust) as job:
            if is_first():
                run_folder.write_sweep(workdir, list(members))
            run_loop(job)
        say(reached_table(folders, job.built))


def _number(kind: Callable[[str], Number], flag: str, word: str) -> Number:
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{flag}: expected numbers, got {word!r}") from None


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from the last checkpoints"
    leave(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
