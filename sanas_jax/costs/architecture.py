"""Costs of an architecture: C(H⊙E), any function of the gates.

A cost is a callable gates [..., E] → [...]. The ones built here charge the live edges only
(`graph.prune`), so a gate that is on in a dead branch is free, as it is for a skipping runtime.
What a step costs may depend on the steps before it: then it is a `StreamCost`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.costs.schedule import makespan
from sanas_jax.graph import Net, Shape, prune
from sanas_jax.graph.counting import count_macs
from sanas_jax.graph.tracing import traced

Cost = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class StreamCost:
    """A cost of steps that depends on the steps before: a single architecture has none.

    It can't be called: neither a `vmap` nor whoever expects a `Cost` takes another axis for time.

    Fields:
      steps: gates [T, ..., E] → [T, ...].
      full: of a step of the whole network, after others.
    """

    steps: Callable[[jax.Array], jax.Array]
    full: float

    def along(self, gates: jax.Array) -> jax.Array:
        """Cost of each step [T, ...], for the gates [T, ..., E] of successive steps."""
        if jnp.ndim(gates) < 2:
            raise ValueError(
                "gates: expected those of successive steps [T, ..., E], for what a step costs "
                f"depends on those before; got {jnp.shape(gates)}"
            )
        return self.steps(gates)


def charge(cost: Cost | StreamCost, gates: jax.Array) -> jax.Array:
    """What a cost of either kind charges: gates [T, ..., E] of successive steps → [T, ...]."""
    return cost.along(gates) if isinstance(cost, StreamCost) else cost(gates)


@overload
def scaled(cost: Cost, unit: float | jax.Array) -> Cost: ...
@overload
def scaled(cost: StreamCost, unit: float | jax.Array) -> StreamCost: ...
def scaled(cost: Cost | StreamCost, unit: float | jax.Array) -> Cost | StreamCost:
    """`cost` counted in units of so much."""
    if isinstance(cost, StreamCost):
        return StreamCost(lambda gates: cost.along(gates) / unit, float(cost.full / unit))
    return lambda gates: cost(gates) / unit


def macs(net: Net) -> Cost:
    """Multiply-accumulates per input, counted from each block's jaxpr."""
    return table(net, edge_macs(net))


def params(net: Net) -> Cost:
    """Number of parameters of the live edges."""
    return table(net, edge_params(net))


def table(net: Net, costs: Mapping[str, float] | str) -> Cost:
    """Costs per edge, summed over the live edges.

    Args:
      net: static description.
      costs: edge name → cost, or a JSON object that says the same.

    Raises:
      ValueError for an edge that is missing, unknown, or has a cost that is not a number ≥ 0.
    """
    values = per_edge(net, costs)
    # Accelerators would round the factors of a plain product: to 8 bits on a TPU.
    return lambda gates: jnp.matmul(prune(net, gates), values, precision="highest")


def parallel(net: Net, workers: int, durations: Mapping[str, float] | str | None = None) -> Cost:
    """Time that the live edges take on identical workers (BSN: distributed computation cost).

    Sums in layers are free. An edge may start when all live edges into its source layer have
    ended; whenever a worker is free, the first one that may start does, in the order of source
    layers, then of `net.edges` (`schedule.makespan`).

    Args:
      net: static description.
      workers: how many edges may run at the same time.
      durations: edge name → duration, or a JSON object; None: 1 each, and the cost is in steps.

    Raises:
      ValueError for fewer than one worker, or durations that `table` would refuse as costs.
    """
    if durations is None:
        durations = dict.fromkeys(net.index, 1)
    order = sorted(range(len(net.edges)), key=lambda e: net.order[net.edges[e].source])
    edges = [net.edges[e] for e in order]
    before = np.array(
        [[other.target == edge.source and not edge.reuses for other in edges] for edge in edges]
    )
    time = makespan(before, per_edge(net, durations, "durations")[order], workers)

    def cost(gates: jax.Array) -> jax.Array:
        on = prune(net, gates)[..., np.array(order)] > 0
        return jnp.vectorize(time, signature="(e)->()")(on)

    return cost


def memory(net: Net, bytes_per_value: float = 4) -> Cost:
    """Peak size of the values held at once for one input, its live layers computed in order.

    While a layer is computed, held are its own value; those of earlier layers from which a live
    edge leads to it or to a later layer, the input among them; and of the read layers those
    computed before. What a block or a sum holds meanwhile is not counted, nor what is kept from one
    step for the next; no live edges, no memory.

    Args:
      net: static description.
      bytes_per_value: size of a number; the cost is in bytes.

    Raises:
      ValueError for numbers without a size.
    """
    if not 0 < bytes_per_value < math.inf:
        raise ValueError(f"bytes_per_value: expected a number > 0, got {bytes_per_value!r}")
    num_layers = len(net.layers)
    values = [math.prod(net.shapes[layer.name]) for layer in net.layers]
    sizes = bytes_per_value * np.array(values, np.float32)[:, None]
    # until[e, i]: the last layer at whose computation i is held because edge e is live.
    until = np.zeros((len(net.edges), num_layers), np.int32)
    for e, edge in enumerate(net.edges):
        until[e, net.order[edge.source]] = net.order[edge.target]
        if edge.target in net.read_layers:
            until[e, net.order[edge.target]] = num_layers - 1
    held, computed = np.arange(num_layers)[:, None], np.arange(1, num_layers)[None]

    def peak(live: jax.Array) -> jax.Array:
        last = jnp.where(live[:, None] > 0, until, 0).max(0)
        # At a dead layer nothing is held that is not held at the next live one, or at the last.
        holds = (held <= computed) & (computed <= last[:, None])
        return jnp.where(holds, sizes, 0).sum(0).max()

    return lambda gates: jnp.vectorize(peak, signature="(e)->()")(prune(net, gates))


def inconsistent(net: Net) -> Cost:
    """1 where no live path leads from the input to the output, else 0 (BSN)."""
    into = np.array([net.index[edge.name] for edge in net.incoming[net.output]])
    return lambda gates: 1 - prune(net, gates)[..., into].max(-1)


def custom(net: Net, fn: Callable[[Any], Any], *, black_box: bool = False) -> Cost:
    """Any function of the live gates.

    Args:
      net: static description.
      fn: jax function [..., E] → [...]; or, with `black_box`, a Python function of one architecture
        (a NumPy array [E]) → number, called on the host from inside jit, once for each distinct
        architecture of a batch.
    """
    if not black_box:
        return lambda gates: fn(prune(net, gates))

    def on_host(live: np.ndarray) -> np.ndarray:
        rows = np.asarray(live).reshape(-1, live.shape[-1])
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        values = np.array([fn(row) for row in distinct], np.float32)
        return values[which].reshape(live.shape[:-1])

    def cost(gates: jax.Array) -> jax.Array:
        live = jax.lax.stop_gradient(prune(net, gates))
        shape = jax.ShapeDtypeStruct(live.shape[:-1], jnp.float32)
        return jax.pure_callback(on_host, shape, live, vmap_method="expand_dims")

    return cost


@overload
def relative(net: Net, cost: Cost) -> Cost: ...
@overload
def relative(net: Net, cost: StreamCost) -> StreamCost: ...
def relative(net: Net, cost: Cost | StreamCost) -> Cost | StreamCost:
    """`cost` as a share of the whole network's: 1 with all gates on. Makes λ scale-free.

    Of a `StreamCost` that is a step's after others in which all gates were on.
    """
    if isinstance(cost, StreamCost):
        return scaled(cost, cost.full)
    return scaled(cost, cost(jnp.ones(len(net.edges), jnp.float32)))


def per_edge(net: Net, values: Mapping[str, float] | str, what: str = "costs") -> np.ndarray:
    """Numbers ≥ 0 by edge name, or a JSON object that says the same, as float32 [E].

    Raises ValueError as `table` does; `what` is their name in its message.
    """
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{what}: expected a JSON object, got invalid JSON: {error}"
            ) from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}: expected edge name → number, got {type(values).__name__}")
    if set(values) != set(net.index):
        missing = sorted(set(net.index) - set(values))
        unknown = sorted(set(values) - set(net.index))
        raise ValueError(f"{what}: expected one per edge; missing {missing}, unknown {unknown}")
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ValueError(f"{what}: edge {name!r}: expected a number ≥ 0, got {value!r}")
    return np.array([values[edge.name] for edge in net.edges], np.float32)


def edge_macs(net: Net) -> dict[str, int]:
    """Multiply-accumulates of each edge's block on one input; a block's own word for it counts."""
    return {edge.name: _block_macs(edge.block, net.shapes[edge.source]) for edge in net.edges}


def edge_params(net: Net) -> dict[str, int]:
    """Number of parameters of each edge's block; batch statistics are none."""
    return {edge.name: _block_params(edge.block, net.shapes[edge.source]) for edge in net.edges}


@lru_cache(maxsize=4096)
def _block_macs(block: nn.Module, shape: Shape) -> int:
    if hasattr(block, "macs"):
        return int(block.macs(shape))
    return count_macs(block.apply, *_abstract(block, shape))


def _block_params(block: nn.Module, shape: Shape) -> int:
    variables, _ = _abstract(block, shape)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.get("params", {})))


def _abstract(block: nn.Module, shape: Shape) -> tuple[Any, jax.ShapeDtypeStruct]:
    """Variables and one input of a block, as shapes."""
    return traced(block, shape).variables, jax.ShapeDtypeStruct((1, *shape), jnp.float32)


def cheapest_path(net: Net, edge_costs: Mapping[str, float]) -> float:
    """Least cost of a path from the input to the output: no budget below it can be of use.

    Along a stream a layer's value of the step before may stand in for the way to it.

    Args:
      net: static description.
      edge_costs: edge name → cost, as of `costs.edge_macs`.
    """
    best = {net.input: 0.0}
    for layer in net.layers[1:]:
        ways = [
            best[edge.source] + edge_costs[edge.name]
            for edge in net.incoming[layer.name]
            if edge.source in best
        ]
        if layer.name in net.reuse:
            ways.append(edge_costs[net.reuse[layer.name].name])
        if ways:
            best[layer.name] = min(ways)
    return best[net.output]
