"""Which edges are live, as a form in another language: `graph.prune`, written out.

What does not depend on a gate is known when the graph is written and needs no operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sanas_jax.graph import Net

# Whether an edge runs: known beforehand, or the name of a value there.
On = bool | str
# Writes "And", "Or" of two names, or "Not" of one; the name of what comes of it.
Write = Callable[..., str]


def live_edges(write: Write, net: Net, gates: Mapping[str, On]) -> dict[str, On]:
    """`graph.prune` on gates by edge."""
    reach: dict[str, On] = {layer.name: layer.name == net.input for layer in net.layers}
    reused: dict[str, On] = {}

    def both(one: On, other: On) -> On:
        if isinstance(one, bool):
            return other if one else False
        if isinstance(other, bool):
            return one if other else False
        return one if one == other else write("And", one, other)

    def either(one: On, other: On) -> On:
        if isinstance(one, bool):
            return True if one else other
        if isinstance(other, bool):
            return True if other else one
        return one if one == other else write("Or", one, other)

    for layer in net.layers[1:]:
        for edge in net.incoming[layer.name]:
            reach[layer.name] = either(
                reach[layer.name], both(gates[edge.name], reach[edge.source])
            )
        if layer.name in net.reuse:
            gate, reached = gates[net.reuse[layer.name].name], reach[layer.name]
            nothing = not reached if isinstance(reached, bool) else write("Not", reached)
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
