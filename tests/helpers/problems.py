"""A net small enough that all its architectures can be enumerated."""

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax import costs
from sanas_jax.forward import forward, init
from sanas_jax.gates import Gamma
from sanas_jax.graph import prune
from sanas_jax.training.terms import cross_entropy, max_penalty
from tests.helpers.nets import all_gates, dag, random_like

# 5 edges, 4 gates: the last edge is always on.
NET = dag([(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)], 4, features=2, width=2, always=[4])


def black_box(live: np.ndarray) -> float:
    """Neither linear nor differentiable: number of live edges squared, odd numbers dearer."""
    count = int(live.sum())
    return 0.25 * count**2 + (0.5 if count % 2 else 0.0)


def problem(net, examples):
    """Objective, weights and Γ in double precision, for row s of the gates on example s."""
    params = jax.tree.map(lambda p: p.astype(jnp.float64), init(net, jax.random.key(0)))
    params = random_like(params, 1)
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.standard_normal((examples, 2)))
    y = jnp.asarray(rng.integers(0, 2, examples))
    logits = jnp.asarray(rng.standard_normal(len(net.edges)))
    always = jnp.array([not edge.gated for edge in net.edges])
    gamma = Gamma(jnp.where(always, jnp.inf, logits))
    cost = costs.custom(net, black_box, black_box=True)

    def objective(params, gates):
        out = forward(net, params, prune(net, gates), x)
        price = 0.3 * max_penalty(cost(gates), jnp.float32(2))
        return cross_entropy(out.logits, y) + price.astype(jnp.float64)

    return objective, params, gamma


def probability(net, gamma, gates):
    """P(H) of gates [..., E], a differentiable oracle; always-on edges count 1."""
    p = 1 / (1 + jnp.exp(-gamma.logits))
    each = gates * p.reshape((1,) * (gates.ndim - 1) + p.shape)
    each = each + (1 - gates) * (1 - p).reshape((1,) * (gates.ndim - 1) + p.shape)
    return jnp.prod(each[..., jnp.array(net.gated)], -1)


def architectures(net):
    """All architectures [2^G, E], always-on edges on."""
    masks = np.ones((2 ** len(net.gated), len(net.edges)))
    masks[:, list(net.gated)] = all_gates(len(net.gated))
    return jnp.asarray(masks)
