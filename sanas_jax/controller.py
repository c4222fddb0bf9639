"""The recurrent controller (SANAS, section 2.2): state z_t → Γ_t, and z_{t+1} from the features.

Γ_t = sigmoid(W z_t + b),    z_{t+1} = cell(z_t, features_t)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sanas_jax.costs import count_macs
from sanas_jax.gates import Gamma
from sanas_jax.graph import Net


@dataclass(frozen=True)
class Controller:
    """Static description: any flax recurrent cell whose state is one vector, and a gate head.

    Fields:
      cell: `nn.GRUCell(Z)` as in the paper, `nn.SimpleCell(Z)` for a plain RNN.
      bias: initial logit of every gate; 3 starts with p = 0.953, nearly the whole network.
    """

    cell: nn.RNNCellBase = field(default_factory=lambda: nn.GRUCell(100))
    bias: float = 3.0


def gate_head(controller: Controller, net: Net) -> nn.Dense:
    """The linear layer z [B, Z] → logits of the gated edges."""
    return nn.Dense(len(net.gated), bias_init=nn.initializers.constant(controller.bias))


def init_controller(controller: Controller, net: Net, key: jax.Array) -> dict[str, Any]:
    """Parameters of cell and head."""
    cell_key, head_key = jax.random.split(key)
    features = jnp.zeros((1, math.prod(net.shapes[net.features])))
    state = initial_state(controller, net, 1)
    return {
        "cell": controller.cell.init(cell_key, state, features)["params"],
        "head": gate_head(controller, net).init(head_key, state)["params"],
    }


def initial_state(controller: Controller, net: Net, batch: int) -> jax.Array:
    """z_0 = 0, shape [B, Z]: the first architecture of a stream depends on the head's bias only."""
    features = (batch, math.prod(net.shapes[net.features]))
    state = jax.eval_shape(
        lambda key: controller.cell.initialize_carry(key, features), jax.random.key(0)
    )
    if not isinstance(state, jax.ShapeDtypeStruct):
        raise ValueError(
            f"controller: expected a cell whose state is one array, got {type(state).__name__}"
        )
    return jnp.zeros(state.shape, state.dtype)


def gamma_of(controller: Controller, net: Net, params: dict[str, Any], z: jax.Array) -> Gamma:
    """Γ_t from the state z_t [B, Z]; always-on edges have logit +inf."""
    gated = gate_head(controller, net).apply({"params": params["head"]}, z)
    assert isinstance(gated, jax.Array)
    logits = jnp.full((*z.shape[:-1], len(net.edges)), jnp.inf, gated.dtype)
    return Gamma(logits.at[..., jnp.array(net.gated, int)].set(gated))


def advance(
    controller: Controller, params: dict[str, Any], z: jax.Array, features: jax.Array
) -> jax.Array:
    """z_{t+1} from z_t [B, Z] and the features of step t [B, ...]."""
    flat = features.reshape(features.shape[0], -1)
    new_state, _ = controller.cell.apply({"params": params["cell"]}, z, flat)
    return new_state


def controller_macs(controller: Controller, net: Net) -> int:
    """Multiply-accumulates of one controller step: cell and gate head."""
    params = jax.eval_shape(lambda key: init_controller(controller, net, key), jax.random.key(0))
    z = jax.eval_shape(lambda: initial_state(controller, net, 1))
    features = jax.ShapeDtypeStruct((1, *net.shapes[net.features]), jnp.float32)

    def one_step(params: dict[str, Any], z: jax.Array, features: jax.Array) -> Any:
        return gamma_of(controller, net, params, z), advance(controller, params, z, features)

    return count_macs(one_step, params, z, features)
