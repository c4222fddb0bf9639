"""The masked forward pass (BSN, Algorithm 1; SANAS, Algorithm 2), and its shared-trunk form.

`forward` is the algorithm as written, on whatever gates it is given. `trunk_edges` and `join` split
it in two for live gates: everything upstream of the first join does not depend on the gates and is
computed once for all steps of a stream; the rest is a gated sum and what follows it.

Blocks with BatchNorm keep running statistics: an argument and a result, never hidden. In training
a block normalises with the rows in which its edge is live, and only these enter its running
statistics; an edge that is live in no row keeps those it had. In the trunk, blocks with
`stats_over_stream` know nothing of gates and normalise with the whole stream. What a mask leaves
out of a batch enters no statistics anywhere.

Layers whose last value may be reused hand it on from step to step, as statistics are.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sanas_jax.gates import Gamma, check_gamma, log_prob, sample
from sanas_jax.graph import Edge, Layer, Net, check_gates, prune, read_gates
from sanas_jax.graph.tracing import traced
from sanas_jax.graph.trunk import row_strides
from sanas_jax.kernels.sliding import Cut, seen, windows

Params = dict[str, Any]
Stats = dict[str, Any]
Last = dict[str, jax.Array]
DType = type[jnp.bfloat16] | None


class Output(NamedTuple):
    """Values of the two read layers: logits [B, K], features [B, ...].

    `stats`: {edge: running statistics} after this pass; as given, unless in training. `last`:
    {layer: value [B, ...]} of those that may be reused at the next step.
    """

    logits: jax.Array
    features: jax.Array
    stats: Stats
    last: Last


class Trunk(NamedTuple):
    """What `trunk_edges` computed for all steps: {edge: [T, B, ...]}, and running statistics."""

    values: dict[str, jax.Array]
    stats: Stats


class Sampled(NamedTuple):
    """What `stochastic_forward` drew: gates and live [B, E], log_prob [B]."""

    gates: jax.Array
    live: jax.Array
    log_prob: jax.Array


def init(net: Net, key: jax.Array) -> Params:
    """Parameters of every block: {edge name: the block's params}."""
    params = {}
    for e, edge in enumerate(net.edges):
        x = jnp.zeros((1, *net.shapes[edge.source]), jnp.float32)
        variables = edge.block.init(jax.random.fold_in(key, e), x)
        params[edge.name] = variables.get("params", {})
    return params


def init_stats(net: Net) -> Stats:
    """Fresh running statistics: {edge name: its block's batch_stats}, where a block keeps any."""
    stats = {}
    for edge in net.edges:
        if edge.name in net.with_stats:
            x = jnp.zeros((1, *net.shapes[edge.source]), jnp.float32)
            stats[edge.name] = edge.block.init(jax.random.key(0), x)["batch_stats"]
    return stats


def init_last(net: Net, batch: int) -> Last:
    """What there is to reuse before the first step: zeros, as of a layer that nothing reaches."""
    return {name: jnp.zeros((batch, *net.shapes[name]), jnp.float32) for name in net.reuse}


def forward(
    net: Net,
    params: Params,
    gates: jax.Array,
    x: jax.Array,
    *,
    stats: Stats | None = None,
    last: Last | None = None,
    train: bool = False,
    mask: jax.Array | None = None,
) -> Output:
    """Run the architecture `gates` exactly as given (Algorithm 2); nothing is pruned.

    An edge that is on below a dead branch therefore sees zeros and may emit its bias; pass
    `prune(net, gates)` for the model that is charged.

    Args:
      net: static description.
      params: {edge name: params}, from `init`.
      gates: [E] or [B, E] in {0, 1}.
      x: [B, *net.input_shape].
      stats: running statistics, from `init_stats`, if any block keeps them.
      last: values of the step before that may be reused; None for zeros.
      train: normalise with the batch's live rows instead, and update `stats` by them.
      mask: [B] bool, rows that may enter batch statistics; None: all.
    """
    _check_input(net, x)
    check_gates(net, gates)
    if jnp.ndim(gates) > 2 or (jnp.ndim(gates) == 2 and gates.shape[0] != x.shape[0]):
        raise ValueError(
            f"gates: expected shape [E] or [B, E] with B = {x.shape[0]}, got {gates.shape}"
        )
    live = prune(net, gates)
    blocks = _Blocks(net, params, live, stats, train, mask=mask)
    gates = read_gates(net, gates)
    values = {net.input: x}
    last = init_last(net, x.shape[0]) if last is None else dict(last)
    for layer in net.layers[1:]:
        terms = [
            blocks.run_gated(edge, gates[..., net.index[edge.name]], values[edge.source])
            for edge in net.incoming[layer.name]
        ]
        values[layer.name] = _settle(net, layer, terms, live, last)
    return Output(values[net.output], values[net.features], blocks.stats, last)


def stochastic_forward(
    net: Net,
    params: Params,
    gamma: Gamma | jax.Array,
    key: jax.Array,
    x: jax.Array,
    *,
    stats: Stats | None = None,
    train: bool = False,
    mask: jax.Array | None = None,
) -> tuple[Output, Sampled]:
    """Draw an architecture per input from Γ ([E] or [B, E]) and run its live edges.

    `stats`, `train`, `mask`: as in `forward`.
    """
    _check_input(net, x)
    gamma = check_gamma(net, gamma)
    gamma = Gamma(jnp.broadcast_to(gamma.logits, (x.shape[0], len(net.edges))))
    gates = sample(gamma, key)
    live = prune(net, gates)
    out = forward(net, params, live, x, stats=stats, train=train, mask=mask)
    return out, Sampled(gates, live, log_prob(gates, gamma))


def trunk_edges(
    net: Net,
    params: Params,
    stream: jax.Array,
    *,
    num_steps: int,
    hop: int,
    stats: Stats | None = None,
    train: bool = False,
    dtype: DType = None,
    mask: jax.Array | None = None,
) -> Trunk:
    """Everything upstream of the joins, once, for all steps of a stream.

    Blocks that commute with shifts in time (`time_stride` divides the hop) run once over the whole
    stream; the others on the windows that they see. In training they normalise with whatever they
    run on: all positions of all streams, or all windows.

    Args:
      net: static description; its input is a window of `net.input_shape[0]` frames.
      params: {edge name: params}.
      stream: [B, frames, *net.input_shape[1:]].
      num_steps: T.
      hop: frames between the starts of two windows.
      stats, train: as in `forward`.
      dtype: that blocks compute in, and their values have until they leave the trunk; None: that of
        the weights.
      mask: [T, B] bool, the steps that count: only what their windows see enters batch statistics.

    Returns:
      Ungated outputs of the edges that leave the trunk, and of those that end in a read layer of
      the trunk; of an edge whose batch statistics are of its live rows, its input instead.
    """
    batch, outside = stream.shape[0], stream.dtype
    blocks = _Blocks(net, params, None, stats, train, dtype, mask)
    strides = row_strides(net, hop)
    values: dict[str, _Rows | _Steps] = {net.input: _Rows(_cast(stream, dtype), 1)}
    out = {}
    for layer in net.layers[1:]:
        for edge in net.incoming[layer.name]:
            if edge.source not in net.trunk:
                continue
            if edge.name in net.with_live_stats:
                shape = net.shapes[edge.source]
                steps = _to_steps(values[edge.source], shape, num_steps, hop)
                steps = steps.reshape(batch, num_steps, *shape).astype(outside)
                out[edge.name] = jnp.moveaxis(steps, 1, 0)
                continue
            stride = strides.get(edge.name)
            value = _run_over_time(net, edge, blocks, values[edge.source], num_steps, hop, stride)
            inside = layer.name in net.trunk
            if inside:
                activated = _activate(layer, value.array)
                values[layer.name] = type(value)(activated, value.stride)
            if not inside or layer.name in net.read_layers:
                steps = _to_steps(value, net.shapes[layer.name], num_steps, hop)
                steps = steps.reshape(batch, num_steps, *net.shapes[layer.name]).astype(outside)
                out[edge.name] = jnp.moveaxis(steps, 1, 0)
    return Trunk(out, blocks.stats)


def join(
    net: Net,
    params: Params,
    live: jax.Array,
    trunk: dict[str, jax.Array],
    *,
    stats: Stats | None = None,
    last: Last | None = None,
    train: bool = False,
    dtype: DType = None,
    mask: jax.Array | None = None,
) -> Output:
    """The rest of one step: gated sums of the trunk's edges and what follows them.

    Equal to `forward` on the same gates: an always-on edge below a dead layer still answers.

    Args:
      net: static description.
      params: {edge name: params}.
      live: [B, E] gates, already pruned: live implies that the source is reached, so that the gate
        of the last trunk edge stands for all the gates before it.
      trunk: {edge: [B, ...]}, one step of `trunk_edges`.
      stats, last, train, mask: as in `forward`.
      dtype: that blocks over more than a vector compute in; None: that of the weights. Sums and
        what reads them keep theirs.
    """
    blocks = _Blocks(net, params, live, stats, train, dtype, mask)
    gates = read_gates(net, live)
    dead = _dead_values(net, blocks)
    last = init_last(net, live.shape[0]) if last is None else dict(last)
    values: dict[str, jax.Array] = {}
    for layer in net.layers[1:]:
        terms = []
        for edge in net.incoming[layer.name]:
            gate, reached = gates[..., net.index[edge.name]], live[..., net.index[edge.name]]
            answers = not edge.gated and edge.source in dead  # also where its source is dead
            if edge.name in net.with_live_stats and edge.source in net.trunk:
                x = trunk[edge.name]
                if answers:
                    x = _gate(reached, x) + _gate(1 - reached, dead[edge.source])
                terms.append(_gate(gate, blocks.run(edge, x)))
            elif edge.name in trunk:
                terms.append(_gate(reached, trunk[edge.name]))
                if answers:
                    terms.append(_gate(1 - reached, blocks.run_dead(edge, dead[edge.source])))
            elif edge.source not in net.trunk:  # else inside the trunk, and nobody reads it
                terms.append(blocks.run_gated(edge, gate, values[edge.source]))
        if terms:
            values[layer.name] = _settle(net, layer, terms, live, last)
    return Output(values[net.output], values[net.features], blocks.stats, last)


def run_edge(edge: Edge, params: Params, stats: Stats, x: jax.Array) -> jax.Array:
    """An edge's block on x [B, ...] as it is used, with running statistics where it keeps any."""
    variables = {"params": params.get(edge.name, {})}
    if edge.name in stats:
        variables["batch_stats"] = stats[edge.name]
    value = edge.block.apply(variables, x)
    assert isinstance(value, jax.Array)  # nothing mutable, so no second result
    return value


def in_join(net: Net, edge: Edge) -> bool:
    """Whether `join` runs the edge's block: it is not part of the trunk."""
    outside = edge.source not in net.trunk or edge.name in net.with_live_stats
    return outside and not edge.reuses


@dataclass(frozen=True)
class _Rows:
    """A trunk value over the whole stream: [B, rows, ...], one row per `stride` input frames."""

    array: jax.Array
    stride: int


@dataclass(frozen=True)
class _Steps:
    """A trunk value per window: [B·T, ...]; `stride` is unused."""

    array: jax.Array
    stride: int = 0


def _run_over_time(
    net: Net,
    edge: Edge,
    blocks: _Blocks,
    source: _Rows | _Steps,
    num_steps: int,
    hop: int,
    stride: int | None,
) -> _Rows | _Steps:
    """One trunk edge on all steps: over the stream if that has a row each `stride` frames of its
    output, else on the windows."""
    if stride:
        cut = Cut(net.shapes[edge.target][0], hop // stride, num_steps)
        return _Rows(blocks.run(edge, source.array, cut), stride)
    if isinstance(source, _Rows) and getattr(edge.block, "cuts_windows", False):
        cut = Cut(net.shapes[edge.source][0], hop // source.stride, num_steps)
        return _Steps(blocks.run_windows(edge, source.array, cut))
    x = _to_steps(source, net.shapes[edge.source], num_steps, hop)
    return _Steps(blocks.run(edge, x))


def _to_steps(value: _Rows | _Steps, shape: tuple[int, ...], num_steps: int, hop: int) -> jax.Array:
    """A trunk value as windows [B·T, *shape]."""
    if isinstance(value, _Steps):
        return value.array
    return windows(value.array, Cut(shape[0], hop // value.stride, num_steps)).reshape(-1, *shape)


def _dead_values(net: Net, blocks: _Blocks) -> dict[str, jax.Array]:
    """Trunk layers behind a gate that is off, [1, ...]: 0, or what always-on edges make of it."""
    values: dict[str, jax.Array] = {}
    for layer in net.layers[1:]:
        if layer.name in net.trunk:
            (edge,) = net.incoming[layer.name]
            if edge.gated:
                values[layer.name] = jnp.zeros((1, *net.shapes[layer.name]), jnp.float32)
            elif edge.source in values:
                values[layer.name] = _activate(layer, blocks.run_dead(edge, values[edge.source]))
    return values


class _Blocks:
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
        return _gate(gate, self.run(edge, x))

    def _run(self, edge: Edge, x: jax.Array, dtype: DType, cut: Cut | None = None) -> jax.Array:
        params = _cast(self._params.get(edge.name, {}), dtype)
        x = _cast(x, dtype)
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
        variables = {"params": _cast(self._params.get(edge.name, {}), self._dtype)}
        value = edge.block.apply(variables, stream, cut=cut)
        assert isinstance(value, jax.Array)  # nothing mutable, so no second result
        return value

    def run_dead(self, edge: Edge, x: jax.Array) -> jax.Array:
        """An edge's block on what no row of the data made: with its running statistics."""
        return run_edge(edge, self._params, self.stats, x)


def _cast(tree: Any, dtype: DType) -> Any:
    """Arrays in `dtype`, if there is one."""
    return tree if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def _settle(
    net: Net, layer: Layer, terms: list[jax.Array], live: jax.Array, last: Last
) -> jax.Array:
    """A layer's value from gated terms, or its last where that is reused; updates `last`."""
    value = _activate(layer, sum(terms[1:], terms[0]))
    if layer.name in net.reuse:
        reused = live[..., net.index[net.reuse[layer.name].name]]
        value = last[layer.name] = _gate(1 - reused, value) + _gate(reused, last[layer.name])
    return value


def _gate(gate: jax.Array, value: jax.Array) -> jax.Array:
    """gate [] or [B] times value [B, ...]; 0 where it is off, whatever the value."""
    gate = _beside(gate, value)
    return jnp.where(gate > 0, gate * value, 0)


def _beside(gate: jax.Array, value: jax.Array) -> jax.Array:
    """gate [] or [B] with axes of one for the rest of value [B, ...]."""
    return gate.reshape(gate.shape + (1,) * (value.ndim - gate.ndim))


def _activate(layer: Layer, value: jax.Array) -> jax.Array:
    return value if layer.activation is None else layer.activation(value)


def _check_input(net: Net, x: jax.Array) -> None:
    if jnp.ndim(x) != len(net.input_shape) + 1 or x.shape[1:] != tuple(net.input_shape):
        expected = ", ".join(map(str, net.input_shape))
        raise ValueError(f"x: expected shape [B, {expected}], got {jnp.shape(x)}")


class _Callable(ModuleType):
    """`sanas_jax.forward` is this module and, called, its function of that name.

    The public face has a `forward` as well, and an import of this module puts it in that place.
    """

    def __call__(self, *args: Any, **options: Any) -> Output:
        """As `forward`."""
        return forward(*args, **options)


sys.modules[__name__].__class__ = _Callable
