"""Take out the network that was found: `python -m experiments.extract --workdir W --out W2`.

Takes the live edges of a trained Γ, its most probable architecture or one drawn from it, with their
weights and running statistics, into a run of their own: a static network that computes what the
masked super-network computed, with the parameters and MACs of the live edges only. `--steps` trains
it on; it is evaluated, reported and started from like any other run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.trust import define_trust_flag


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "workdir", None, "Run whose Γ is constant.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "out", None, "New folder of the small network's run.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )
    flags.DEFINE_integer(
        "sample",
        None,
        "Seed: draw the architecture from Γ instead of taking the most probable.",
        flag_values=values,
    )
    flags.DEFINE_integer("steps", 0, "Steps of training on.", lower_bound=0, flag_values=values)
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Extract; train on if asked to; print what is left."""
    import jax

    from experiments.config.model import build_model
    from experiments.runs import folder as run_folder
    from experiments.runs.trained import found_architecture, read_model
    from experiments.training.begin import begin
    from experiments.training.extraction import compare, extracted_config, write_run
    from experiments.training.loop import run_loop

    source, out = Path(values.workdir), Path(values.out)
    info = run_folder.read(source, trust=values.trust)
    model = info.config.model
    if model.static or model.cell != "constant" or model.conditioned:
        raise ValueError(
            "--workdir: expected a run with one architecture for all inputs (model.cell=constant, "
            f"not static, not conditioned), got {source}"
        )
    found = read_model(source, values.checkpoint, trust=values.trust)
    key = None if values.sample is None else jax.random.key(values.sample)
    _, live = found_architecture(found.sanas, found.params, static=False, key=key)
    net = found.sanas.net
    names = [name for name, on in zip(net.index, live, strict=True) if on]
    if not names:
        raise ValueError(
            "expected an architecture that reaches the output, got one in which nothing does; "
            "--sample with another seed draws another"
        )
    config = extracted_config(info.config, names, values.steps)
    small = build_model(config, len(info.classes), info.hooks, info.input_shape).net
    if not run_folder.is_run(out):
        write_run(out, source, info._replace(config=config), found.params)
    print(compare(net, small, found.step))
    if values.steps:
        with begin([config], [out], None, hooks=info.hooks) as job:
            run_loop(job)


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
