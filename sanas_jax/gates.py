"""Γ, the distribution over architectures, and H, an architecture drawn from it.

Each edge is an independent Bernoulli variable (BSN, eq. 4; SANAS, section 2.2). Everything is
computed from logits, so that no probability is clipped: an edge with logit +inf is always on and
has log-probability 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.graph import Net, check_gates


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gamma:
    """Independent Bernoulli variables, one per edge.

    Fields:
      free: [..., E] logits, of which +inf is always on; where `gated` is given, [..., G] of these
        edges alone, so that what is trained is finite (`init_gamma`).
      gated: for each of E edges whether `free` has its logit; the others are always on.
    """

    free: jax.Array
    gated: tuple[bool, ...] | None = field(default=None, metadata={"static": True})

    @property
    def logits(self) -> jax.Array:
        """[..., E], +inf where an edge is always on."""
        if self.gated is None:
            return self.free
        free = jnp.asarray(self.free)
        everywhere = jnp.full((*free.shape[:-1], len(self.gated)), jnp.inf, free.dtype)
        return everywhere.at[..., np.flatnonzero(self.gated)].set(free)

    @property
    def probs(self) -> jax.Array:
        """Γ itself: probability that each edge is on, [..., E]."""
        return jax.nn.sigmoid(self.logits)


def as_gamma(gamma: Gamma | jax.Array) -> Gamma:
    """A `Gamma` as it is; an array [..., E] is read as probabilities, 0 and 1 among them."""
    if isinstance(gamma, Gamma):
        return gamma
    probs = jnp.asarray(gamma, jnp.float32)
    # logit' is infinite at 0 and 1: of what is certain the gradient is 0, and no nan.
    certain = (probs == 0) | (probs == 1)
    logits = jax.scipy.special.logit(jnp.where(certain, 0.5, probs))
    return Gamma(jnp.where(certain, jnp.where(probs == 1, jnp.inf, -jnp.inf), logits))


def init_gamma(net: Net, probability: float = 0.953) -> Gamma:
    """A static Γ with the same probability on every gated edge and 1 on the others.

    Its one array is of the gated edges: an optimiser never meets an infinite logit.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability: expected a number in (0, 1), got {probability}")
    logit = math.log(probability) - math.log1p(-probability)
    return Gamma(
        jnp.full(len(net.gated), logit, jnp.float32), tuple(edge.gated for edge in net.edges)
    )


def sample(gamma: Gamma | jax.Array, key: jax.Array) -> jax.Array:
    """Draw H ~ Bernoulli(Γ): [..., E] in {0., 1.}, of the logits' type."""
    logits = as_gamma(gamma).logits
    # u < σ(logit); a logistic variable would turn into nan beside an infinite logit. In float32
    # whatever the logits are: the same draws, and probabilities that bfloat16 can't tell apart.
    probs = jax.nn.sigmoid(jnp.asarray(logits, jnp.float32))
    uniform = jax.random.uniform(key, logits.shape, jnp.float32)
    return jnp.asarray(uniform < probs, logits.dtype)


def antithetic(gates: jax.Array, gamma: Gamma | jax.Array, key: jax.Array) -> jax.Array:
    """Gates 1[1 − u < p] where `gates` were 1[u < p]: drawn from Γ too, and as different as can be.

    u is drawn anew, given the gates [..., E]: it is uniform on [0, p) where a gate is on, on [p, 1)
    where it is off.
    """
    given = as_gamma(gamma).logits
    logits = jnp.asarray(given, jnp.float32)
    # P(h~ = 1 | h = 1) = max(0, 2p − 1)/p = max(0, 1 − e^−φ);  P(h~ = 1 | h = 0) = min(1, e^φ).
    stays = 1 - jnp.exp(-jnp.maximum(logits, 0))
    turns = jnp.exp(jnp.minimum(logits, 0))
    uniform = jax.random.uniform(key, logits.shape, jnp.float32)
    return jnp.asarray(uniform < jnp.where(gates > 0.5, stays, turns), given.dtype)


def mode(gamma: Gamma | jax.Array, key: jax.Array | None = None) -> jax.Array:
    """The most probable architecture: on where p > 0.5. `key` is ignored (same form as sample)."""
    del key
    gamma = as_gamma(gamma)
    return jnp.asarray(gamma.logits > 0, gamma.logits.dtype)


def all_on(gamma: Gamma | jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Every edge on: the plain super-network, used to train and run the static baselines."""
    del key
    return jnp.ones_like(as_gamma(gamma).logits)


def edge_log_prob(gates: jax.Array, gamma: Gamma | jax.Array) -> jax.Array:
    """Log-probability of each gate, [..., E]: log Γ where on, log(1 − Γ) where off."""
    logits = as_gamma(gamma).logits
    signed = jnp.where(gates > 0.5, logits, -logits)
    # The inner `where` keeps the gradient finite beside +inf (always on, log-probability 0).
    certain = jnp.isposinf(signed)
    return jnp.where(certain, 0.0, jax.nn.log_sigmoid(jnp.where(certain, 0.0, signed)))


def log_prob(gates: jax.Array, gamma: Gamma | jax.Array) -> jax.Array:
    """Log-probability of an architecture, [...]."""
    return edge_log_prob(gates, gamma).sum(-1)


def entropy(gamma: Gamma | jax.Array) -> jax.Array:
    """Entropy of the architecture in nats, [...]."""
    gamma = as_gamma(gamma)
    certain = jnp.isinf(gamma.logits)
    logits = jnp.where(certain, 0.0, gamma.logits)
    p = jax.nn.sigmoid(logits)
    each = -(p * jax.nn.log_sigmoid(logits) + (1 - p) * jax.nn.log_sigmoid(-logits))
    return jnp.where(certain, 0.0, each).sum(-1)


def sample_gates(gamma: Gamma | jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw an architecture and its log-probability: gates [..., E], log_prob [...]."""
    gates = sample(gamma, key)
    return gates, log_prob(gates, gamma)


def check_gamma(net: Net, gamma: Gamma | jax.Array) -> Gamma:
    """`as_gamma`, raising ValueError unless there is one entry per edge."""
    gamma = as_gamma(gamma)
    check_gates(net, gamma.logits, "gamma")
    return gamma
