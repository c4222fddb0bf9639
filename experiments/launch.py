"""Streaming train loop: `python -m experiments.launch --config C --workdir W [--set a.b=v]`.

Resumes if W holds a run of the same config. A resumed run equals an uninterrupted one bit for bit
(on CPU): batches and draws are functions of (seed, step), and metrics after the last checkpoint are
dropped and computed again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from data_prep.cli import run
from experiments import config as config_lib
from experiments.config import Config
from experiments.machine import execution
from experiments.machine.multihost import failing_at_once
from experiments.training.begin import begin
from experiments.training.loop import run_loop


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "config", None, "Python file with get_config().", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run; resumed if it has one. runs/<name of the config> if not given.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data",
        None,
        "Cache folder from data_prep.prepare or data_prep.prepare_images (data.cache).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "init_from",
        None,
        "Run or pretrained:NAME whose parameters start this one (train.init_from).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "precision",
        None,
        "default, float32, tf32 or bfloat16 (train.precision).",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "set", [], "Override of a config field, e.g. train.steps=500.", flag_values=values
    )
    execution.define_flags(values)


def main(values: flags.FlagValues) -> None:
    """Train, or go on training."""
    how = execution.start(values)
    with failing_at_once():
        run_loop(begin([read_config(values)], [workdir_of(values)], values.config, how))


def workdir_of(values: flags.FlagValues) -> Path:
    """Where the run or sweep is kept."""
    return Path(values.workdir or f"runs/{Path(values.config).stem}")


def read_config(values: flags.FlagValues) -> Config:
    """The config file's config with what the flags override."""
    config, _ = config_lib.load_config(values.config)
    config = config_lib.override(config, values.set)
    if values.data:
        config = config_lib.override(config, [f"data.cache={values.data}"])
    if values.init_from:
        config = config_lib.override(config, [f"train.init_from={values.init_from}"])
    if values.precision:
        config = config_lib.override(config, [f"train.precision={values.precision}"])
    return config


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from the last checkpoint"
    sys.exit(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
