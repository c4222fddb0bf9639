"""The programs of the train loop: draw a batch, make steps, validate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from experiments.config import Config, TrainConfig
from experiments.config.build import Training
from experiments.config.model import prices_of
from experiments.datasets.source import Teacher
from experiments.training.groups import Metrics
from sanas_jax.sharding import BUDGET, DATA, jit_onto, place
from sanas_jax.training import Batch
from sanas_jax.training.budgets import Member, Target, make_member_update, over_budgets


def ramp(step: jnp.ndarray, steps: int) -> jnp.ndarray:
    """0 → 1 over the first `steps` steps; 1 where there are none."""
    return jnp.minimum(1.0, step / steps) if steps else jnp.ones(())


def make_draw(
    config: Config, built: Training, draw_rows: Callable[..., Batch], mesh: Mesh | None = None
) -> Callable[..., Batch]:
    """`(examples, sent, frontend, key, steps, teacher=None) -> batches` [K, ...] of steps [K].

    All runs see them; each device draws its own rows. `draw_rows` is a `Source`'s `draw`, `sent`
    what its `feed` gave.
    """
    rows = np.arange(config.train.batch_size, dtype=np.int32)

    def draw(
        examples: Any,
        sent: Any,
        frontend: Any,
        key: jax.Array,
        steps: jax.Array,
        teacher: Teacher | None,
        rows: Any,
    ) -> Batch:
        def one(now: tuple[jax.Array, Any]) -> Batch:
            step, of_step = now
            drawn_with = batch_key(key, step)
            drawn = (examples, frontend, built.settings, drawn_with, rows, of_step)
            return draw_rows(*drawn, teacher)

        return _over_steps(one, (steps, sent))

    if mesh is not None:
        whole = PartitionSpec()
        by_row: Any = PartitionSpec(None, DATA)
        by_step: Any = PartitionSpec(None, None, DATA) if built.streams else by_row
        draw = jax.shard_map(
            draw,
            mesh=mesh,
            in_specs=(whole, by_row, whole, whole, whole, whole, PartitionSpec(DATA)),
            out_specs=Batch(by_row, by_step, by_step, by_step, by_step),
            # Columns of the mesh draw the same.
            check_vma=False,
        )

    def of_all_rows(
        examples: Any,
        sent: Any,
        frontend: Any,
        key: jax.Array,
        steps: jax.Array,
        teacher: Teacher | None = None,
    ) -> Batch:
        return draw(examples, sent, frontend, key, steps, teacher, rows)

    return jax.jit(of_all_rows)


def batch_key(key: jax.Array, step: jax.Array) -> jax.Array:
    """The key of a step's batch, from the run's."""
    return jax.random.split(jax.random.fold_in(key, step))[0]


def make_train_steps(
    config: Config,
    built: Training,
    class_weights: Any,
    mesh: Mesh | None = None,
    in_turn: bool = False,
) -> Callable:
    """`(members, batches, keys, targets, steps) -> (members, metrics)`, fields [G, ...].

    Batches [K, ...] are of steps [K], one after the other; metrics are [G, K, ...]. `in_turn` as in
    `over_budgets`.
    """
    train = config.train
    full = built.charged.full * built.charged.scale
    member_update = make_member_update(built.update(class_weights))

    def one(
        member: Member, batch: Batch, key: jax.Array, target: Target, step: jax.Array
    ) -> tuple[Member, Metrics]:
        _, key = jax.random.split(jax.random.fold_in(key, step))
        tightened = ramp(step, train.budget_ramp_steps)
        if config.model.conditioned:
            key, price_key = jax.random.split(key)
            target = target._replace(cost_weight=_prices(train, price_key, batch.mask))
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

    spread = over_budgets(several, (1, 4), mesh, in_turn)
    return jit_onto(spread, mesh, (BUDGET,), (), donate_argnums=0)


def make_validation(
    config: Config,
    built: Training,
    class_weights: Any,
    mesh: Mesh | None = None,
    in_turn: bool = False,
) -> Callable:
    """`(params, batch) -> metrics` [G, P, ...] at each of P prices, gates at their mode.

    A conditioned controller is asked at `CALIBRATION_POINTS` prices; others know only one.
    """
    evaluate = built.evaluate(class_weights)
    prices = np.asarray(prices_of(config), np.float32)

    def one(params: Any, batch: Batch) -> Metrics:
        return jax.vmap(lambda price: evaluate(params, batch, price))(jnp.asarray(prices))

    return jit_onto(over_budgets(one, (1,), mesh, in_turn), mesh)


def _prices(train: TrainConfig, key: jax.Array, mask: jax.Array) -> jax.Array:
    """λ [B] of the streams of a batch, or [T, B] where it may change along them.

    mask: [T, B], the steps of each stream, or [B] of what are no streams.
    """
    low, high = map(math.log, train.cost_weight_range)
    draw = partial(jax.random.uniform, shape=(train.batch_size,), dtype=jnp.float32)
    if not train.cost_weight_changes:
        return jnp.exp(draw(key, minval=low, maxval=high))
    keys = jax.random.split(key, 4)
    first, then = (draw(key, minval=low, maxval=high) for key in keys[:2])
    changes = draw(keys[2]) < train.cost_weight_changes
    at = 1 + jnp.floor(draw(keys[3]) * (mask.sum(0) - 1))
    later = changes & (jnp.arange(len(mask))[:, None] >= at)
    return jnp.exp(jnp.where(later, then, first))


def _over_steps(function: Callable[[Any], Any], steps: Any) -> Any:
    """`function` of each entry of a leading axis in turn; of a single one without a loop."""
    if len(jax.tree.leaves(steps)[0]) > 1:
        return lax.map(function, steps)
    return jax.tree.map(lambda leaf: leaf[None], function(_first(steps)))


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def place_batch(batch: Batch, mesh: Mesh | None) -> Batch:
    """A batch on the devices of the mesh, each having its rows."""
    features = place(batch.features, mesh, DATA)
    by_row = (None, DATA) if batch.mask.ndim == 2 else (DATA,)
    return Batch(features, *place(batch[1:], mesh, *by_row))
