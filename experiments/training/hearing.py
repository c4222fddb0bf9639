"""What a trained network says of a batch of signals, all at once."""

from __future__ import annotations

from typing import Any

import jax

from sanas_jax.data.features import Frontend, extract
from sanas_jax.rollout import Policy, Sanas, init_carry, unroll


def hear(
    model: Sanas,
    params: Any,
    frontend: Frontend,
    signals: jax.Array,
    policy: Policy,
    price: float | None = None,
) -> jax.Array:
    """Posteriors [T, B, K] of every window of signals [B, samples], by a policy that draws nothing.

    `price`: λ that a conditioned controller is told.
    """
    frames = extract(frontend, signals)[..., None]
    carry = init_carry(model, len(signals), price, params.get("stats"))
    _, out = unroll(model, params, carry, frames, jax.random.key(0), policy=policy)
    return jax.nn.softmax(out.logits)
