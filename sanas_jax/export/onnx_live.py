"""Γ and the gates of a step in ONNX: `controller.gamma_of`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.controller import gate_head
from sanas_jax.export.live import On
from sanas_jax.export.onnx_ops import translate
from sanas_jax.export.onnx_scope import Scope, Value
from sanas_jax.rollout import Sanas, init_carry


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


def split(scope: Scope, vector: str, parts: int) -> list[str]:
    """[n] → n vectors of one entry each."""
    return scope.ops("Split", vector, outputs=parts, axis=0, num_outputs=parts)
