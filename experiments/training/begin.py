"""Runs begun or taken up again: from configs and folders to what the loop trains.

All that may be refused is refused first; then folders are made; then states are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from data_prep.images.cache import is_image_cache
from data_prep.speech.cache import UNKNOWN
from experiments.config import (
    Config,
    DataConfig,
    Hooks,
    difference,
    load_config,
)
from experiments.config.build import Training, build_training, target_of
from experiments.datasets.images import DIGITS, ImageSource
from experiments.datasets.source import Source
from experiments.datasets.speech import AudioSource
from experiments.machine.execution import Execution
from experiments.machine.multihost import is_first, say, wait_for_all, wait_for_file
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.folder import RunInfo
from experiments.training.init_from import (
    InitialWeights,
    fresh_member,
    read_initial_weights,
    with_features,
    with_initial_weights,
)
from experiments.training.job import Job, TrainingRun, run_keys
from experiments.training.mining import Mined, draw_mined, mine_talk, read_mined, write_mined
from experiments.training.teacher import (
    Teachers,
    check_teacher,
    keep_teacher,
    read_teacher,
)
from sanas_jax.blocks.audio import LogMel, normalised
from sanas_jax.graph import Net
from sanas_jax.sharding import place
from sanas_jax.training.budgets import Target


class _Checked(NamedTuple):
    """What may begin.

    Fields:
      hooks: of the config file; made_of its config.
      known: descriptions of the runs that have begun.
      saved: folders with a checkpoint.
      mesh, data, built: as of `Job`.
      targets: one per run.
      initial: weights of runs that have saved nothing; None: random ones.
      mined: talk that these runs draw, as this process finds it; None: they draw none.
      teacher, digests: of these runs, if they have one, and hashes of what it is.
    """

    hooks: Hooks
    made_of: Config | None
    known: dict[Path, RunInfo]
    saved: set[Path]
    mesh: Mesh | None
    data: Source
    built: Training
    targets: list[Target]
    initial: InitialWeights | None
    mined: Mined | None
    teacher: Teachers | None
    digests: list[str]


@contextmanager
def begin(
    configs: Sequence[Config],
    workdirs: Sequence[Path],
    config_file: str | None,
    execution: Execution | None = None,
    *,
    hooks: Hooks | None = None,
    trust: bool = False,
) -> Iterator[Job]:
    """Create the folders of new runs, read those of old ones; nothing is written on bad input.

    The folders are held while the job is in use: no other process trains in them. Runs that stand
    at different steps (a kill between two saves) go back to the last common one.

    Args:
      configs: one per run, equal but for `train.budget`, `train.cost_weight` and `train.seed`.
      workdirs: one per run.
      config_file: Python file that the configs come from, for its hooks; None if there is none.
      execution: on which devices, and how.
      hooks: in place of those of a config file.
      trust: run what the config.py of `train.init_from` and of `train.teacher` brings.
    """
    execution = execution or Execution()
    made_of = None
    if config_file is not None:
        made_of, hooks = load_config(config_file)
    checked = _check(configs, workdirs, hooks or Hooks(), made_of, execution, trust)
    wait_for_all("looked for runs")
    with ExitStack() as held:
        if is_first():
            for workdir in workdirs:
                held.enter_context(run_folder.hold(workdir))
        _create(checked, configs, workdirs, config_file)
        if is_first() and checked.teacher:
            for workdir in set(workdirs) - checked.saved:
                keep_teacher(workdir, checked.digests)
        wait_for_all("created runs")
        if checked.teacher:  # in all processes: what each has read is what the first one wrote
            for workdir in workdirs:
                check_teacher(workdir, checked.digests)
        runs = _members(checked, configs, workdirs)
        wait_for_all("began runs")
        if configs[0].data.negative_mined:
            draw_mined(checked.data, read_mined(workdirs[0], checked.data), checked.mesh)
        yield Job(checked.built, checked.data, runs, checked.mesh, execution, checked.teacher)


def open_source(config: DataConfig, mesh: Mesh | None = None, limit: float | None = None) -> Source:
    """The data set that a config names, of images or of audio; `mesh`, `limit` as its class."""
    if config.cache == DIGITS or is_image_cache(config.cache):
        return ImageSource(config, mesh)
    return AudioSource(config, mesh, limit)


def _check(
    configs: Sequence[Config],
    workdirs: Sequence[Path],
    hooks: Hooks,
    made_of: Config | None,
    execution: Execution,
    trust: bool,
) -> _Checked:
    """Read all that runs need; ValueError for what cannot be, and nothing is written."""
    first = configs[0]
    known = _known_runs(configs, workdirs)
    execution.steps_at_once(first.train.log_every)
    _check_costs(first)
    mesh = execution.mesh(len(configs), first.train.batch_size)
    data = open_source(first.data, mesh, execution.data_limit())
    # A budget that is asked for changes the program: all or none of the runs have one.
    built = build_training(first, len(data.classes), hooks, data.input_shape)
    _check_labels(data, built)
    targets = [target_of(config, built) for config in configs]
    saved = {workdir for workdir in workdirs if _has_checkpoint(workdir)}
    teacher, digests = None, list[str]()
    if first.train.teacher:
        teacher, digests = read_teacher(
            first.train.teacher, data.classes, built.settings, trust=trust
        )
        for workdir in saved:
            check_teacher(workdir, digests)
    initial = None
    init_from = first.train.init_from
    if init_from and len(saved) < len(workdirs):
        fresh = jax.eval_shape(partial(fresh_member, built), run_keys(first.train.seed).init)
        net, like = built.model.net, fresh.train.params
        initial = read_initial_weights(
            init_from, data.classes, data.input_shape, first, net, like, trust=trust
        )
        say(initial.summary)
    _check_bands(built.model.net, known, initial)
    if initial is None and len(known) < len(workdirs):
        _check_bands_of_cache(built.model.net, data)
    goes_on = len(known) == len(workdirs) or (initial is not None and initial.same_classes)
    _check_clips(data, goes_on)
    for workdir, info in known.items():
        _check_same_data(workdir, info, data)
    mined = None
    if first.data.negative_mined:  # in all processes, since all of them read a run's checkpoint
        begun = [workdir for workdir in workdirs if workdir in saved]
        mined = (
            read_mined(begun[0], data) if begun else mine_talk(data, str(init_from), trust=trust)
        )
    return _Checked(
        *(hooks, made_of, known, saved, mesh, data, built, targets, initial, mined),
        *(teacher, digests),
    )


def _create(
    checked: _Checked, configs: Sequence[Config], workdirs: Sequence[Path], config_file: str | None
) -> None:
    """Describe the runs that are new in their folders, which this process holds."""
    new = [pair for pair in zip(configs, workdirs, strict=True) if pair[1] not in checked.known]
    if not new:
        return
    described = _info_of_new_runs(checked, configs[0])
    if is_first():
        for config, workdir in new:
            if run_folder.is_run(workdir):
                raise ValueError(
                    f"--workdir: expected a new folder, got {workdir}, where another process has "
                    "begun a run meanwhile; the same command goes on with it"
                )
            run_folder.create(workdir, described._replace(config=config), config_file)


def _members(
    checked: _Checked, configs: Sequence[Config], workdirs: Sequence[Path]
) -> list[TrainingRun]:
    """The runs with their states, at the last step that all of them have saved."""
    runs = []
    for config, workdir, target in zip(configs, workdirs, checked.targets, strict=True):
        # All processes go on from what was written, which is what a resumed run will read.
        info = checked.known.get(workdir) or _read_written(workdir)
        keys = run_keys(config.train.seed)
        fresh = fresh_member(checked.built, keys.init)
        member = place(with_features(fresh, checked.built.model.net, info.frontend), checked.mesh)
        if checked.initial and workdir not in checked.saved:
            member = with_initial_weights(checked.initial, member, checked.mesh)
            if checked.mined and is_first():
                write_mined(workdir, checked.mined)
            with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
                checkpoints.save(0, member)  # a resumed run needs no source
        runs.append(TrainingRun(workdir, info, target, keys, 0, member))
    return _at_common_step(runs)


def _known_runs(configs: Sequence[Config], workdirs: Sequence[Path]) -> dict[Path, RunInfo]:
    """The runs that have begun, with these configs and held by nobody; the others may begin."""
    known = {w: run_folder.read(w) for w in workdirs if run_folder.is_run(w)}
    for config, workdir in zip(configs, workdirs, strict=True):
        if workdir in known:
            _check_same_config(workdir, known[workdir].config, config)
        else:
            run_folder.check_new(workdir)
        run_folder.check_free(workdir)
    return known


def _at_common_step(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
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
    """What the first process has written."""
    wait_for_file(workdir / "config.json")
    return run_folder.read(workdir)


def _info_of_new_runs(checked: _Checked, config: Config) -> RunInfo:
    """Features fitted to the data; a network that another run began goes on with that run's."""
    data, initial = checked.data, checked.initial
    if initial and initial.same_classes:
        frontend, weights = initial.info.frontend, initial.info.class_weights
    else:
        key = run_keys(config.train.seed).statistics
        frontend, weights = data.fit(checked.built.settings, key)
        frontend = initial.info.frontend if initial else frontend
    return RunInfo(
        config,
        checked.hooks,
        data.classes,
        data.sha256,
        frontend,
        weights,
        data.input_shape,
        checked.made_of,
    )


def _check_costs(config: Config) -> None:
    """A cost that each process measures for itself is not the same for all."""
    measured = "time" in (config.train.cost, *config.train.report_costs)
    if measured and jax.process_count() > 1:
        raise ValueError(
            "train.cost, train.report_costs: 'time' is measured by each process for itself; "
            "expected a JSON file of costs for several processes"
        )


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


def _check_bands(net: Net, known: dict[Path, RunInfo], initial: InitialWeights | None) -> None:
    """A network that makes mel bands itself makes those of the front end that its run has."""
    fronts = {f"--workdir {workdir}": info.frontend for workdir, info in known.items()}
    if initial:
        fronts["train.init_from"] = initial.info.frontend
    for origin, frontend in fronts.items():
        try:
            normalised(net, {}, frontend)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error


def _check_bands_of_cache(net: Net, data: Source) -> None:
    """A run that has no front end yet is given the cache's."""
    if not isinstance(data, AudioSource):
        return
    cache_hz = data.cache.frontend["fmax"]
    for edge in net.edges:
        if isinstance(edge.block, LogMel) and edge.block.max_hz != cache_hz:
            raise ValueError(
                f"config field 'model.max_hz': expected {cache_hz}, where the mel bands of the "
                f"cache end, got {edge.block.max_hz:g}"
            )


def _check_clips(data: Source, goes_on: bool) -> None:
    """A word that nobody says in training cannot be learnt; one that was learnt may be kept.

    Other words may be left out, and data sets of images are published with empty classes.
    """
    if not data.untaught:
        return
    names = ", ".join(data.untaught)
    if set(data.untaught) - {UNKNOWN} and data.input_shape is None and not goes_on:
        raise ValueError(
            f"--data: expected training clips of every word, got none of {names}: record more of "
            "it, or prepare the cache with other --words, or split by other speakers or takes"
        )
    say(f"no training examples of {names}: what the network says of it is not learnt here")


def _check_same_config(workdir: Path, old: Config, new: Config) -> None:
    if old.train.teacher and new.train.teacher:  # wherever they lie: they are known by their hashes
        train = dataclasses.replace(new.train, teacher=old.train.teacher)
        new = dataclasses.replace(new, train=train)
    changes = difference(old, new)
    if changes:
        raise ValueError(
            f"--workdir {workdir} holds a run of another config ({'; '.join(changes)}); "
            "expected the same config or a new folder"
        )


def _check_same_data(workdir: Path, info: RunInfo, data: Source) -> None:
    """A run goes on with the clips that it began with, dealt as they were."""
    old, new = info.data_sha256.partition("-"), data.sha256.partition("-")
    if old[0] != new[0]:
        raise ValueError(
            f"--data: expected the clips that the run in {workdir} started with "
            f"(sha256 {old[0][:12]}…), got others ({new[0][:12]}…)"
        )
    if info.classes != data.classes:
        raise ValueError(
            f"--data: expected the words that the run in {workdir} started with "
            f"({', '.join(info.classes)}), got {', '.join(data.classes)}"
        )
    # Runs of old do not know how their files were dealt.
    if old[2] and old[2] != new[2]:
        raise ValueError(
            f"--data: expected the splits (and --heard and --talk_words) that the run in {workdir} "
            "started with, got the same files with others: it would learn what it is validated or "
            "tested on"
        )
