"""Γ and the live edges of a step in ONNX: `controller.gamma_of` and `graph.prune`.

What does not depend on a gate is known when the graph is written and needs no node.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.controller import gate_head
from sanas_jax.export.onnx_ops import translate
from sanas_jax.export.onnx_scope import Scope, Value
from sanas_jax.graph import Net
from sanas_jax.rollout import Sanas, init_carry

# Whether an edge runs: known beforehand, or the name of a bool [1].
On = bool | str


def gates_of(
    scope: Scope, model: Sanas, params: dict[str, Any], *, static: bool
) -> tuple[dict[str, On], Value]:
    """The most probable architecture (all on, if `static`) by edge, and Γ [E], from the state."""
    net, carry = model.net, init_carry(model, 1, 1.0)
    head = {"params": params["controller"]["head"]}
    seen = {"z": carry.z} | ({} if carry.condition is None else {"log_price": carry.condition})

    def logits(*seen: jax.Array) -> jax.Array:
        out = gate_head(model.controller, net).apply(head, jnp.concatenate(seen, -1))
        assert isinstance(out, jax.Array)
        return out[0]

    gates: dict[str, On] = {edge.name: True for edge in net.edges}
    if not net.gated:
        return gates, np.ones(len(net.edges), np.float32)
    gated = scope.name(translate(scope, logits, [x.shape for x in seen.values()], list(seen)))
    if not static:
        each = split(scope, scope.op("Greater", gated, np.float32(0)), len(net.gated))
        gates |= {net.edges[e].name: gate for e, gate in zip(net.gated, each, strict=True)}
    probs = scope.op("Concat", scope.op("Sigmoid", gated), np.ones(1, np.float32), axis=0)
    place = {e: i for i, e in enumerate(net.gated)}
    order = np.array([place.get(e, len(net.gated)) for e in range(len(net.edges))])
    return gates, scope.op("Gather", probs, order)


def live_edges(scope: Scope, net: Net, gates: dict[str, On]) -> dict[str, On]:
    """`graph.prune` on gates by edge."""
    both, either = partial(_both, scope), partial(_either, scope)
    reach: dict[str, On] = {layer.name: layer.name == net.input for layer in net.layers}
    reused: dict[str, On] = {}
    for layer in net.layers[1:]:
        for edge in net.incoming[layer.name]:
            reach[layer.name] = either(
                reach[layer.name], both(gates[edge.name], reach[edge.source])
            )
        if layer.name in net.reuse:
            gate, reached = gates[net.reuse[layer.name].name], reach[layer.name]
            nothing = not reached if isinstance(reached, bool) else scope.op("Not", reached)
            reused[layer.name] = both(gate, nothing)
            reach[layer.name] = either(reached, gate)
    need: dict[str, On] = {layer.name: layer.name in net.read_layers for layer in net.layers}
    live: dict[str, On] = {}
    for layer in reversed(net.layers[1:]):
        for edge in net.incoming[layer.name]:
            needed = both(gates[edge.name], need[layer.name])
            need[edge.source] = either(need[edge.source], needed)
            live[edge.name] = both(needed, reach[edge.source])
        if layer.name in net.reuse:
            live[net.reuse[layer.name].name] = both(need[layer.name], reused[layer.name])
    return {edge.name: live[edge.name] for edge in net.edges}


def split(scope: Scope, vector: str, parts: int) -> list[str]:
    """[n] → n vectors of one entry each."""
    return scope.ops("Split", vector, outputs=parts, axis=0, num_outputs=parts)


def _both(scope: Scope, one: On, other: On) -> On:
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return one if one == other else scope.op("And", one, other)


def _either(scope: Scope, one: On, other: On) -> On:
    if isinstance(one, bool):
        return True if one else other
    if isinstance(other, bool):
        return True if other else one
    return one if one == other else scope.op("Or", one, other)
