"""The train loop: steps, metrics, validation, checkpoints. Everything that a kill may interrupt.

One loop for one run and for many: runs are trained in groups, each group by one vmapped program, on
batches that all of them share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.build import Built, macs_per_step, ramp
from experiments.config import Config
from experiments.data import Source
from experiments.runs import Run, budgets_at_once
from experiments.track import Group, Metrics, Track
from sanas_jax.budgets import Member, Target, make_member_update, over_budgets
from sanas_jax.training import Batch, make_evaluate, make_update

CALIBRATION_POINTS = 9


def make_draw(
    config: Config, built: Built, draw_batch: Callable[..., Batch]
) -> Callable[..., Batch]:
    """`(examples, frontend, key, step) -> Batch`: what every run of a step sees.

    `draw_batch` is a `Source`'s.
    """

    @jax.jit
    def draw(examples: Any, frontend: Any, key: jax.Array, step: jax.Array) -> Batch:
        key, _ = jax.random.split(jax.random.fold_in(key, step))
        return draw_batch(examples, frontend, built.settings, key, config.train.batch_size)

    return draw


def make_train_step(config: Config, built: Built, class_weights: jax.Array | None) -> Callable:
    """`(members, batch, keys, targets, step) -> (members, metrics)`, fields [G, ...]."""
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

    return jax.jit(over_budgets(one, shared=(1, 4)), donate_argnums=0)


def make_validation(config: Config, built: Built, class_weights: jax.Array | None) -> Callable:
    """`(params, batch, key) -> metrics` [G, P, ...] at each of P prices, gates at their mode.

    A conditioned controller is asked at `CALIBRATION_POINTS` prices; others know only one.
    """
    evaluate = make_evaluate(built.model, built.objective, class_weights)
    prices = jnp.asarray(prices_of(config), jnp.float32)

    def one(params: Any, batch: Batch, key: jax.Array) -> Metrics:
        return jax.vmap(lambda price: evaluate(params, batch, key, price))(prices)

    return jax.jit(over_budgets(one, shared=(1, 2)))


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


def run_loop(
    built: Built, data: Source, runs: Sequence[Run], budgets_per_step: int | None = None
) -> list[Run]:
    """Train runs from where they stand to the last step; returns them as they end.

    Args:
      built: static part that all runs share.
      data: examples.
      runs: of `runs.begin`, at a common step.
      budgets_per_step: runs per program, see `runs.budgets_at_once`.

    Raises:
      ValueError if no run has a finite loss and gradient any more.
    """
    first = runs[0]
    config, info, train = first.info.config, first.info, first.info.config.train
    size = budgets_at_once(len(runs), budgets_per_step)
    groups = [Group(runs[i : i + size]) for i in range(0, len(runs), size)]

    weights = info.class_weights**train.class_weight_power if train.class_weighted else None
    draw = make_draw(config, built, data.draw)
    train_step = make_train_step(config, built, weights)
    validate = make_validation(config, built, weights)
    batches = data.validation(
        info.frontend, built.settings, first.keys.validate, train.batch_size, train.eval_batches
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
    if first.step:
        tqdm.write(f"resuming at step {first.step} of {train.steps}")

    bar = tqdm(
        total=train.steps, initial=first.step, unit="step", mininterval=1.0, dynamic_ncols=True
    )
    try:
        for step in range(first.step + 1, train.steps + 1):
            number = jnp.int32(step - 1)
            batch = draw(data.training, info.frontend, first.keys.train, number)
            for group in groups:
                group.members, metrics = train_step(
                    group.members, batch, group.keys, group.targets, number
                )
                group.metrics.append(metrics)
            bar.update()
            last = step == train.steps
            if step % train.log_every == 0 or last:
                for group in groups:
                    host, group.metrics = jax.device_get(group.metrics), []
                    for track in (t for t in tracks if t.group is group and t.alive):
                        track.log(step, host)
                if not any(track.alive for track in tracks):
                    raise ValueError(f"training diverged by step {step}; nothing was saved since")
                bar.set_postfix_str(describe(tracks))
            if step % train.eval_every == 0 or last:
                for group in groups:
                    params = group.members.train.deployed
                    results = [validate(params, b, first.keys.validate) for b in batches]
                    host = jax.device_get(results)
                    for track in (t for t in tracks if t.group is group and t.alive):
                        track.validate(step, host, prices_of(config))
                        name = f"{track.run.workdir.name}: " if len(runs) > 1 else ""
                        bar.write(f"step {step}: {name}validation {describe([track])}")
                for track in tracks:  # last: what comes before is computed again if this fails
                    track.save(step)
    finally:
        bar.close()
        for track in tracks:
            track.close()
    return [t.run._replace(step=train.steps, member=t.member) for t in tracks]


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
