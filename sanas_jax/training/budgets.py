"""Many budgets in one program, and budgets asked for in units of cost instead of prices.

The papers' problem is min Δ s.t. C ≤ c. λ is its multiplier, found by dual ascent on the relative
error of the cost, ε = (C̄ − c)/c:

    u ← u + η ε,    λ = [u + κ ε]_+

Ascent alone (κ = 0) swings about the budget, for gates answer to λ late; κ damps that (Stooke,
Achiam & Abbeel, 2020: PID Lagrangian methods). A budget that can't be reached does not wind λ up
for ever: λ c, what the budget itself is worth, stays within `MOST_NATS`. C̄ is the cost of the most
probable architectures, for these are what is deployed. An update of one budget is a pure function
of arrays, so many budgets are its `vmap`; they share the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from sanas_jax.sharding import BUDGET
from sanas_jax.training.state import Batch, Budget, TrainState
from sanas_jax.training.update import Update

MOST_NATS = 30.0  # the loss of a guess among twelve is 2.5


class Target(NamedTuple):
    """What one budget asks for. Arrays [], or [G] for many.

    Fields:
      cost_weight: λ, or where it begins; [B], or [T, B] of steps, for a conditioned
        controller's prices.
      limit: cost that is free.
      cost: c, the mean cost to be reached; read only if `rate` > 0.
      rate: η per step; 0 keeps λ.
      damping: κ.
    """

    cost_weight: jax.Array
    limit: jax.Array
    cost: jax.Array
    rate: jax.Array
    damping: jax.Array


class Member(NamedTuple):
    """State of one budget.

    Fields:
      train: of `training`.
      dual: what ascent has added to λ, [].
      error: ε of the last step, [].
      alive: [] bool; False freezes the rest at the last finite step.
    """

    train: TrainState
    dual: jax.Array
    error: jax.Array
    alive: jax.Array


MemberUpdate = Callable[[Member, Batch, jax.Array, Target], tuple[Member, dict[str, jax.Array]]]


def init_member(state: TrainState) -> Member:
    """A budget that has not begun."""
    return Member(state, jnp.zeros(()), jnp.zeros(()), jnp.ones((), bool))


def make_member_update(update: Update) -> MemberUpdate:
    """`update(member, batch, key, target) -> (member, metrics)`; vmap it over members and targets.

    Metrics gain `cost_weight`, the mean λ of the step. A step whose loss or gradient is not finite
    is undone, and the member stays as it is from then on: others under the same vmap never notice.

    Args:
      update: of `training.make_update`; with `Objective.measure_mode` if a target has a rate.
    """

    def member_update(
        member: Member, batch: Batch, key: jax.Array, target: Target
    ) -> tuple[Member, dict[str, jax.Array]]:
        weight = target.cost_weight + member.dual + target.damping * member.error
        weight = jnp.maximum(weight, 0)
        train, metrics = update(member.train, batch, key, Budget(weight, target.limit))
        metrics["cost_weight"] = weight.mean()
        dual, error = member.dual, member.error
        if "mode_cost" in metrics:
            dual, error = ascend(dual, metrics["mode_cost"], target)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        new = Member(train, dual, error, member.alive & finite)
        kept = jax.tree.map(lambda a, b: jnp.where(new.alive, a, b), new, member)
        return kept._replace(alive=new.alive), metrics

    return member_update


def ascend(dual: jax.Array, cost: jax.Array, target: Target) -> tuple[jax.Array, jax.Array]:
    """One step of dual ascent: (dual, ε). An ε beyond 100 % counts as 100 %.

    λ = cost_weight + u stays between 0 and `MOST_NATS` a budget, or where it begins if more.
    """
    budget = jnp.maximum(target.cost, 1e-12)
    error = jnp.clip((cost - target.cost) / budget, -1, 1)
    start = target.cost_weight.mean()
    most = jnp.maximum(MOST_NATS / budget - start, 0)
    return jnp.clip(dual + target.rate * error, -start, most), error


def over_budgets(
    function: Callable[..., Any],
    shared: Sequence[int],
    mesh: Mesh | None = None,
    in_turn: bool = False,
) -> Callable[..., Any]:
    """`function` over a leading axis G of its arguments, but for those whose index is in `shared`.

    On a mesh (`sharding.make_mesh`) each of its columns takes its part of the axis. A single budget
    is run as it is: a vmap over one would only disguise its convolutions. `in_turn` runs many one
    after the other (`lax.map`) for the same reason: a vmap makes convolutions grouped ones. Which
    is faster on an accelerator has not been measured.
    """

    def local(*args: Any) -> Any:
        axes = [None if i in shared else 0 for i in range(len(args))]
        if _length(args, shared) > 1 and not in_turn:
            return jax.vmap(function, axes)(*args)
        if _length(args, shared) > 1:
            own = {i: arg for i, arg in enumerate(args) if i not in shared}
            return jax.lax.map(
                lambda now: function(*(now.get(i, arg) for i, arg in enumerate(args))), own
            )
        single = [a if i in shared else jax.tree.map(lambda x: x[0], a) for i, a in enumerate(args)]
        return jax.tree.map(lambda x: x[None], function(*single))

    if mesh is None or mesh.shape[BUDGET] == 1:
        return local

    def spread(*args: Any) -> Any:
        all_of_it, its_part = PartitionSpec(), PartitionSpec(BUDGET)
        specs = tuple(all_of_it if i in shared else its_part for i in range(len(args)))
        # Budgets share no arithmetic: nothing is lost by not tracking what varies over them. The
        # rows of a batch stay the compiler's business.
        whole = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=specs,
            out_specs=its_part,
            axis_names={BUDGET},
            check_vma=False,
        )
        return whole(*args)

    return spread


def _length(args: Sequence[Any], shared: Sequence[int]) -> int:
    """G, or a device's part of it."""
    own = next(arg for i, arg in enumerate(args) if i not in shared)
    return jax.tree.leaves(own)[0].shape[0]
