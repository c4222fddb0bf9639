"""The super-network as a static, hashable description: layers, edges, and which edges are live.

A net is a DAG (BSN, section 3.1): an edge runs from an earlier to a later layer and carries a
block, an ordinary flax module; a layer is the activation of the sum of its incoming edges.

Beyond the papers, an edge from a layer to itself reuses the layer's value of the step before: live
where it is on and nothing else reaches the layer, it stands in for all edges that were left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sanas_jax.graph.check import look_at
from sanas_jax.graph.tracing import traced

Activation = Callable[[jax.Array], jax.Array]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A value of the DAG. `activation` is applied after the sum and must map 0 to 0."""

    name: str
    activation: Activation | None = None

    def __getstate__(self) -> dict[str, Any]:
        """As any other, but jax.nn's functions by name: they don't pickle."""
        name = getattr(self.activation, "__name__", "")
        known = name and getattr(jax.nn, name, None) is self.activation
        return {"name": self.name, "activation": name if known else self.activation}

    def __setstate__(self, state: dict[str, Any]) -> None:
        activation = state["activation"]
        known = getattr(jax.nn, activation) if isinstance(activation, str) else activation
        self.__dict__.update(state, activation=known)


@dataclass(frozen=True)
class Edge:
    """An edge source→target carrying `block`; `gated=False` keeps it always on."""

    name: str
    source: str
    target: str
    block: nn.Module
    gated: bool = True

    @property
    def reuses(self) -> bool:
        """Whether it stands in with the layer's value of the step before."""
        return self.source == self.target


@dataclass(frozen=True)
class Net:
    """A super-network, checked when it is built.

    Fields:
      input_shape: shape of one input, without the batch axis; time first for streams.
      layers: in topological order; the first is the input.
      edges: gates and Γ have one entry per edge, in this order.
      output: layer that holds the logits.
      features: layer that feeds the controller (often the classifier's input).

    Raises ValueError for a description that is not a well-formed DAG or whose shapes do not
    add up.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...]
    output: str
    features: str

    def __post_init__(self) -> None:
        _check_names(self)
        _check_edges(self)
        _check_reach(self)
        self.shapes  # noqa: B018  shape errors belong to the construction

    @property
    def input(self) -> str:
        """Name of the input layer."""
        return self.layers[0].name

    @property
    def read_layers(self) -> tuple[str, str]:
        """The layers whose values leave the network."""
        return self.output, self.features

    @cached_property
    def order(self) -> dict[str, int]:
        """Position of each layer."""
        return {layer.name: i for i, layer in enumerate(self.layers)}

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each edge: its entry in gates and Γ."""
        return {edge.name: e for e, edge in enumerate(self.edges)}

    @cached_property
    def incoming(self) -> dict[str, tuple[Edge, ...]]:
        """Edges into each layer from earlier ones."""
        return {
            layer.name: tuple(e for e in self.edges if e.target == layer.name and not e.reuses)
            for layer in self.layers
        }

    @cached_property
    def outgoing(self) -> dict[str, tuple[Edge, ...]]:
        """Edges out of each layer to later ones."""
        return {
            layer.name: tuple(e for e in self.edges if e.source == layer.name and not e.reuses)
            for layer in self.layers
        }

    @cached_property
    def reuse(self) -> dict[str, Edge]:
        """Layer → the edge that reuses its last value, where there is one."""
        return {edge.target: edge for edge in self.edges if edge.reuses}

    @cached_property
    def gated(self) -> tuple[int, ...]:
        """Indices of the edges that have a gate."""
        return tuple(i for i, edge in enumerate(self.edges) if edge.gated)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each layer's value, without the batch axis."""
        return _infer_shapes(self)

    @cached_property
    def with_stats(self) -> frozenset[str]:
        """Edges whose blocks keep batch statistics."""
        return frozenset(
            edge.name
            for edge in self.edges
            if traced(edge.block, self.shapes[edge.source]).with_stats
        )

    @cached_property
    def trunk(self) -> frozenset[str]:
        """Layers upstream of the first join: a single in-edge each, from a trunk layer.

        With live gates the value of such a layer is `reach · v`, v its ungated value, so v can be
        computed once for all architectures and all steps (docs/method.md). Where batch
        statistics are of the live rows it cannot: in training v depends on which these are.
        """
        trunk = {self.input}
        for layer in self.layers[1:]:
            first, *others = self.incoming[layer.name]
            joined = bool(others) or layer.name in self.reuse
            if not joined and first.source in trunk and not self._needs_live(first):
                trunk.add(layer.name)
        return frozenset(trunk)

    @cached_property
    def with_live_stats(self) -> frozenset[str]:
        """Edges that normalise with the rows in which they are live."""
        return frozenset(
            edge.name
            for edge in self.edges
            if edge.name in self.with_stats
            and (edge.source not in self.trunk or self._needs_live(edge))
        )

    def _needs_live(self, edge: Edge) -> bool:
        """Whether a block's batch statistics are of its live rows wherever it stands."""
        return edge.name in self.with_stats and not getattr(edge.block, "stats_over_stream", False)


def _check_names(net: Net) -> None:
    if len(net.layers) < 2:
        raise ValueError(f"layers: expected an input and an output, got {len(net.layers)} layers")
    for kind, names in (
        ("layer", [layer.name for layer in net.layers]),
        ("edge", [edge.name for edge in net.edges]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{kind} name {name!r}: expected once, got {names.count(name)}")
    known = [layer.name for layer in net.layers]
    for role, name in (("output", net.output), ("features", net.features)):
        if name not in known[1:]:
            raise ValueError(
                f"{role}: expected a layer after the input, one of {known[1:]}; got {name!r}"
            )
    for layer in net.layers:
        if layer.activation is None or layer.activation is jax.nn.relu:
            continue  # to compile relu in order to learn that it keeps 0 takes longer than a net
        with jax.ensure_compile_time_eval():
            at_zero = float(layer.activation(jnp.zeros(())))
        if at_zero != 0:
            raise ValueError(
                f"layer {layer.name!r}: expected an activation with f(0) = 0, so that a dead "
                f"layer is 0; got f(0) = {at_zero:g}"
            )


def _check_edges(net: Net) -> None:
    known = list(net.order)
    for edge in net.edges:
        for role, name in (("source", edge.source), ("target", edge.target)):
            if name not in net.order:
                raise ValueError(
                    f"edge {edge.name!r}: unknown {role} layer {name!r}; expected one of {known}"
                )
        if edge.reuses:
            _check_reuse(net, edge)
        elif net.order[edge.source] >= net.order[edge.target]:
            raise ValueError(
                f"edge {edge.name!r}: expected to run from an earlier to a later layer, "
                f"got {edge.source!r} → {edge.target!r}"
            )


def _check_reuse(net: Net, edge: Edge) -> None:
    again = [other.name for other in net.edges if other.reuses and other.target == edge.target]
    if len(again) > 1:
        raise ValueError(f"layer {edge.target!r}: expected one edge that reuses it, got {again}")
    if not edge.gated or not net.incoming[edge.target]:
        raise ValueError(
            f"edge {edge.name!r}: expected a gate, and other edges into layer {edge.target!r} "
            "whose value is reused"
        )


def _check_reach(net: Net) -> None:
    reached = {net.input}
    for layer in net.layers[1:]:
        if any(edge.source in reached for edge in net.incoming[layer.name]):
            reached.add(layer.name)
    for role, name in (("output", net.output), ("features", net.features)):
        if name not in reached:
            raise ValueError(f"{role} layer {name!r} is not reachable from {net.input!r}")
    for layer in net.layers[1:]:
        if layer.name not in reached:
            raise ValueError(f"layer {layer.name!r}: no path from {net.input!r} reaches it")


def _infer_shapes(net: Net) -> dict[str, Shape]:
    """Shapes of all layers by abstract evaluation of the blocks."""
    shapes: dict[str, Shape] = {net.input: tuple(net.input_shape)}
    for layer in net.layers[1:]:
        first: tuple[str, Shape] | None = None
        for edge in net.incoming[layer.name]:
            shape = _block_shape(edge, shapes[edge.source])
            if first is None:
                first = (edge.name, shape)
            elif first[1] != shape:
                raise ValueError(
                    f"layer {layer.name!r}: shapes do not add up: edge {first[0]!r} gives "
                    f"{first[1]}, edge {edge.name!r} gives {shape}"
                )
        assert first is not None  # _check_reach
        shapes[layer.name] = first[1]
    return shapes


def _block_shape(edge: Edge, source_shape: Shape) -> Shape:
    """Output shape of an edge's block, without the batch axis."""
    try:
        return look_at(edge.block, source_shape).shape
    except ValueError as error:
        where = f"its block on layer {edge.source!r} of shape {source_shape}"
        raise ValueError(f"edge {edge.name!r}: {where}: {error}") from error
