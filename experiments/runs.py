"""Runs begun or taken up again: from a config and a folder to what the loop trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from data_prep.image_cache import is_image_cache
from experiments import config as config_lib
from experiments import workdir as workdir_lib
from experiments.build import Built, build, target_of
from experiments.checkpoints import Checkpoints
from experiments.config import Config, DataConfig
from experiments.data import AudioSource, Source
from experiments.image_source import DIGITS, ImageSource
from experiments.start import Start, fresh_member, read_start, start_from
from experiments.workdir import RunInfo
from sanas_jax.budgets import Member, Target


class Keys(NamedTuple):
    """Independent streams of random numbers of one run."""

    init: jax.Array
    statistics: jax.Array
    train: jax.Array
    validate: jax.Array


class Run(NamedTuple):
    """One budget: its folder and description, what it asks for, its keys, and where it stands."""

    workdir: Path
    info: RunInfo
    target: Target
    keys: Keys
    step: int
    member: Member


def run_keys(seed: int) -> Keys:
    """The run's keys, all from its seed."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def budgets_at_once(runs: int, asked: int | None = None) -> int:
    """How many runs share a program: what was asked, else all, but on a CPU one per device.

    One run keeps a CPU's cores busy, and a vmap over convolutions with weights of their own makes
    them no faster there.
    """
    default = jax.local_device_count() if jax.default_backend() == "cpu" else runs
    return min(asked or default, runs)


def open_source(config: DataConfig) -> Source:
    """The data set that a config names: of images or of audio."""
    if config.cache == DIGITS or is_image_cache(config.cache):
        return ImageSource(config)
    return AudioSource(config)


def begin(
    configs: Sequence[Config], workdirs: Sequence[Path], config_file: str
) -> tuple[Built, Source, list[Run]]:
    """Create the folders of new runs, read those of old ones; nothing is written on bad input.

    Runs that stand at different steps (a kill between two saves) go back to the last common one.

    Args:
      configs: one per run, equal but for `train.budget`, `train.cost_weight` and `train.seed`.
      workdirs: one per run.
      config_file: Python file that the configs come from, for its hooks.
    """
    _, hooks = config_lib.load_config(config_file)
    known = {w: workdir_lib.read(w) for w in workdirs if workdir_lib.is_run(w)}
    for config, workdir in zip(configs, workdirs, strict=True):
        if workdir in known:
            _check_same_config(workdir, known[workdir].config, config)
    data = open_source(configs[0].data)
    # A budget that is asked for changes the program: all or none of the runs have one.
    built = build(configs[0], len(data.classes), hooks, data.input_shape)
    _check_labels(data, built)
    targets = [target_of(config, built) for config in configs]
    members = [fresh_member(built, run_keys(config.train.seed).init) for config in configs]
    start = None
    init_from = configs[0].train.init_from
    if init_from and not all(map(_has_checkpoint, workdirs)):
        fresh = members[0].train.params
        start = read_start(
            init_from, data.classes, data.input_shape, configs[0], built.model.net, fresh
        )
        print(start.summary)
    described: RunInfo | None = None
    runs = []
    for config, workdir, target, member in zip(configs, workdirs, targets, members, strict=True):
        if workdir in known:
            info = known[workdir]
            _check_same_data(workdir, info, data)
        else:
            described = described or _describe(configs[0], hooks, data, built, start)
            info = described._replace(config=config)
            workdir_lib.create(workdir, info, config_file)
        if start and not _has_checkpoint(workdir):
            member = start_from(start, member, workdir)
        runs.append(Run(workdir, info, target, run_keys(config.train.seed), 0, member))
    return built, data, _at_common_step(runs)


def _at_common_step(runs: Sequence[Run]) -> list[Run]:
    """Each run as of the latest step that all have saved; as begun if one has saved nothing."""
    saved = [Checkpoints(run.workdir / "checkpoints", keep=2) for run in runs]
    steps = [checkpoints.steps() for checkpoints in saved]
    out = list(runs)
    if all(steps):
        common = set.intersection(*map(set, steps))
        if not common:
            names = {run.workdir.name: s for run, s in zip(runs, steps, strict=True)}
            raise ValueError(f"expected checkpoints of a common step, got {names}")
        step = max(common)
        out = [
            run._replace(step=step, member=checkpoints.restore(step, run.member))
            for run, checkpoints in zip(runs, saved, strict=True)
        ]
    for checkpoints in saved:
        checkpoints.close()
    return out


def _has_checkpoint(workdir: Path) -> bool:
    return (workdir / "checkpoints").is_dir() and bool(Checkpoints(workdir / "checkpoints").steps())


def _describe(
    config: Config, hooks: config_lib.Hooks, data: Source, built: Built, start: Start | None
) -> RunInfo:
    """Features fitted to the data; a network that another run began goes on with that run's."""
    if start and start.same_classes:
        frontend, weights = start.info.frontend, start.info.class_weights
    else:
        key = run_keys(config.train.seed).statistics
        frontend, weights = data.fit(built.settings, key)
        frontend = start.info.frontend if start else frontend
    return RunInfo(config, hooks, data.classes, data.sha256, frontend, weights, data.input_shape)


def _check_labels(data: Source, built: Built) -> None:
    """A network that classifies images cannot learn from labels of pixels, nor the reverse."""
    net = built.model.net
    shape = net.shapes[net.output][:-1]
    labels = data.training.labels.shape[1:] if data.input_shape else ()
    if shape != labels:
        raise ValueError(
            f"config field 'model.per_pixel': expected labels {list(shape)} for each example as "
            f"the network gives them, got a data set with {list(labels)}"
        )


def _check_same_config(workdir: Path, old: Config, new: Config) -> None:
    changes = config_lib.difference(old, new)
    if changes:
        raise ValueError(
            f"--workdir {workdir} holds a run of another config ({'; '.join(changes)}); "
            "expected the same config or a new folder"
        )


def _check_same_data(workdir: Path, info: RunInfo, data: Source) -> None:
    if info.data_sha256 != data.sha256:
        raise ValueError(
            f"--data: expected the clips that the run in {workdir} started with "
            f"(sha256 {info.data_sha256[:12]}…), got others ({data.sha256[:12]}…)"
        )
