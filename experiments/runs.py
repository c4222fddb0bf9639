"""Runs begun or taken up again: from a config and a folder to what the loop trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data_prep.image_cache import is_image_cache
from experiments import config as config_lib
from experiments import workdir as workdir_lib
from experiments.build import Built, build, rebuild, target_of
from experiments.checkpoints import Checkpoints
from experiments.config import Config, DataConfig
from experiments.data import AudioSource, Source
from experiments.image_source import DIGITS, ImageSource
from experiments.workdir import RunInfo
from sanas_jax.budgets import Member, Target, init_member
from sanas_jax.training import init_state


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
    members = [_fresh(built, run_keys(config.train.seed).init) for config in configs]
    source = None
    init_from = configs[0].train.init_from
    if init_from and not all(map(_has_checkpoint, workdirs)):
        source = _read_source(Path(init_from), data, members[0])
    described: RunInfo | None = None
    runs = []
    for config, workdir, target, member in zip(configs, workdirs, targets, members, strict=True):
        if workdir in known:
            info = known[workdir]
            _check_same_data(workdir, info, data)
        else:
            described = described or _describe(configs[0], hooks, data, built, source)
            info = described._replace(config=config)
            workdir_lib.create(workdir, info, config_file)
        if source and not _has_checkpoint(workdir):
            member = _start_from(source, member, workdir)
        runs.append(Run(workdir, info, target, run_keys(config.train.seed), 0, member))
    return built, data, _at_common_step(runs)


def restore_params(workdir: Path, built: Built, which: str = "latest") -> tuple[int, Any]:
    """Step and parameters of a run: its latest, or `which` step of its front.

    Args:
      workdir: the run.
      built: its model and optimiser, for structure and dtypes.
      which: "latest", or the number of a step in checkpoints/ or front/.
    """
    like = _fresh(built, jax.random.key(0))
    latest = Checkpoints(workdir / "checkpoints")
    steps = latest.steps()
    if not steps:
        raise ValueError(f"{workdir}: expected a checkpoint, found none; has training begun?")
    if which == "latest":
        return steps[-1], latest.restore(steps[-1], like).train.params
    front = Checkpoints(workdir / "front")
    if not which.isdigit() or int(which) not in {*steps, *front.steps()}:
        raise ValueError(
            f"checkpoint: expected 'latest' or one of {sorted({*steps, *front.steps()})}, "
            f"got {which!r}"
        )
    step = int(which)
    if step in steps:
        return step, latest.restore(step, like).train.params
    return step, front.restore(step, like.train.params)


def _fresh(built: Built, key: jax.Array) -> Member:
    return init_member(init_state(built.model, built.optimizer, built.objective, key))


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
    config: Config, hooks: config_lib.Hooks, data: Source, built: Built, source: _Source | None
) -> RunInfo:
    """Features fitted to the data; a network that another run began goes on with that run's."""
    if source:
        frontend, weights = source.info.frontend, source.info.class_weights
    else:
        key = run_keys(config.train.seed).statistics
        frontend, weights = data.fit(built.settings, key)
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


class _Source(NamedTuple):
    """A run that others start from: its description, and the parameters that they take over."""

    info: RunInfo
    params: Any


def _read_source(workdir: Path, data: Source, like: Member) -> _Source:
    """Another run of the same network; ValueError if it is not."""
    info = workdir_lib.read(workdir)
    if info.classes != data.classes:
        raise ValueError(
            f"train.init_from: expected a run with classes {list(data.classes)}, "
            f"got {list(info.classes)}"
        )
    _, params = restore_params(workdir, rebuild(info))
    # The controller of a static run never learnt, and may have another form or bias.
    parts = ["net"] if info.config.model.static else ["net", "controller"]
    parts += ["stats"] if "stats" in params else []
    for part in parts:
        ours, theirs = (jax.tree.map(jnp.shape, p.get(part)) for p in (like.train.params, params))
        if ours != theirs:
            raise ValueError(
                f"train.init_from: expected the same network and controller, got {workdir} with "
                f"another {part}"
            )
    return _Source(info, {part: params[part] for part in parts})


def _start_from(source: _Source, member: Member, workdir: Path) -> Member:
    """The member with the source's parameters, kept as step 0: a resumed run needs no source."""
    train = member.train._replace(params=member.train.params | source.params)
    member = member._replace(train=train)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    checkpoints.save(0, member)
    checkpoints.close()
    return member
