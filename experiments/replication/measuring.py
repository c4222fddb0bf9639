"""How long a step of each kind of training takes on this device: a few are made and timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax

from data_prep.command.progress import counted
from experiments.config import Config, TrainConfig, load_config, override
from experiments.config.model import prices_of
from experiments.replication.estimate import Rate
from experiments.replication.plan import NETWORKS, Training, cells
from experiments.training.begin import begin
from experiments.training.loop import make_steps, upcoming_batches
from experiments.training.members import expand
from experiments.training.programs import Programs, programs_of

TIMED = 3  # programs, after the one that is compiled

# Decisions on an item of a training batch: of 3 s, every 200 ms, each on a second.
_DECISIONS_PER_ITEM = 11
_DECISIONS_PER_HOUR = 18_000


def device_name() -> str:
    """What jax computes on here."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def measure_all(trainings: Sequence[Training], cache: Path) -> dict[str, Rate]:
    """Network → times of its training; those that differ in length alone are measured once."""
    rates: dict[str, Rate] = {}
    of_kind: dict[tuple[tuple[str, ...], str], Rate] = {}
    for training in counted(trainings, "training", "timing"):
        network = NETWORKS[training.network]
        kind = (network.settings, network.at_prices)
        if kind not in of_kind:
            of_kind[kind] = measure(training, cache)
        train = _configs(training, cache)[0].train
        rates[training.network] = replace(of_kind[kind], **_lengths(train))
    return rates


def _lengths(train: TrainConfig) -> dict[str, int]:
    """How many steps and validations a training has."""
    return {"steps": train.steps, "validations": -(-train.steps // train.eval_every)}


def measure(training: Training, cache: Path) -> Rate:
    """Times of a training, from random weights; nothing of it is kept."""
    configs = _configs(training, cache)
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="sanas-jax-") as folder,
        begin(configs, [Path(folder, str(i)) for i in range(len(configs))], None) as job,
    ):
        programs = programs_of(job)
        times = _step_times(job, programs, started)
        for recorder in programs.recorders:
            recorder.close()
    train = configs[0].train
    decisions = _DECISIONS_PER_ITEM * train.batch_size * train.eval_batches
    asked = len(configs) * len(prices_of(configs[0]))
    return Rate(
        start=times["start"],
        step=times["step"],
        validation=times["validation"],
        hour=times["validation"] / asked * _DECISIONS_PER_HOUR / decisions,
        **_lengths(train),
    )


def _step_times(job: Any, programs: Programs, started: float) -> dict[str, float]:
    """Seconds to the first step's end, of a step, and of a validation."""
    upcoming, ends, counts = upcoming_batches(job), [], []
    try:
        for steps, sent in islice(upcoming, 1 + TIMED):
            make_steps(programs, steps, sent)
            _wait(programs)
            ends.append(time.perf_counter())
            counts.append(len(steps))
    finally:
        upcoming.close()
    validated = []
    for _ in range(2):  # the first is compiled
        for group in programs.groups:
            jax.block_until_ready(programs.validate(group.members.train.deployed))
        validated.append(time.perf_counter())
    return {
        "start": ends[0] - started,
        "step": (ends[-1] - ends[0]) / sum(counts[1:]),
        "validation": validated[1] - validated[0],
    }


def _wait(programs: Programs) -> None:
    for group in programs.groups:
        jax.block_until_ready((group.members, group.metrics[-1]))


def _configs(training: Training, cache: Path) -> Sequence[Config]:
    """Of the run, or of the runs that are trained together."""
    config, _ = load_config(str(training.config))
    config = override(config, [*training.settings, f"data.cache={cache}"])
    if NETWORKS[training.network].at_prices != "trained":
        return [config]
    prices = [cell.price for cell in cells() if cell.network == training.network]
    return list(expand(config, [], [p for p in prices if p is not None], []).values())
