"""The programs of a job, with all that they take but what changes from step to step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config.model import macs_per_step
from experiments.training.groups import Group, Metrics, RunRecorder, summarize
from experiments.training.job import Job
from experiments.training.steps import make_draw, make_train_steps, make_validation, place_batch
from sanas_jax.sharding import place
from sanas_jax.training import Batch


class Programs(NamedTuple):
    """What the loop calls; each is compiled when it is first called.

    Fields:
      groups: runs, stacked as one program trains them.
      recorders: one for each run.
      draw: `(sent, steps) -> batches` [K, ...] of steps [K], the same for all groups.
      train_steps: `(members, batches, keys, targets, steps) -> (members, metrics)` of a group.
      validate: `(params) -> metrics` of a group, one for each batch, fields [G, P, ...].
    """

    groups: list[Group]
    recorders: list[RunRecorder]
    draw: Callable[[Any, np.ndarray], Batch]
    train_steps: Callable[..., Any]
    validate: Callable[[Any], list[Metrics]]

    def living(self, group: Group) -> list[RunRecorder]:
        """Of the group's runs that have not diverged."""
        return [r for r in self.recorders if r.group is group and r.alive]


def programs_of(job: Job) -> Programs:
    """Stack the runs, open their files, send to the devices what stays there.

    The members that the job came with are given up: their arrays are deleted.
    """
    built, data, runs, mesh, execution, teacher = job
    config, first = job.config, runs[0]
    size = execution.group_size(len(runs))
    groups = [Group(runs[i : i + size], mesh) for i in range(0, len(runs), size)]
    weights = None
    if config.train.class_weighted:
        weights = np.asarray(first.info.class_weights**config.train.class_weight_power)
    draw_batches = make_draw(config, built, data.draw, mesh)
    in_turn = execution.budgets_in_turn
    train_steps = make_train_steps(config, built, weights, mesh, in_turn)
    validate_batch = make_validation(config, built, weights, mesh, in_turn)
    batches = _validation_batches(job)
    frontend, key, teacher = place((first.info.frontend, first.keys.train, teacher), mesh)

    def draw(sent: Any, steps: np.ndarray) -> Batch:
        return draw_batches(data.training, sent, frontend, key, steps, teacher)

    def validate(params: Any) -> list[Metrics]:
        return [validate_batch(params, batch) for batch in batches]

    recorders = _recorders(job, groups, size)
    for run in runs:  # the groups have copies; a sweep's members are too large to be kept twice
        for leaf in jax.tree.leaves(run.member):
            leaf.delete()
    return Programs(groups, recorders, draw, train_steps, validate)


def _validation_batches(job: Job) -> list[Batch]:
    """On the devices; the same for all runs."""
    train, first = job.config.train, job.runs[0]
    batches = job.data.validation(
        first.info.frontend,
        job.built.settings,
        first.keys.validate,
        train.batch_size,
        train.eval_batches,
    )
    return [place_batch(batch, job.mesh) for batch in batches]


def _recorders(job: Job, groups: list[Group], size: int) -> list[RunRecorder]:
    """One for each run, in groups of `size`."""
    macs, controller = macs_per_step(job.built.model, job.config.model.static)
    summary = partial(
        summarize,
        classes=job.runs[0].info.classes,
        edge_macs=macs,
        controller_macs=controller,
        unit=1 / job.built.charged.scale,
    )
    return [
        RunRecorder(run, groups[i // size], i % size, summary) for i, run in enumerate(job.runs)
    ]
