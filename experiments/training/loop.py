"""The train loop: steps, metrics, validation, checkpoints. Everything that a kill may interrupt.

One loop for one run and for many: runs are trained in groups, each group by one program, on batches
that all of them share. A program makes one step or several; it may span the devices of many
processes, which all run this loop (`sanas_jax.sharding`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.progress import Progress, print_above
from experiments.config.model import prices_of
from experiments.machine.execution import on_cpu
from experiments.machine.multihost import is_first, wait_for_all
from experiments.machine.prefetch import ahead
from experiments.machine.profiler import Profile
from experiments.training.groups import RunRecorder
from experiments.training.job import Job, TrainingRun
from experiments.training.programs import Programs, programs_of
from experiments.training.steps import batch_key
from sanas_jax.costs import edge_macs, edge_params
from sanas_jax.graph import Net

# Numbers of steps [K], from 0, and what was sent for their batches.
Upcoming = tuple[np.ndarray, jax.Array | None]


def run_loop(job: Job) -> list[TrainingRun]:
    """Train runs from where they stand to the last step; returns them as they end.

    The members that the job came with are given up: their arrays are deleted.

    Raises:
      ValueError if no run has a finite loss and gradient any more.
    """
    train, begin = job.config.train, job.runs[0].step
    programs = programs_of(job)
    if is_first():
        print_above(size(job.built.model.net))
        if begin:
            print_above(f"resuming at step {begin} of {train.steps}")
    shown = Progress(train.steps, "step", initial=begin, silent=not is_first())
    profile = Profile(job.runs[0].workdir, job.execution.profile_steps if is_first() else 0)
    upcoming = upcoming_batches(job)
    try:
        for steps, sent in upcoming:
            profile.before(programs.groups[-1].members)
            make_steps(programs, steps, sent)
            profile.after(len(steps), programs.groups[-1].metrics[-1])
            shown.add(len(steps))
            step = int(steps[-1]) + 1
            last = step == train.steps
            if step % train.log_every == 0 or last:
                log(programs, step)
                shown.show_beside(metrics_line(programs.recorders))
            if step % train.eval_every == 0 or last:
                validate(programs, step, prices_of(job.config))
                save(programs, step)  # last: what comes before is computed again if this fails
    finally:
        with ExitStack() as last_things:  # all of them, whichever fails
            files = [recorder.close for recorder in programs.recorders]
            for close in (upcoming.close, shown.close, profile.close, *files):
                last_things.callback(close)
    wait_for_all("trained")
    return [r.run._replace(step=train.steps, member=r.member) for r in programs.recorders]


def size(net: Net) -> str:
    """A network's edges, numbers to learn and arithmetic, in a line."""
    params, macs = (sum(table(net).values()) for table in (edge_params, edge_macs))
    numbers = f"{params:,} parameters, {macs / 1e6:.3f}M MACs if all are on"
    return f"{len(net.edges)} edges with {numbers}"


def make_steps(programs: Programs, steps: np.ndarray, sent: jax.Array | None) -> None:
    """Steps [K] of all groups, on the same batches."""
    batches = programs.draw(sent, steps)
    for group in programs.groups:
        group.members, metrics = programs.train_steps(
            group.members, batches, group.keys, group.targets, steps
        )
        group.metrics.append(metrics)


def log(programs: Programs, step: int) -> None:
    """A line of training for each run; ValueError if none is left that has not diverged."""
    for group in programs.groups:
        metrics, alive = group.take_metrics(), group.alive()
        for recorder in programs.living(group):
            recorder.log(step, metrics, alive=bool(alive[recorder.index]))
    if not any(recorder.alive for recorder in programs.recorders):
        raise ValueError(f"training diverged by step {step}; nothing was saved since")


def validate(programs: Programs, step: int, prices: Sequence[float]) -> None:
    """A line of validation for each run, on its front and for the user."""
    for group in programs.groups:
        results = jax.device_get(programs.validate(group.members.train.deployed))
        for recorder in programs.living(group):
            recorder.validate(step, results, prices)
            name = f"{recorder.run.workdir.name}: " if len(programs.recorders) > 1 else ""
            if is_first():
                print_above(f"step {step}: {name}validation {metrics_line([recorder])}")


def save(programs: Programs, step: int) -> None:
    """A checkpoint of each run, also of one that has diverged: all have one of every step."""
    for recorder in programs.recorders:
        recorder.save(step)


def upcoming_batches(job: Job) -> Generator[Upcoming]:
    """What each program to come takes, in order.

    Programs end where metrics are written. What is sent is made ready while the device computes.
    """
    train, first = job.config.train, job.runs[0]
    at_once = job.execution.steps_at_once(train.log_every)
    keys = jax.jit(jax.vmap(batch_key, (None, 0)))
    with on_cpu():
        key = jnp.copy(first.keys.train)  # once, not from the device at each step

    def steps() -> Iterator[np.ndarray]:
        for start in range(first.step, train.steps, at_once):
            yield np.arange(start, min(start + at_once, train.steps), dtype=np.int32)

    def sent() -> Iterator[Upcoming]:
        for numbers in steps():
            with on_cpu():
                own = keys(key, numbers)
            yield numbers, job.data.feed(job.built.settings, own, train.batch_size)

    if job.data.streams:
        return ahead(sent())
    return ((numbers, None) for numbers in steps())


def metrics_line(recorders: Sequence[RunRecorder]) -> str:
    """Where runs stand, from lowest to highest."""
    lines = [recorder.line for recorder in recorders if recorder.alive]

    def span(name: str, form: str, scale: float = 1) -> str:
        texts = [format(bound(line[name] for line in lines) / scale, form) for bound in (min, max)]
        return " to ".join(dict.fromkeys(texts))

    lost = f", {len(recorders) - len(lines)} diverged" if len(lines) < len(recorders) else ""
    return (
        f"loss {span('loss', '.3f')}, frame accuracy {span('frame_accuracy', '.1%')}, "
        f"{span('macs_per_frame', '.2f', 1e6)}M MACs/frame{lost}"
    )
