"""Train, or go on training: `python -m experiments.launch --config C --workdir W [--set a.b=v]`.

Resumes if W holds a run of the same config. A resumed run equals an uninterrupted one bit for bit
(on CPU): batches and draws are functions of (seed, step), and metrics after the last checkpoint are
dropped and computed again.
"""

from __future__ import annotations

import sys

from absl import flags

from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.training import define_flags, read_config, start, workdir_of


def main(values: flags.FlagValues) -> None:
    """Train, or go on training."""
    from experiments.machine.multihost import failing_at_once
    from experiments.training.begin import begin
    from experiments.training.loop import run_loop

    how = start(values)
    with (
        failing_at_once(),
        begin(
            [read_config(values)], [workdir_of(values)], values.config, how, trust=values.trust
        ) as job,
    ):
        run_loop(job)


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from the last checkpoint"
    leave(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
