"""BSN: inputs that are no streams. One Γ for all of them, one pass of what is drawn from it.

The controller is asked once, before it has seen anything: Γ is the bias of its head, a logit for
each gated edge, and of a controller that is told a price a function of that. Nothing is handed on
from one input to the next: no state, and no value to reuse.
"""

from __future__ import annotations

from typing import Any

import jax

from sanas_jax import gates as gates_lib
from sanas_jax.controller import gamma_of
from sanas_jax.forward import Trunk, check_input, join, trunk_edges
from sanas_jax.graph import prune
from sanas_jax.rollout import Carry, Policy, Sanas, Step
from sanas_jax.running import DType


def run_static(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    x: jax.Array,
    key: jax.Array,
    *,
    policy: Policy = gates_lib.sample,
    gates: jax.Array | None = None,
    train: bool = False,
    dtype: DType = None,
    trunk: Trunk | None = None,
    mask: jax.Array | None = None,
    remat: bool = False,
) -> tuple[Carry, Step]:
    """An architecture for each input, drawn from Γ and run.

    Args:
      model: static description; its hop means nothing here.
      params: from `init_model`.
      carry: from `init_carry`.
      x: [B, *net.input_shape].
      key: of the draw.
      policy, train, dtype: as of `unroll`.
      gates: [B, E] forced architectures in place of the policy's.
      trunk: of `static_trunk` on the same inputs, where several architectures share it.
      mask: [B] bool, inputs that may enter batch statistics; None: all.
      remat: compute what is inside of the pass again for its gradient, in place of keeping it.

    Returns:
      The carry with running statistics after this pass, and `Step` with fields [B, ...].
    """
    net = model.net
    if trunk is None:
        trunk = static_trunk(model, params, carry, x, train=train, dtype=dtype, mask=mask)
    gamma = gamma_of(model.controller, net, params["controller"], carry.z, carry.condition)
    # An architecture is a sample, not a function of the weights: its gradient is the score's.
    gates = jax.lax.stop_gradient(policy(gamma, key)) if gates is None else gates
    live = prune(net, gates)

    def rest(params: Any, live: jax.Array, trunk: Trunk) -> Any:
        values = {name: value[0] for name, value in trunk.values.items()}
        return join(
            net, params, live, values, stats=trunk.stats, train=train, dtype=dtype, mask=mask
        )

    out = (jax.checkpoint(rest) if remat else rest)(params["net"], live, trunk)
    if carry.stats is not None:
        carry = carry._replace(stats=out.stats)
    log_prob = gates_lib.log_prob(gates, gamma)
    return carry, Step(out.logits, out.features, gamma, gates, live, log_prob, carry.z)


def static_trunk(
    model: Sanas,
    params: dict[str, Any],
    carry: Carry,
    x: jax.Array,
    *,
    train: bool = False,
    dtype: DType = None,
    mask: jax.Array | None = None,
) -> Trunk:
    """What all architectures have in common on inputs [B, *net.input_shape]; args of `run_static`.

    Values are [1, B, ...].
    """
    check_input(model.net, x)
    return trunk_edges(
        model.net,
        params["net"],
        x,
        num_steps=1,
        hop=model.window,
        stats=carry.stats,
        train=train,
        dtype=dtype,
        mask=None if mask is None else mask[None],
    )
