"""Flags of commands that train: the run, the devices, the processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments.config import Config, load_config, override
from experiments.flags.trust import define_trust_flag
from experiments.machine.jax_setup import keep_memory, keep_programs

if TYPE_CHECKING:
    from experiments.machine.execution import Execution


def workdir_of(values: flags.FlagValues) -> Path:
    """Where the run or sweep is kept."""
    return Path(values.workdir or f"runs/{Path(values.config).stem}")


def read_config(values: flags.FlagValues) -> Config:
    """The config file's config with what the flags override."""
    config, _ = load_config(values.config)
    config = override(config, values.set)
    if values.data:
        config = override(config, [f"data.cache={values.data}"])
    if values.init_from:
        config = override(config, [f"train.init_from={values.init_from}"])
    if values.precision:
        config = override(config, [f"train.precision={values.precision}"])
    return config


def define_flags(values: flags.FlagValues) -> None:
    """Flags of commands that train."""
    _define_run_flags(values)
    _define_process_flags(values)
    flags.DEFINE_integer(
        "budgets_per_step",
        None,
        "Budgets in one program. All unless given; on a CPU one per device.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "budgets_in_turn",
        False,
        "The budgets of one program one after the other, not side by side: convolutions stay plain "
        "ones, where side by side they are grouped, which some accelerators are slow at.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps_per_dispatch",
        None,
        "Steps in one program, a divisor of train.log_every. 10 unless given; on a CPU 1.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "data_megabytes",
        None,
        "Room for examples on a device: beyond it clips are sent from the host as they are "
        "needed. Half of the device's memory unless given.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "profile",
        0,
        "Steps to record for TensorBoard's profiler, in the run's folder.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder for compiled programs, which later runs use again; 'none' for none. In the "
        "user's cache unless given.",
        flag_values=values,
    )


def start(values: flags.FlagValues) -> Execution:
    """What the flags ask for; joins other processes, so call it before anything is computed."""
    from experiments.machine import multihost
    from experiments.machine.execution import Execution

    keep_memory()
    multihost.join(values.distributed, values.coordinator, values.num_processes, values.process_id)
    keep_programs(values.compilation_cache)
    return Execution(
        values.budgets_per_step,
        values.steps_per_dispatch,
        values.data_megabytes,
        values.profile,
        values.budgets_in_turn,
    )


def _define_run_flags(values: flags.FlagValues) -> None:
    """What is trained, on what, and where it is kept."""
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
    define_trust_flag(values)


def _define_process_flags(values: flags.FlagValues) -> None:
    """Of one process among many."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of several processes, as the cluster says (Cloud TPU, Slurm, Open MPI, Kubernetes).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "host:port of process 0, where no cluster says; with --num_processes and --process_id.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes", None, "Processes of this job.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "process_id", None, "Number of this one, from 0.", lower_bound=0, flag_values=values
    )
