"""SANAS along a stream: one step, and the whole stream with the trunk shared over time.

At step t the state z_t gives Γ_t, an architecture A_t is drawn, its live edges run on the window
x_t, and the features advance the state (SANAS, Algorithm 1). `unroll` is `step` in a scan, except
that everything upstream of the first join is computed once, outside the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax import gates as gates_lib
from sanas_jax.controller import Controller, advance, gamma_of, init_controller, initial_state
from sanas_jax.forward import (
    Output,
    Trunk,
    forward,
    in_join,
    init,
    init_last,
    init_stats,
    join,
    trunk_edges,
)
from sanas_jax.gates import Gamma
from sanas_jax.graph import Net, check_gates, prune
from sanas_jax.graph.tracing import traced
from sanas_jax.running import DType

Policy = Callable[[Gamma, jax.Array], jax.Array]


@dataclass(frozen=True)
class Sanas:
    """Static description of a model on a stream.

    Fields:
      net: super-network whose input is a window of `net.input_shape[0]` frames.
      controller: emits Γ_t.
      hop: frames between two windows (20 frames of 10 ms: a decision every 200 ms).
    """

    net: Net
    controller: Controller = field(default_factory=Controller)
    hop: int = 20

    def __post_init__(self) -> None:
        if self.hop < 1:
            raise ValueError(f"hop: expected at least 1 frame, got {self.hop}")

    @property
    def window(self) -> int:
        """Frames per window."""
        return self.net.input_shape[0]

    def num_steps(self, frames: int) -> int:
        """T: windows that fit in a stream of `frames` frames."""
        return max(0, (frames - self.window) // self.hop + 1)


class Carry(NamedTuple):
    """What one step hands to the next.

    z [B, Z] the controller's state; t [] the step's number; condition [B, 1] log λ, None unless the
    controller is conditioned; stats: running statistics of the net's blocks, None without any;
    last: {layer: [B, ...]} values that may be reused, None without any.
    """

    z: jax.Array
    t: jax.Array
    condition: jax.Array | None = None
    stats: dict[str, Any] | None = None
    last: dict[str, jax.Array] | None = None


class Step(NamedTuple):
    """One step ([B, ...]) or all steps ([T, B, ...]).

    logits [B, K]; features [B, ...]; gamma: logits [B, E]; gates: as drawn [B, E]; live: pruned
    [B, E]; log_prob [B]; z: state that Γ was read from [B, Z].
    """

    logits: jax.Array
    features: jax.Array
    gamma: Gamma
    gates: jax.Array
    live: jax.Array
    log_prob: jax.Array
    z: jax.Array


def init_model(model: Sanas, key: jax.Array) -> dict[str, Any]:
    """Everything that a model computes with.

    Returns:
      {"net": weights of the super-network, "controller": weights of cell and gate head}, and
      "stats", running statistics that are no weights, if the network's blocks keep any.
    """
    net_key, controller_key = jax.random.split(key)
    params = {
        "net": init(model.net, net_key),
        "controller": init_controller(model.controller, model.net, controller_key),
    }
    return params | ({"stats": init_stats(model.net)} if model.net.with_stats else {})


def abstract_model(model: Sanas) -> dict[str, Any]:
    """Shapes and dtypes of `init_model`; nothing is drawn, and nothing compiled."""
    net = model.net
    found = {edge.name: traced(edge.block, net.shapes[edge.source]).variables for edge in net.edges}
    draw = partial(init_controller, model.controller, net)
    params = {
        "net": {name: variables.get("params", {}) for name, variables in found.items()},
        "controller": jax.eval_shape(draw, jax.eval_shape(jax.random.key, 0)),
    }
    stats = {name: found[name]["batch_stats"] for name in found if name in net.with_stats}
    return params | ({"stats": stats} if stats else {})


def init_carry(
    model: Sanas,
    batch: int,
    cost_weight: jax.Array | float | None = None,
    stats: dict[str, Any] | None = None,
) -> Carry:
    """Start of a stream.

    Args:
      model: static description.
      batch: B.
      cost_weight: λ > 0, [] or [B], which a conditioned controller is told; ignored by others.
      stats: `params["stats"]` of `init_model`, if there are any.
    """
    condition = None
    if model.controller.conditioned:
        if cost_weight is None:
            raise ValueError(
                "cost_weight: expected a price for the conditioned controller, got None"
            )
        weights = jnp.broadcast_to(jnp.asarray(cost_weight, jnp.float32), (batch,))
        if not isinstance(weights, jax.core.Tracer) and not (weights > 0).all():
            raise ValueError(f"cost_weight: expected prices above 0, got {cost_weight}")
        condition = jnp.log(weights)[:, None]
    z = initial_state(model.controller, model.net, batch)
    last = init_last(model.net, batch) or None
    return Carry(z, jnp.zeros((), jnp.int32), condition, stats, last)


def step(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    x_t: jax.Array,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.sample,
    train: bool = False,
    mask: jax.Array | None = None,
) -> tuple[Carry, Step]:
    """One SANAS step.

    Args:
      model: static description.
      params: from `init_model`.
      carry: from `init_carry` or the step before.
      x_t: window [B, *net.input_shape].
      key: the stream's key; step t draws from `fold_in(key, t)`, so that loop and scan agree.
      policy: `gates.sample`, `gates.mode`, `gates.all_on`, or any (Γ, key) → gates [B, E].
      train: blocks normalise with the batch and update `carry.stats`: those of the trunk with this
        window of it, where `unroll` takes the whole streams; on a CPU `unroll` writes its loop out.
      mask: [B] bool, the streams that this step belongs to; in others it changes no state, and no
        batch statistics come from them. None: all.
    """

    carry = _promoted(carry, x_t, params)

    def run(live: jax.Array) -> Output:
        return forward(
            model.net,
            params["net"],
            live,
            x_t,
            stats=carry.stats,
            last=carry.last,
            train=train,
            mask=mask,
        )

    return _step(model, params, carry, run, key, policy, mask)


def unroll(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    stream: jax.Array,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.sample,
    gates: jax.Array | None = None,
    train: bool = False,
    dtype: DType = None,
    trunk: Trunk | None = None,
    mask: jax.Array | None = None,
    remat: bool = False,
    written_out: bool | None = None,
    cost_weight: jax.Array | None = None,
) -> tuple[Carry, Step]:
    """All steps of a stream, equal to a loop over `step`, the trunk computed once.

    Args:
      model: static description.
      params: from `init_model`.
      carry: from `init_carry`, or the carry of the stream so far.
      stream: [B, frames, *net.input_shape[1:]].
      key: the stream's key.
      policy, train: as in `step`.
      gates: [T, B, E] forced architectures in place of the policy's.
      dtype: that the network's convolutions and all of the trunk compute in; results have the
        stream's. None: that of the weights.
      trunk: of `run_trunk` on the same stream, where several rollouts share it.
      mask: [T, B] bool, the steps that count: what only others see changes no result of these, nor
        the statistics. None: all, and the frames beyond the last window.
      remat: compute a step again for its gradient in place of keeping what is inside of it: memory
        for time, where most of a network is behind early joins.
      written_out: all steps one after the other in the program in place of a loop. None: in
        training where convolutions run in the steps and jax's default device is a CPU.
      cost_weight: [T, B] λ > 0 that a conditioned controller is told at each step; ignored by
        others. None: the carry's at all of them.

    Returns:
      The carry after the last step, and `Step` with time-major fields [T, B, ...].
    """
    num_steps = _num_steps(model, stream)
    if gates is not None:
        check_gates(model.net, gates)
        if gates.shape[:2] != (num_steps, stream.shape[0]):
            raise ValueError(
                f"gates: expected shape [T, B, E] with T = {num_steps}, B = {stream.shape[0]}; "
                f"got {gates.shape}"
            )
    if trunk is None:
        trunk = run_trunk(model, params, carry, stream, train=train, dtype=dtype, mask=mask)
    if carry.stats is not None:
        carry = carry._replace(stats=trunk.stats)
    carry = _promoted(carry, stream, params)

    told = None
    if carry.condition is not None and cost_weight is not None:
        if cost_weight.shape != (num_steps, stream.shape[0]):
            raise ValueError(
                f"cost_weight: expected shape [T, B] with T = {num_steps}, B = {stream.shape[0]}; "
                f"got {cost_weight.shape}"
            )
        told = jnp.log(cost_weight)[..., None].astype(carry.condition.dtype)

    def body(carry: Carry, now: tuple[Any, ...]) -> tuple[Carry, Step]:
        trunk_t, gates_t, mask_t, told_t = now
        if told_t is not None:
            carry = carry._replace(condition=told_t)
        forced = None if gates_t is None else (lambda gamma, key: gates_t)

        def run(live: jax.Array) -> Output:
            return join(
                model.net,
                params["net"],
                live,
                trunk_t,
                stats=carry.stats,
                last=carry.last,
                train=train,
                dtype=dtype,
                mask=mask_t,
            )

        return _step(model, params, carry, run, key, forced or policy, mask_t)

    if written_out is None:
        written_out = train and _is_slow_in_a_loop(model.net)
    body_of = jax.checkpoint(body) if remat else body
    return jax.lax.scan(body_of, carry, (trunk.values, gates, mask, told), unroll=written_out)


def run_trunk(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    stream: jax.Array,
    *,
    train: bool = False,
    dtype: DType = None,
    mask: jax.Array | None = None,
) -> Trunk:
    """What all rollouts of a stream have in common; arguments as of `unroll`."""
    return trunk_edges(
        model.net,
        params["net"],
        stream,
        num_steps=_num_steps(model, stream),
        hop=model.hop,
        stats=carry.stats,
        train=train,
        dtype=dtype,
        mask=mask,
    )


def _is_slow_in_a_loop(net: Net) -> bool:
    """Whether training should write the scan out: where convolutions run in it, on a CPU.

    Their gradient inside a loop is some 20 times slower there (jax issue 12868).
    """
    heavy = any(len(net.shapes[edge.source]) > 1 for edge in net.edges if in_join(net, edge))
    return heavy and jax.default_backend() == "cpu"


def _step(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    run: Callable[[jax.Array], Output],
    key: jax.Array,
    policy: Policy,
    mask: jax.Array | None,
) -> tuple[Carry, Step]:
    """Decide, run the live edges, advance the state."""
    controller, told = params["controller"], carry.condition
    gamma = gamma_of(model.controller, model.net, controller, carry.z, told)
    # An architecture is a sample, not a function of the weights: its gradient is the score's.
    gates = jax.lax.stop_gradient(policy(gamma, jax.random.fold_in(key, carry.t)))
    live = prune(model.net, gates)
    logits, features, stats, last = run(live)
    z = advance(model.controller, controller, carry.z, features, told)
    # A state keeps its type, whatever the network computes in.
    z, last = jax.tree.map(
        lambda new, old: _choose(mask, new.astype(old.dtype), old),
        (z, last),
        (carry.z, carry.last or last),
    )
    log_prob = gates_lib.log_prob(gates, gamma)
    out = Step(logits, features, gamma, gates, live, log_prob, carry.z)
    if carry.stats is not None:
        carry = carry._replace(stats=stats)
    if carry.last is not None:
        carry = carry._replace(last=last)
    return carry._replace(z=z, t=carry.t + 1), out


def _promoted(carry: Carry, x: jax.Array, params: dict[str, Any]) -> Carry:
    """The carry with states as precise as what advances them: input and weights."""
    weights = jax.tree.leaves((params["net"], params["controller"]))
    dtype = jnp.result_type(carry.z, x, *weights)
    z, condition, last = jax.tree.map(
        lambda state: state.astype(dtype), (carry.z, carry.condition, carry.last)
    )
    return carry._replace(z=z, condition=condition, last=last)


def _choose(mask: jax.Array | None, new: jax.Array, old: jax.Array) -> jax.Array:
    """new [B, ...] where mask [B] holds."""
    if mask is None:
        return new
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


def _num_steps(model: Sanas, stream: jax.Array) -> int:
    """T; ValueError for what is no stream of the model."""
    shape = jnp.shape(stream)
    rest = tuple(model.net.input_shape[1:])
    if len(shape) != len(rest) + 2 or shape[2:] != rest or shape[1] < model.window:
        expected = ", ".join(map(str, rest))
        raise ValueError(
            f"stream: expected shape [B, frames ≥ {model.window}, {expected}], got {shape}"
        )
    return model.num_steps(shape[1])
