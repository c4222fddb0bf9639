"""Costs of one's own, of the architectures of a network of speech: what each charges.

A cost is any function of the gates of the edges that are live: a table, a formula, or a program
that is called on the host, as a meter would be. Each is what `Objective.cost` takes.
"""

import jax
import jax.numpy as jnp

import sanas_jax as sj

NET = sj.spaces.separable(num_classes=12)
MACS = {edge: float(n) for edge, n in sj.costs.edge_macs(NET).items()}


def energy(live: jax.Array) -> jax.Array:
    """A formula, [..., E] → [...]: MACs, and a price for waking anything up but the cheapest."""
    macs = live @ jnp.array([MACS[edge.name] for edge in NET.edges])
    return macs + 50_000 * (macs > 100_000)


def measured(live) -> float:
    """A black box: Python on the host, one architecture (a NumPy array [E]) at a time."""
    return sum(macs**0.5 for on, macs in zip(live, MACS.values(), strict=True) if on)


COSTS = {
    "MACs": sj.costs.macs(NET),
    "parameters": sj.costs.params(NET),
    "bytes at the peak": sj.costs.memory(NET),
    "table": sj.costs.table(NET, {edge: 1 + macs / 1e6 for edge, macs in MACS.items()}),
    "formula": sj.costs.custom(NET, energy),
    "black box": sj.costs.custom(NET, measured, black_box=True),
}
# λ is of the same size whatever the unit, where costs are shares of the whole network's.
SHARES = {name: sj.costs.relative(NET, cost) for name, cost in COSTS.items()}


@jax.jit
def charge(key: jax.Array) -> dict[str, jax.Array]:
    """Shares [8] of the whole network's cost, of 8 architectures drawn from Γ = 1/2."""
    gamma = sj.Gamma(jnp.zeros((8, len(NET.edges))))
    gates, _ = sj.sample_gates(gamma, key)
    return {name: cost(gates) for name, cost in SHARES.items()}


if __name__ == "__main__":
    for name, shares in charge(jax.random.key(0)).items():
        print(f"{name:18}", *(f"{share:6.3f}" for share in shares))
