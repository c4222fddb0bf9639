"""The train loop: steps, metrics, validation, checkpoints. Everything that a kill may interrupt.

One loop for one run and for many: runs are trained in groups, each group by one program, on batches
that all of them share. A program makes one step or several; it may span the devices of many
processes, which all run this loop (`sanas_jax.sharding`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.progress import Progress, print_above
from experiments.config.model import macs_per_step, prices_of
from experiments.machine.execution import on_cpu
from experiments.machine.multihost import is_first, wait_for_all
from experiments.machine.prefetch import ahead
from experiments.machine.profiler import Profile
from experiments.training.begin import Job, Run
from experiments.training.groups import Group, Track, summarize
from experiments.training.steps import (
    Fed,
    batch_key,
    make_draw,
    make_train_steps,
    make_validation,
    place_batch,
)
from sanas_jax.sharding import place


def run_loop(job: Job) -> list[Run]:
    """Train runs from where they stand to the last step; returns them as they end.

    The members that the job came with are given up: their arrays are deleted.

    Raises:
      ValueError if no run has a finite loss and gradient any more.
    """
    built, data, runs, mesh, execution = job
    first = runs[0]
    config, info, train = first.info.config, first.info, first.info.config.train
    size = execution.group_size(len(runs))
    groups = [Group(runs[i : i + size], mesh) for i in range(0, len(runs), size)]

    weights = None
    if train.class_weighted:
        weights = np.asarray(info.class_weights**train.class_weight_power)
    draw = make_draw(config, built, data.draw, mesh)
    train_steps = make_train_steps(config, built, weights, mesh)
    validate = make_validation(config, built, weights, mesh)
    batches = data.validation(
        info.frontend, built.settings, first.keys.validate, train.batch_size, train.eval_batches
    )
    batches = [place_batch(batch, mesh) for batch in batches]
    frontend, key, validation_key = place(
        (info.frontend, first.keys.train, first.keys.validate), mesh
    )
    macs, controller = macs_per_step(built.model, config.model.static)
    summary = partial(
        summarize,
        classes=info.classes,
        edge_macs=macs,
        controller_macs=controller,
        unit=1 / built.charged.scale,
    )
    tracks = [Track(run, groups[i // size], i % size, summary) for i, run in enumerate(runs)]
    for run in runs:  # the groups have copies; a sweep's members are too large to be kept twice
        for leaf in jax.tree.leaves(run.member):
            leaf.delete()
    silent = not is_first()
    if first.step and not silent:
        print_above(f"resuming at step {first.step} of {train.steps}")

    shown = Progress(train.steps, "step", initial=first.step, silent=silent)
    profile = Profile(runs[0].workdir, 0 if silent else execution.profile_steps)
    feed = fed(job, first.keys.train)
    try:
        for steps, sent in feed:
            profile.before(groups[-1].members)
            drawn = draw(data.training, sent, frontend, key, steps)
            for group in groups:
                group.members, metrics = train_steps(
                    group.members, drawn, group.keys, group.targets, steps
                )
                group.metrics.append(metrics)
            profile.after(len(steps), groups[-1].metrics[-1])
            shown.add(len(steps))
            step = int(steps[-1]) + 1
            last = step == train.steps
            if step % train.log_every == 0 or last:
                for group in groups:
                    host, group.metrics = jax.device_get(group.metrics), []
                    alive = group.alive()
                    for track in (t for t in tracks if t.group is group and t.alive):
                        track.log(step, host, alive=bool(alive[track.index]))
                if not any(track.alive for track in tracks):
                    raise ValueError(f"training diverged by step {step}; nothing was saved since")
                shown.show_beside(describe(tracks))
            if step % train.eval_every == 0 or last:
                for group in groups:
                    params = group.members.train.deployed
                    results = [validate(params, b, validation_key) for b in batches]
                    host = jax.device_get(results)
                    for track in (t for t in tracks if t.group is group and t.alive):
                        track.validate(step, host, prices_of(config))
                        name = f"{track.run.workdir.name}: " if len(runs) > 1 else ""
                        if not silent:
                            print_above(f"step {step}: {name}validation {describe([track])}")
                for track in tracks:  # last: what comes before is computed again if this fails
                    track.save(step)
    finally:
        with ExitStack() as last_things:  # all of them, whichever fails
            for close in (feed.close, shown.close, profile.close, *(t.close for t in tracks)):
                last_things.callback(close)
    wait_for_all("trained")
    return [t.run._replace(step=train.steps, member=t.member) for t in tracks]


def fed(job: Job, key: jax.Array) -> Generator[Fed]:
    """What each program to come takes, in order.

    Programs end where metrics are written. What is sent is made ready while the device computes.
    """
    train = job.runs[0].info.config.train
    at_once = job.execution.steps_at_once(train.log_every)
    begin, end = job.runs[0].step, train.steps
    keys = jax.jit(jax.vmap(batch_key, (None, 0)))
    with on_cpu():
        key = jnp.copy(key)  # once, not from the device at each step

    def steps() -> Iterator[np.ndarray]:
        for start in range(begin, end, at_once):
            yield np.arange(start, min(start + at_once, end), dtype=np.int32)

    def sent() -> Iterator[Fed]:
        for numbers in steps():
            with on_cpu():
                own = keys(key, numbers)
            yield numbers, job.data.feed(job.built.settings, own, train.batch_size)

    if job.data.streams:
        return ahead(sent())
    return ((numbers, None) for numbers in steps())


def describe(tracks: Sequence[Track]) -> str:
    """Where runs stand, from lowest to highest."""
    lines = [track.line for track in tracks if track.alive]

    def span(name: str, form: str, scale: float = 1) -> str:
        texts = [format(bound(line[name] for line in lines) / scale, form) for bound in (min, max)]
        return " to ".join(dict.fromkeys(texts))

    lost = f", {len(tracks) - len(lines)} diverged" if len(lines) < len(tracks) else ""
    return (
        f"loss {span('loss', '.3f')}, frame accuracy {span('frame_accuracy', '.1%')}, "
        f"{span('macs_per_frame', '.2f', 1e6)}M MACs/frame{lost}"
    )
