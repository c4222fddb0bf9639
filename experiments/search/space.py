"""Architectures to choose from: drawn at random under a budget, or a few gates from another.

An architecture is the set of its live edges, so that two sets of gates that compute the same are
one. Only those that reach the output are any; edges that reuse a value of the step before are off,
since what never changes has nothing to reuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.costs import Cost, StreamCost, charge, inconsistent
from sanas_jax.graph import Net, prune

DRAWS = 512  # architectures that are looked at together
MOST_ROUNDS = 100  # of draws, before it is believed that there are no more
MOST_FLIPS = 3  # gates by which a child differs from its parent; a way around takes two


class Architecture(NamedTuple):
    """Live edges [E] bool, and their cost."""

    live: np.ndarray
    cost: float


@dataclass(frozen=True)
class Space:
    """The architectures of a network.

    Fields:
      net: super-network.
      cost: what is charged; of a `StreamCost`, a step after others of the same architecture.
      unit: what a number of the cost is multiplied by.
    """

    net: Net
    cost: Cost | StreamCost
    unit: float = 1.0

    @cached_property
    def free(self) -> np.ndarray:
        """Indices of the edges that may be on or off."""
        return np.array([e for e in self.net.gated if not self.net.edges[e].reuses], int)

    @cached_property
    def _looked(self) -> Callable[[np.ndarray], tuple[jax.Array, jax.Array, jax.Array]]:
        invalid = inconsistent(self.net)

        def look(gates: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            live = prune(self.net, gates)
            cost = charge(self.cost, jnp.stack([live, live]))[-1]
            return live > 0, cost, invalid(gates) == 0

        looked: Callable[[np.ndarray], Any] = jax.jit(look)
        return looked

    def look(self, gates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of gates [N, E]: live edges [N, E], costs [N], and whether the output is reached [N]."""
        rows = np.zeros((-(-len(gates) // DRAWS) * DRAWS, gates.shape[-1]), np.float32)
        rows[: len(gates)] = gates
        parts = [self._looked(rows[i : i + DRAWS]) for i in range(0, len(rows), DRAWS)]
        live, cost, valid = (np.concatenate(p)[: len(gates)] for p in zip(*parts, strict=True))
        return live, cost * self.unit, valid

    def architecture(self, live: np.ndarray) -> Architecture:
        """One with its cost; ValueError if it does not reach the output."""
        live, cost, valid = (found[0] for found in self.look(np.asarray(live)[None]))
        if not valid:
            raise ValueError("expected an architecture that reaches the output, got another")
        return Architecture(live, float(cost))

    def names(self, live: np.ndarray) -> list[str]:
        """Of its live edges."""
        return [name for name, on in zip(self.net.index, live, strict=True) if on]


def within(cost: float | np.ndarray, budget: float) -> bool | np.ndarray:
    """Whether a cost keeps a budget; costs are summed in float32."""
    return cost <= budget * (1 + 1e-5)


def random_architectures(
    space: Space, budget: float, count: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `count` different architectures within a budget, fewer where there are no more.

    All gates of one are on with the same probability, which is itself drawn, between 0 and 1, so
    that there are some of every size. Every architecture can come.

    Raises ValueError if none is found.
    """
    found: dict[bytes, Architecture] = {}
    for _ in range(MOST_ROUNDS):
        density = rng.uniform(size=(DRAWS, 1))
        gates = np.zeros((DRAWS, len(space.net.edges)), np.float32)
        gates[:, space.free] = rng.uniform(size=(DRAWS, len(space.free))) < density
        live, cost, valid = space.look(gates)
        for row in np.flatnonzero(valid & within(cost, budget)):
            one = Architecture(live[row], float(cost[row]))
            found.setdefault(one.live.tobytes(), one)
            if len(found) == count:
                return list(found.values())
    if not found:
        raise ValueError(
            f"--budgets: expected one that some architecture keeps, got {budget:,.6g}: none of "
            f"{MOST_ROUNDS * DRAWS:,} drawn at random does"
        )
    return list(found.values())


def mutated(
    space: Space, parent: Architecture, budget: float, rng: np.random.Generator
) -> Architecture:
    """Another architecture within the budget, up to `MOST_FLIPS` gates from its parent, mostly one.

    The parent itself where `DRAWS` attempts find no other.
    """
    number = np.minimum(rng.geometric(0.5, size=(DRAWS, 1)), MOST_FLIPS)
    order = rng.uniform(size=(DRAWS, len(space.free))).argsort(1)
    flips = np.zeros((DRAWS, len(space.net.edges)), bool)
    flips[:, space.free] = order < number
    live, cost, valid = space.look(parent.live ^ flips)
    different = (live != parent.live).any(-1)
    fit = np.flatnonzero(valid & within(cost, budget) & different)
    return Architecture(live[fit[0]], float(cost[fit[0]])) if len(fit) else parent
