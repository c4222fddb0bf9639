"""Cost of a stream whose runtime remembers: a convolution computes only the rows that are new.

Windows overlap, so of a trunk edge that runs over the rows of the stream only `hop / stride` rows
of a window are new at each step; one that was off catches up when it is next needed, and computes
no more than a window needs (`rows_to_begin`, docs/method.md). The cost of a step thus depends on
the gates of those before it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.costs.architecture import StreamCost, edge_macs
from sanas_jax.graph import Net, prune
from sanas_jax.graph.trunk import row_strides, rows_to_begin


def fresh_macs(net: Net, hop: int) -> dict[str, float]:
    """MACs of each edge for the rows of one step that no step before has computed."""
    return {name: fresh for name, (fresh, _) in _fresh_and_begin(net, hop).items()}


def _fresh_and_begin(net: Net, hop: int) -> dict[str, tuple[float, float]]:
    """MACs of each edge for the new rows of a step, and for those that it begins anew with."""
    strides, out = row_strides(net, hop), {}
    for name, macs in edge_macs(net).items():
        fresh = begin = rows = 1
        if name in strides:
            rows = net.shapes[net.edges[net.index[name]].target][0]
            fresh = min(rows, hop // strides[name])
            begin = rows_to_begin(rows, fresh)
        out[name] = (macs * fresh / rows, macs * begin / rows)
    return out


def incremental_macs(net: Net, hop: int) -> StreamCost:
    """MACs of each step of a stream for a runtime that keeps the rows it has computed.

    Args:
      net: static description.
      hop: frames between the starts of two windows.

    Returns:
      The cost of the live edges; the first step comes after a silence without end.
    """
    of_edges = _fresh_and_begin(net, hop)
    fresh, begin = jnp.array([of_edges[edge.name] for edge in net.edges], jnp.float32).T

    def steps(gates: jax.Array) -> jax.Array:
        def now(missed: jax.Array, live_t: jax.Array) -> tuple[jax.Array, jax.Array]:
            price = jnp.sum(live_t * jnp.minimum(begin, fresh * missed), -1)
            return jnp.where(live_t > 0, 1.0, missed + 1.0), price

        live = jnp.asarray(prune(net, gates), jnp.float32)
        never = jnp.full(live.shape[1:], np.inf, jnp.float32)
        # 0 · ∞ of an edge without cost is no number: such edges have missed nothing.
        never = jnp.where(fresh > 0, never, 1.0)
        return jax.lax.scan(now, never, live)[1]

    return StreamCost(steps, sum(fresh_macs(net, hop).values()))
