"""Runs begun or taken up again: from a config and a folder to what the loop trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from data_prep.images.cache import is_image_cache
from experiments.config import Config, DataConfig, Hooks, difference, load_config
from experiments.config.build import Training, build_training, target_of
from experiments.datasets.images import DIGITS, ImageSource
from experiments.datasets.source import Source
from experiments.datasets.speech import AudioSource
from experiments.machine.execution import Execution
from experiments.machine.multihost import is_first, say, wait_for_all
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.folder import RunInfo
from experiments.training.init_from import Start, fresh_member, read_start, start_from
from sanas_jax.sharding import place
from sanas_jax.training.budgets import Member, Target

# How long a file system may hide a new file from other hosts.
SHARED_SECONDS = 90


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


class Job(NamedTuple):
    """Runs that are trained together.

    Fields:
      built: static part that all share.
      data: examples.
      runs: at a common step.
      mesh: of the devices; None for one.
      execution: how.
    """

    built: Training
    data: Source
    runs: list[Run]
    mesh: Mesh | None = None
    execution: Execution = Execution()


def run_keys(seed: int) -> Keys:
    """The run's keys, all from its seed; of the generator that draws the same on every device."""
    key = jax.random.key(seed, impl="threefry2x32")
    return Keys(*jax.random.split(key, len(Keys._fields)))


def open_source(config: DataConfig, mesh: Mesh | None = None, limit: float | None = None) -> Source:
    """The data set that a config names, of images or of audio; `mesh`, `limit` as its class."""
    if config.cache == DIGITS or is_image_cache(config.cache):
        return ImageSource(config, mesh)
    return AudioSource(config, mesh, limit)


def begin(
    configs: Sequence[Config],
    workdirs: Sequence[Path],
    config_file: str,
    execution: Execution | None = None,
) -> Job:
    """Create the folders of new runs, read those of old ones; nothing is written on bad input.

    Runs that stand at different steps (a kill between two saves) go back to the last common one.

    Args:
      configs: one per run, equal but for `train.budget`, `train.cost_weight` and `train.seed`.
      workdirs: one per run.
      config_file: Python file that the configs come from, for its hooks.
      execution: on which devices, and how.
    """
    _, hooks = load_config(config_file)
    execution = execution or Execution()
    first = configs[0]
    known = {w: run_folder.read(w) for w in workdirs if run_folder.is_run(w)}
    for config, workdir in zip(configs, workdirs, strict=True):
        if workdir in known:
            _check_same_config(workdir, known[workdir].config, config)
        else:
            run_folder.check_new(workdir)
    execution.steps_at_once(first.train.log_every)  # refused here, before anything is written
    measured = "time" in (first.train.cost, *first.train.report_costs)
    if measured and jax.process_count() > 1:
        raise ValueError(
            "train.cost, train.report_costs: 'time' is measured by each process for itself; "
            "expected a JSON file of costs for several processes"
        )
    mesh = execution.mesh(len(configs), first.train.batch_size)
    data = open_source(first.data, mesh, execution.data_limit())
    # A budget that is asked for changes the program: all or none of the runs have one.
    built = build_training(first, len(data.classes), hooks, data.input_shape)
    _check_labels(data, built)
    targets = [target_of(config, built) for config in configs]
    saved = {workdir: _has_checkpoint(workdir) for workdir in workdirs}
    members = [
        place(fresh_member(built, run_keys(config.train.seed).init), mesh) for config in configs
    ]
    start = None
    init_from = first.train.init_from
    if init_from and not all(saved.values()):
        fresh = members[0].train.params
        start = read_start(init_from, data.classes, data.input_shape, first, built.model.net, fresh)
        say(start.summary)
    for workdir, info in known.items():
        _check_same_data(workdir, info, data)
    wait_for_all("looked for runs")
    if len(known) < len(workdirs):
        described = _describe(first, hooks, data, built, start)
        for config, workdir in zip(configs, workdirs, strict=True):
            if workdir not in known and is_first():
                run_folder.create(workdir, described._replace(config=config), config_file)
        wait_for_all("created runs")
    runs = []
    for config, workdir, target, member in zip(configs, workdirs, targets, members, strict=True):
        # All processes go on from what was written, which is what a resumed run will read.
        info = known.get(workdir) or _read_written(workdir)
        if start and not saved[workdir]:
            member = start_from(start, member, workdir, mesh)
        runs.append(Run(workdir, info, target, run_keys(config.train.seed), 0, member))
    return Job(built, data, _at_common_step(runs), mesh, execution)


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
    """Whether there is a whole one; without orbax, which would wait for the other processes."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())


def _read_written(workdir: Path) -> RunInfo:
    """What the first process has written; a network file system may show it late."""
    deadline = time.monotonic() + SHARED_SECONDS
    while jax.process_count() > 1 and not run_folder.is_run(workdir):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return run_folder.read(workdir)


def _describe(
    config: Config, hooks: Hooks, data: Source, built: Training, start: Start | None
) -> RunInfo:
    """Features fitted to the data; a network that another run began goes on with that run's."""
    if start and start.same_classes:
        frontend, weights = start.info.frontend, start.info.class_weights
    else:
        key = run_keys(config.train.seed).statistics
        frontend, weights = data.fit(built.settings, key)
        frontend = start.info.frontend if start else frontend
    return RunInfo(config, hooks, data.classes, data.sha256, frontend, weights, data.input_shape)


def _check_labels(data: Source, built: Training) -> None:
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
    changes = difference(old, new)
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
