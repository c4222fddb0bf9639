"""Which edges of an architecture are live, and networks that keep only some edges."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.graph.net import Edge, Net


def check_gates(net: Net, gates: jax.Array, name: str = "gates") -> None:
    """Raise ValueError unless `gates` has shape [..., E]."""
    shape = jnp.shape(gates)
    if not shape or shape[-1] != len(net.edges):
        raise ValueError(
            f"{name}: expected shape [..., {len(net.edges)}], one entry per edge; got {shape}"
        )


def read_gates(net: Net, gates: jax.Array) -> jax.Array:
    """Gates [..., E] as the network reads them: an always-on edge has gate 1."""
    check_gates(net, gates)
    always = jnp.array([not edge.gated for edge in net.edges])
    return jnp.where(always, jnp.ones((), jnp.result_type(gates, jnp.float32)), gates)


def prune(net: Net, gates: jax.Array) -> jax.Array:
    """Live edges of an architecture: on, and on a path of on-edges from input to a read layer.

    An edge that reuses a layer's last value is live where the layer is needed and nothing else
    reaches it.

    Args:
      net: static description.
      gates: [..., E] in {0, 1}.

    Returns:
      [..., E] in {0, 1}; what is charged and what a skipping runtime executes.
    """
    gates = read_gates(net, gates)
    # Layers in turn, all edges of a layer at once: a compiler's time grows with the operations.
    nothing = jnp.zeros_like(gates[..., 0])
    reach = {net.input: nothing + 1}
    reused = dict.fromkeys(net.reuse, nothing)
    for layer in net.layers[1:]:
        edges = net.incoming[layer.name]
        reach[layer.name] = _any_on(net, gates, edges, [reach[edge.source] for edge in edges])
        if layer.name in net.reuse:
            on = gates[..., net.index[net.reuse[layer.name].name]]
            reused[layer.name] = on * (1 - reach[layer.name])
            reach[layer.name] = jnp.maximum(reach[layer.name], on)
    need = {name: nothing + 1 for name in net.read_layers}
    for layer in reversed(net.layers):
        if layer.name not in net.read_layers:
            edges = net.outgoing[layer.name]
            need[layer.name] = _any_on(net, gates, edges, [need[edge.target] for edge in edges])
    sources = [reused[e.target] if e.reuses else reach[e.source] for e in net.edges]
    targets = [need[edge.target] for edge in net.edges]
    return gates * jnp.stack(sources, -1) * jnp.stack(targets, -1)


def _any_on(
    net: Net, gates: jax.Array, edges: Sequence[Edge], ends: Sequence[jax.Array]
) -> jax.Array:
    """[...]: whether an edge is on whose other end, `ends` [...] in their order, counts."""
    if not edges:
        return jnp.zeros_like(gates[..., 0])
    own = gates[..., np.array([net.index[edge.name] for edge in edges])]
    return (own * jnp.stack(ends, -1)).max(-1)


def subnet(net: Net, names: Collection[str]) -> Net:
    """The network of the named edges alone.

    All on and on the same weights, it equals the masked super-network whose live edges these are.

    Args:
      net: super-network.
      names: of its live edges (`prune`); edges without a gate come along where they are reached.

    Raises ValueError for a name that is not an edge, or edges that do not lead to the output.
    """
    unknown = sorted(set(names) - set(net.index))
    if unknown:
        raise ValueError(f"edges: expected names of the network's edges, got {unknown}")
    gates = jnp.array([not edge.gated or edge.name in names for edge in net.edges], jnp.float32)
    live = prune(net, gates).tolist()
    kept = [edge for edge, on in zip(net.edges, live, strict=True) if on]
    reached = {net.input, *(edge.target for edge in kept)}
    if net.output not in reached:
        raise ValueError(f"edges: expected a path to {net.output!r}, got {sorted(names)}")
    for edge in net.edges:
        silent = edge.gated or getattr(edge.block, "keeps_zero", False)
        if not silent and edge.source not in reached and edge.target in reached:
            raise ValueError(
                f"edge {edge.name!r} has no gate and answers although nothing reaches it: "
                "no network without it gives the same outputs"
            )
    layers = tuple(layer for layer in net.layers if layer.name in reached)
    features = net.features if net.features in reached else net.output
    return Net(net.input_shape, layers, tuple(kept), net.output, features)
