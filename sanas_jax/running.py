"""The blocks of one pass: each run where it is read, with batch statistics of what counts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from sanas_jax.graph import Edge, Net
from sanas_jax.graph.tracing import traced
from sanas_jax.kernels.sliding import Cut, seen

Params = dict[str, Any]
Stats = dict[str, Any]
DType = type[jnp.bfloat16] | None


class Blocks:
    """Runs the blocks of one pass, and collects the statistics that they update.

    `live` [E] or [B, E] says from which rows; None in the trunk, which knows no gates. `mask` says
    which rows count at all: [B], of a trunk [T, B]; None: all. `dtype` is that of the arithmetic;
    running statistics keep theirs.
    """

    def __init__(
        self,
        net: Net,
        params: Params,
        live: jax.Array | None,
        stats: Stats | None,
        train: bool,
        dtype: DType = None,
        mask: jax.Array | None = None,
    ) -> None:
        self._net, self._params, self._live, self._train = net, params, live, train
        self._dtype, self._mask = dtype, mask
        self.stats = dict(stats or {})
        if set(self.stats) != net.with_stats:
            raise ValueError(
                f"stats: expected running statistics of {len(net.with_stats)} edges (init_stats), "
                f"got {len(self.stats)}"
            )

    def run(self, edge: Edge, x: jax.Array, cut: Cut | None = None) -> jax.Array:
        """An edge's block on x [B, ...]; outside the trunk a `dtype` ends with the block.

        In the trunk x is of windows [B·T, ...], or of rows that `cut` makes windows of its output.
        """
        if self._live is None:
            return self._run(edge, x, self._dtype, cut)
        heavy = len(self._net.shapes[edge.source]) > 1
        value = self._run(edge, x, self._dtype if heavy else None)
        return value if self._dtype is None else value.astype(x.dtype)

    def run_gated(self, edge: Edge, gate: jax.Array, x: jax.Array) -> jax.Array:
        """An edge's block on x [B, ...] where its gate [] or [B] is on, and 0 where it is off.

        A block may have no value and no slope at what a dead layer gives (an L2 norm at 0). Where
        the gate is off nobody reads it, but its gradient would be 0 · ∞: there it sees ones.
        """
        if edge.gated and edge.name not in self._net.with_stats:
            x = jnp.where(_beside(gate, x) > 0, x, jnp.ones((), x.dtype))
        return gated(gate, self.run(edge, x))

    def _run(self, edge: Edge, x: jax.Array, dtype: DType, cut: Cut | None = None) -> jax.Array:
        params = cast(self._params.get(edge.name, {}), dtype)
        x = cast(x, dtype)
        if edge.name not in self.stats or not self._train:
            return run_edge(edge, {edge.name: params}, self.stats, x)
        variables = {"params": params, "batch_stats": self.stats[edge.name]}
        live = self._counted(edge, x, cut)
        if live is None:
            value, updated = edge.block.apply(variables, x, train=True, mutable=["batch_stats"])
            self._keep(edge, updated, True)
            return value
        value, updated = edge.block.apply(
            variables, x, train=True, live=live, mutable=["batch_stats"]
        )
        self._keep(edge, updated, live.any())
        return value

    def _keep(self, edge: Edge, updated: Any, counts: jax.Array | bool) -> None:
        """Take over running statistics where a row counted; they keep their type."""
        self.stats[edge.name] = jax.tree.map(
            lambda new, old: jnp.where(counts, new.astype(old.dtype), old),
            updated["batch_stats"],
            self.stats[edge.name],
        )

    def _counted(self, edge: Edge, x: jax.Array, cut: Cut | None) -> jax.Array | None:
        """What of x enters batch statistics: [B], or [B, rows] of the output; None: everything."""
        mask = self._mask
        if edge.name in self._net.with_live_stats:
            assert self._live is not None  # such an edge is never in the trunk
            live = jnp.broadcast_to(self._live[..., self._net.index[edge.name]] > 0, x.shape[:1])
            return live if mask is None else live & mask
        if mask is None or self._live is not None:
            return mask
        if cut is None:
            return mask.T.reshape(-1)
        return seen(mask.T, cut, traced(edge.block, x.shape[1:]).shape[0])

    def run_windows(self, edge: Edge, stream: jax.Array, cut: Cut) -> jax.Array:
        """A block that cuts its windows itself, [B·T, ...], on the rows of a stream [B, ...]."""
        variables = {"params": cast(self._params.get(edge.name, {}), self._dtype)}
        value = edge.block.apply(variables, stream, cut=cut)
        assert isinstance(value, jax.Array)  # nothing mutable, so no second result
        return value

    def run_dead(self, edge: Edge, x: jax.Array) -> jax.Array:
        """An edge's block on what no row of the data made: with its running statistics."""
        return run_edge(edge, self._params, self.stats, x)


def cast(tree: Any, dtype: DType) -> Any:
    """Arrays in `dtype`, if there is one."""
    return tree if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def run_edge(edge: Edge, params: Params, stats: Stats, x: jax.Array) -> jax.Array:
    """An edge's block on x [B, ...] as it is used, with running statistics where it keeps any."""
    variables = {"params": params.get(edge.name, {})}
    if edge.name in stats:
        variables["batch_stats"] = stats[edge.name]
    value = edge.block.apply(variables, x)
    assert isinstance(value, jax.Array)  # nothing mutable, so no second result
    return value


def gated(gate: jax.Array, value: jax.Array) -> jax.Array:
    """gate [] or [B] times value [B, ...]; 0 where it is off, whatever the value."""
    gate = _beside(gate, value)
    return jnp.where(gate > 0, gate * value, 0)


def _beside(gate: jax.Array, value: jax.Array) -> jax.Array:
    """gate [] or [B] with axes of one for the rest of value [B, ...]."""
    return gate.reshape(gate.shape + (1,) * (value.ndim - gate.ndim))
