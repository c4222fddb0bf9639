"""The recurrent controller (SANAS, section 2.2): state z_t → Γ_t, and z_{t+1} from the features.

Γ_t = sigmoid(W z_t + b),    z_{t+1} = cell(z_t, features_t)

A conditioned controller is also told what cost is worth, log λ, by cell and head, so that one set
of weights serves every price (as loss-conditional training does: Dosovitskiy & Djolonga, 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sanas_jax.gates import Gamma
from sanas_jax.graph import Net
from sanas_jax.graph.counting import count_macs


@dataclass(frozen=True)
class Controller:
    """Static description: any flax recurrent cell whose state is one vector, and a gate head.

    Fields:
      cell: `nn.GRUCell(Z)` as in the paper, `nn.SimpleCell(Z)` for a plain RNN, `Constant()` for a
        Γ that does not change along the stream.
      bias: initial logit of every gate; 3 starts with p = 0.953, nearly the whole network.
      conditioned: told the log of the price λ of each stream.
    """

    cell: nn.RNNCellBase = field(default_factory=lambda: nn.GRUCell(100))
    bias: float = 3.0
    conditioned: bool = False


class Constant(nn.RNNCellBase):
    """A state that stays 0: Γ is the head's bias, one parameter per edge, as in BSN."""

    @nn.compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The state as it was."""
        del inputs
        return carry, carry

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        """0, shape [B, 1]."""
        del rng
        return jnp.zeros((*input_shape[:-1], 1), jnp.float32)

    @property
    def num_feature_axes(self) -> int:
        """Axes of an input that are features."""
        return 1


def gate_head(controller: Controller, net: Net) -> nn.Dense:
    """The linear layer z [B, Z] → logits of the gated edges."""
    return nn.Dense(len(net.gated), bias_init=nn.initializers.constant(controller.bias))


def init_controller(controller: Controller, net: Net, key: jax.Array) -> dict[str, Any]:
    """Parameters of cell and head."""
    cell_key, head_key = jax.random.split(key)
    features = jnp.zeros((1, math.prod(net.shapes[net.features])), jnp.float32)
    state = initial_state(controller, net, 1)
    told = jnp.zeros((1, 1), jnp.float32) if controller.conditioned else None
    return {
        "cell": controller.cell.init(cell_key, state, _beside(features, told)).get("params", {}),
        "head": gate_head(controller, net).init(head_key, _beside(state, told))["params"],
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
    return jnp.zeros(state.shape, jnp.float32)


def gamma_of(
    controller: Controller,
    net: Net,
    params: dict[str, Any],
    z: jax.Array,
    condition: jax.Array | None = None,
) -> Gamma:
    """Γ_t from the state z_t [B, Z] and log λ [B, 1] if told; always-on edges have logit +inf."""
    gated = gate_head(controller, net).apply({"params": params["head"]}, _beside(z, condition))
    assert isinstance(gated, jax.Array)
    logits = jnp.full((*z.shape[:-1], len(net.edges)), jnp.inf, gated.dtype)
    return Gamma(logits.at[..., jnp.array(net.gated, int)].set(gated))


def advance(
    controller: Controller,
    params: dict[str, Any],
    z: jax.Array,
    features: jax.Array,
    condition: jax.Array | None = None,
) -> jax.Array:
    """z_{t+1} from z_t [B, Z], the features of step t [B, ...], and log λ [B, 1] if told."""
    flat = features.reshape(features.shape[0], -1)
    new_state, _ = controller.cell.apply({"params": params["cell"]}, z, _beside(flat, condition))
    return new_state


def controller_macs(controller: Controller, net: Net) -> int:
    """Multiply-accumulates of one controller step: cell and gate head."""
    params = jax.eval_shape(
        lambda key: init_controller(controller, net, key), jax.eval_shape(jax.random.key, 0)
    )
    z = jax.eval_shape(lambda: initial_state(controller, net, 1))
    features = jax.ShapeDtypeStruct((1, *net.shapes[net.features]), jnp.float32)
    told = jax.ShapeDtypeStruct((1, 1), jnp.float32) if controller.conditioned else None

    def one_step(
        params: dict[str, Any], z: jax.Array, features: jax.Array, told: jax.Array | None
    ) -> Any:
        gamma = gamma_of(controller, net, params, z, told)
        return gamma, advance(controller, params, z, features, told)

    return count_macs(one_step, params, z, features, told)


def _beside(x: jax.Array, condition: jax.Array | None) -> jax.Array:
    """x [B, ...] with log λ [B, 1] as one column more."""
    return x if condition is None else jnp.concatenate([x, condition], -1)
