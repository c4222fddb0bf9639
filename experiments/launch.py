"""Streaming train loop: `python -m experiments.launch --config C --workdir W [--set a.b=v]`.

Resumes if W holds a run of the same config. A resumed run equals an uninterrupted one bit for bit
(on CPU): batches and draws are functions of (seed, step), and metrics after the last checkpoint are
dropped and computed again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags

from data_prep.cli import run
from experiments import config as config_lib
from experiments import workdir as workdir_lib
from experiments.build import build
from experiments.checkpoints import Checkpoints
from experiments.config import Config
from experiments.data import fit_frontend, load
from experiments.loop import run_keys, run_loop
from experiments.workdir import RunInfo
from sanas_jax.training import TrainState, init_state


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "config", None, "Python file with get_config().", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run; resumed if it has one.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "data", None, "Cache folder from data_prep.prepare (data.cache).", flag_values=values
    )
    flags.DEFINE_string(
        "init_from",
        None,
        "Run whose parameters start this one (train.init_from).",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "set", [], "Override of a config field, e.g. train.steps=500.", flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Train, or go on training."""
    config, _ = config_lib.load_config(values.config)
    config = config_lib.override(config, values.set)
    if values.data:
        config = config_lib.override(config, [f"data.cache={values.data}"])
    if values.init_from:
        config = config_lib.override(config, [f"train.init_from={values.init_from}"])
    train(config, Path(values.workdir), values.config)


def train(config: Config, workdir: Path, config_file: str) -> TrainState:
    """Run `config` in `workdir`, or resume it there; returns the final state."""
    _, hooks = config_lib.load_config(config_file)
    resuming = workdir_lib.is_run(workdir)
    if resuming:
        info = workdir_lib.read(workdir)
        _check_same_config(workdir, info.config, config)
    data = load(config.data)
    built = build(config, len(data.classes), hooks)
    keys = run_keys(config.train.seed)
    state = init_state(built.model, built.optimizer, built.objective, keys.init)
    if resuming:
        if info.data_sha256 != data.sha256:
            raise ValueError(
                f"--data: expected the clips that the run in {workdir} started with "
                f"(sha256 {info.data_sha256[:12]}…), got others ({data.sha256[:12]}…)"
            )
    else:
        frontend, weights = fit_frontend(config.data, data, built.mix, keys.statistics)
        info = RunInfo(config, hooks, data.classes, data.sha256, frontend, weights)
        if config.train.init_from:
            state, info = _start_from(Path(config.train.init_from), state, info)
        workdir_lib.create(workdir, info, config_file)
        if config.train.init_from:
            # Kept as step 0, so that a resumed run does not need the other one any more.
            first = Checkpoints(workdir / "checkpoints", keep=2)
            first.save(0, state)
            first.close()
    return run_loop(config, built, data, info, state, workdir)


def restore_params(workdir: Path, like: Any, which: str = "latest") -> tuple[int, Any]:
    """Step and parameters of a run: its latest, or `which` step of its front.

    Args:
      workdir: the run.
      like: a `TrainState` of the same model, for structure and dtypes.
      which: "latest", or the number of a step in checkpoints/ or front/.
    """
    latest = Checkpoints(workdir / "checkpoints")
    steps = latest.steps()
    if not steps:
        raise ValueError(f"{workdir}: expected a checkpoint, found none; has training begun?")
    if which == "latest":
        return steps[-1], latest.restore(steps[-1], like).params
    front = Checkpoints(workdir / "front")
    if not which.isdigit() or int(which) not in {*steps, *front.steps()}:
        raise ValueError(
            f"checkpoint: expected 'latest' or one of {sorted({*steps, *front.steps()})}, "
            f"got {which!r}"
        )
    step = int(which)
    if step in steps:
        return step, latest.restore(step, like).params
    return step, front.restore(step, like.params)


def _check_same_config(workdir: Path, old: Config, new: Config) -> None:
    changes = config_lib.difference(old, new)
    if changes:
        raise ValueError(
            f"--workdir {workdir} holds a run of another config ({'; '.join(changes)}); "
            "expected the same config or a new folder"
        )


def _start_from(source: Path, state: TrainState, info: RunInfo) -> tuple[TrainState, RunInfo]:
    """Parameters and features of another run of the same network."""
    other = workdir_lib.read(source)
    if other.classes != info.classes:
        raise ValueError(
            f"train.init_from: expected a run with classes {list(info.classes)}, "
            f"got {list(other.classes)}"
        )
    built = build(other.config, len(other.classes), other.hooks)
    like = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    _, params = restore_params(source, like)
    ours = jax.tree.map(jax.numpy.shape, state.params)
    theirs = jax.tree.map(jax.numpy.shape, params)
    if ours != theirs:
        raise ValueError(
            f"train.init_from: expected the same network and controller, got {source} with other "
            "parameters"
        )
    if other.config.model.static:  # its controller never learnt, and may have another bias
        params = params | {"controller": state.params["controller"]}
    # The network goes on with the features that it learnt on.
    return state._replace(params=params), info._replace(
        frontend=other.frontend, class_weights=other.class_weights
    )


def cli() -> None:
    """Console entry point."""
    after = "the same command goes on from the last checkpoint"
    sys.exit(run(define_flags, main, __doc__, sys.argv, after))


if __name__ == "__main__":
    cli()
