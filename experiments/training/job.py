"""Runs that are trained together: what each of them is, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from experiments.config import Config
from experiments.config.build import Training
from experiments.datasets.source import Source, Teacher
from experiments.machine.execution import Execution
from experiments.runs.folder import RunInfo
from sanas_jax.training.budgets import Member, Target


class Keys(NamedTuple):
    """Independent streams of random numbers of one run."""

    init: jax.Array
    statistics: jax.Array
    train: jax.Array
    validate: jax.Array


class TrainingRun(NamedTuple):
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
      teacher: who says what is heard in training batches, if anybody does.
    """

    built: Training
    data: Source
    runs: list[TrainingRun]
    mesh: Mesh | None = None
    execution: Execution = Execution()
    teacher: Teacher | None = None

    @property
    def config(self) -> Config:
        """The first run's; the others differ from it in budget, price and seed."""
        return self.runs[0].info.config


def run_keys(seed: int) -> Keys:
    """The run's keys, all from its seed; of the generator that draws the same on every device."""
    key = jax.random.key(seed, impl="threefry2x32")
    return Keys(*jax.random.split(key, len(Keys._fields)))
