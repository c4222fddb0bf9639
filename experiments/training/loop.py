"""The train loop: steps, metrics, validation, checkpoints. Everything that a kill may interrupt.

One loop for one run and for many: runs are trained in groups, each group by one program, on batches
that all of them share. A program makes one step or several; it may span the devices of many
processes, which all run this loop (`sanas_jax.sharding`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from tqdm import tqdm

from experiments.config import Config
from experiments.config.build import Built, macs_per_step, ramp
from experiments.datasets.speech import on_cpu
from experiments.machine.multihost import is_first, wait_for_all
from experiments.machine.prefetch import ahead
from experiments.machine.profiler import Profile
from experiments.training.begin import Job, Run
from experiments.training.groups import Group, Metrics, Track
from sanas_jax.sharding import BUDGET, DATA, jit_onto, place
from sanas_jax.training import Batch, make_evaluate, make_update
from sanas_jax.training.budgets import Member, Target, make_member_update, over_budgets

CALIBRATION_POINTS = 9

# Numbers of steps [K], from 0, and what was sent for them.
Fed = tuple[np.ndarray, jax.Array | None]


def make_draw(
    config: Config, built: Built, draw_rows: Callable[..., Batch], mesh: Mesh | None = None
) -> Callable[..., Batch]:
    """`(examples, sent, frontend, key, steps) -> batches` [K, ...] of steps [K]: what all runs see.

    Each device draws its own rows. `draw_rows` is a `Source`'s `draw`, `sent` what its `feed` gave.
    """
    rows = np.arange(config.train.batch_size, dtype=np.int32)

    def draw(
        examples: Any, sent: Any, frontend: Any, key: jax.Array, steps: jax.Array, rows: Any
    ) -> Batch:
        def one(now: tuple[jax.Array, Any]) -> Batch:
            step, of_step = now
            drawn_with = batch_key(key, step)
            return draw_rows(examples, frontend, built.settings, drawn_with, rows, of_step)

        return _over_steps(one, (steps, sent))

    if mesh is None:
        return jax.jit(partial(draw, rows=rows))
    whole = PartitionSpec()
    by_row: Any = PartitionSpec(None, DATA)
    by_step: Any = PartitionSpec(None, None, DATA)
    spread: Callable = jax.shard_map(
        draw,
        mesh=mesh,
        in_specs=(whole, by_row, whole, whole, whole, PartitionSpec(DATA)),
        out_specs=Batch(features=by_row, labels=by_step, mask=by_step, weight=by_step),
        # Columns of the mesh draw the same.
        check_vma=False,
    )
    return jax.jit(lambda *args: spread(*args, rows))


def batch_key(key: jax.Array, step: jax.Array) -> jax.Array:
    """The key of a step's batch, from the run's."""
    return jax.random.split(jax.random.fold_in(key, step))[0]


def make_train_steps(
    config: Config, built: Built, class_weights: Any, mesh: Mesh | None = None
) -> Callable:
    """`(members, batches, keys, targets, steps) -> (members, metrics)`, fields [G, ...].

    Batches [K, ...] are of steps [K], one after the other; metrics are [G, K, ...].
    """
    train = config.train
    full = built.charged.full * built.charged.scale
    member_update = make_member_update(
        make_update(built.model, built.optimizer, built.objective, class_weights)
    )

    def one(
        member: Member, batch: Batch, key: jax.Array, target: Target, step: jax.Array
    ) -> tuple[Member, Metrics]:
        _, key = jax.random.split(jax.random.fold_in(key, step))
        tightened = ramp(step, train.budget_ramp_steps)
        if config.model.conditioned:
            key, price_key = jax.random.split(key)
            low, high = map(math.log, train.cost_weight_range)
            prices = jax.random.uniform(price_key, (train.batch_size,), minval=low, maxval=high)
            target = target._replace(cost_weight=jnp.exp(prices))
        target = target._replace(
            cost_weight=target.cost_weight * ramp(step, train.cost_ramp_steps),
            cost=full ** (1 - tightened) * target.cost**tightened,
        )
        return member_update(member, batch, key, target)

    def several(
        member: Member, batches: Batch, key: jax.Array, target: Target, steps: jax.Array
    ) -> tuple[Member, Metrics]:
        def next_step(member: Member, now: tuple[Batch, jax.Array]) -> tuple[Member, Metrics]:
            batch, step = now
            return one(member, batch, key, target, step)

        if len(steps) > 1:
            return lax.scan(next_step, member, (batches, steps))
        member, metrics = next_step(member, _first((batches, steps)))
        return member, jax.tree.map(lambda leaf: leaf[None], metrics)

    spread = over_budgets(several, (1, 4), mesh)
    return jit_onto(spread, mesh, (BUDGET,), (), donate_argnums=0)


def make_validation(
    config: Config, built: Built, class_weights: Any, mesh: Mesh | None = None
) -> Callable:
    """`(params, batch, key) -> metrics` [G, P, ...] at each of P prices, gates at their mode.

    A conditioned controller is asked at `CALIBRATION_POINTS` prices; others know only one.
    """
    evaluate = make_evaluate(built.model, built.objective, class_weights)
    prices = np.asarray(prices_of(config), np.float32)

    def one(params: Any, batch: Batch, key: jax.Array) -> Metrics:
        return jax.vmap(lambda price: evaluate(params, batch, key, price))(jnp.asarray(prices))

    return jit_onto(over_budgets(one, (1, 2), mesh), mesh)


def _over_steps(function: Callable[[Any], Any], steps: Any) -> Any:
    """`function` of each entry of a leading axis in turn; of a single one without a loop."""
    if len(jax.tree.leaves(steps)[0]) > 1:
        return lax.map(function, steps)
    return jax.tree.map(lambda leaf: leaf[None], function(_first(steps)))


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def prices_of(config: Config) -> list[float]:
    """λ at which a run is validated: a conditioned one's range, log-spaced; else its own."""
    if config.model.conditioned:
        low, high = config.train.cost_weight_range
        return np.geomspace(low, high, CALIBRATION_POINTS).tolist()
    return [config.train.cost_weight]


def summarize(
    collected: Sequence[Metrics],
    classes: Sequence[str],
    edge_macs: dict[str, int],
    controller_macs: int,
    unit: float = 1.0,
) -> dict[str, Any]:
    """Metrics of several batches as one JSON object: means, MACs per frame, gate usage.

    `unit` turns the objective's cost into `charged`, in the unit that a budget is asked in.
    """
    out: dict[str, Any] = {
        name: float(np.mean([m[name] for m in collected]))
        for name in collected[0]
        if np.ndim(collected[0][name]) == 0
    }
    out["charged"] = out["cost"] * unit
    live = np.sum([m["live_by_label"] for m in collected], axis=0, dtype=np.float64)
    frames = np.array([m["steps_by_label"] for m in collected], np.float64).sum(0)
    per_edge = np.array(list(edge_macs.values()), np.float64)
    by_label = live @ per_edge / np.maximum(frames, 1)
    out["macs_per_frame"] = float(live.sum(0) @ per_edge / frames.sum())
    out["macs_per_frame_with_controller"] = out["macs_per_frame"] + controller_macs
    out["macs_per_frame_by_label"] = {
        name: float(macs)
        for name, macs, count in zip(classes, by_label, frames, strict=True)
        if count
    }
    usage = live.sum(0) / frames.sum()
    out["gate_usage"] = dict(zip(edge_macs, map(float, usage), strict=True))
    return out


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
        tqdm.write(f"resuming at step {first.step} of {train.steps}")

    bar = tqdm(
        total=train.steps,
        initial=first.step,
        unit="step",
        mininterval=1.0,
        dynamic_ncols=True,
        disable=silent,
    )
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
            bar.update(len(steps))
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
                bar.set_postfix_str(describe(tracks))
            if step % train.eval_every == 0 or last:
                for group in groups:
                    params = group.members.train.deployed
                    results = [validate(params, b, validation_key) for b in batches]
                    host = jax.device_get(results)
                    for track in (t for t in tracks if t.group is group and t.alive):
                        track.validate(step, host, prices_of(config))
                        name = f"{track.run.workdir.name}: " if len(runs) > 1 else ""
                        if not silent:
                            bar.write(f"step {step}: {name}validation {describe([track])}")
                for track in tracks:  # last: what comes before is computed again if this fails
                    track.save(step)
    finally:
        with ExitStack() as last_things:  # all of them, whichever fails
            for close in (feed.close, bar.close, profile.close, *(t.close for t in tracks)):
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


def place_batch(batch: Batch, mesh: Mesh | None) -> Batch:
    """A batch on the devices of the mesh, each having its rows."""
    features = place(batch.features, mesh, DATA)
    rest = place(batch[1:], mesh, None, DATA)
    return Batch(features, *rest)


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
