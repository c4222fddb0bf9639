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
from sanas_jax.graph.trunk import row_strides
from sanas_jax.kernels.sliding import Cut, windows
from sanas_jax.running import Blocks, DType, Params, Stats, cast, gated

Last = dict[str, jax.Array]


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
    check_input(net, x)
    check_gates(net, gates)
    if jnp.ndim(gates) > 2 or (jnp.ndim(gates) == 2 and gates.shape[0] != x.shape[0]):
        raise ValueError(
            f"gates: expected shape [E] or [B, E] with B = {x.shape[0]}, got {gates.shape}"
        )
    live = prune(net, gates)
    blocks = Blocks(net, params, live, stats, train, mask=mask)
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
    check_input(net, x)
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
    blocks = Blocks(net, params, None, stats, train, dtype, mask)
    strides = row_strides(net, hop)
    values: dict[str, _Rows | _Steps] = {net.input: _Rows(cast(stream, dtype), 1)}
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
    blocks = Blocks(net, params, live, stats, train, dtype, mask)
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
                    x = gated(reached, x) + gated(1 - reached, dead[edge.source])
                terms.append(gated(gate, blocks.run(edge, x)))
            elif edge.name in trunk:
                terms.append(gated(reached, trunk[edge.name]))
                if answers:
                    terms.append(gated(1 - reached, blocks.run_dead(edge, dead[edge.source])))
            elif edge.source not in net.trunk:  # else inside the trunk, and nobody reads it
                terms.append(blocks.run_gated(edge, gate, values[edge.source]))
        if terms:
            values[layer.name] = _settle(net, layer, terms, live, last)
    return Output(values[net.output], values[net.features], blocks.stats, last)


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
    blocks: Blocks,
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


def _dead_values(net: Net, blocks: Blocks) -> dict[str, jax.Array]:
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


def _settle(
    net: Net, layer: Layer, terms: list[jax.Array], live: jax.Array, last: Last
) -> jax.Array:
    """A layer's value from gated terms, or its last where that is reused; updates `last`."""
    value = _activate(layer, sum(terms[1:], terms[0]))
    if layer.name in net.reuse:
        reused = live[..., net.index[net.reuse[layer.name].name]]
        value = last[layer.name] = gated(1 - reused, value) + gated(reused, last[layer.name])
    return value


def _activate(layer: Layer, value: jax.Array) -> jax.Array:
    return value if layer.activation is None else layer.activation(value)


def check_input(net: Net, x: jax.Array) -> None:
    """ValueError unless x is a batch of the net's inputs."""
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
