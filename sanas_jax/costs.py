"""Costs of an architecture: C(H⊙E), any function of the gates.

A cost is a callable gates [..., E] → [...]. The ones built here charge the live edges only
(`graph.prune`), so a gate that is on in a dead branch is free, as it is for a skipping runtime.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from sanas_jax.graph import Edge, Net, prune

Cost = Callable[[jax.Array], jax.Array]


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
    if isinstance(costs, str):
        try:
            costs = json.loads(costs)
        except json.JSONDecodeError as error:
            raise ValueError(f"costs: expected a JSON object, got invalid JSON: {error}") from error
    if not isinstance(costs, Mapping):
        raise ValueError(f"costs: expected edge name → cost, got {type(costs).__name__}")
    if set(costs) != set(net.index):
        missing, unknown = sorted(set(net.index) - set(costs)), sorted(set(costs) - set(net.index))
        raise ValueError(f"costs: expected one per edge; missing {missing}, unknown {unknown}")
    for name, value in costs.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ValueError(f"costs: edge {name!r}: expected a number ≥ 0, got {value!r}")
    per_edge = np.array([costs[edge.name] for edge in net.edges], np.float32)

    def cost(gates: jax.Array) -> jax.Array:
        return prune(net, gates) @ per_edge

    return cost


def custom(net: Net, fn: Callable[[Any], Any], *, black_box: bool = False) -> Cost:
    """Any function of the live gates.

    Args:
      net: static description.
      fn: jax function [..., E] → [...]; or, with `black_box`, a Python function of one architecture
        (a NumPy array [E]) → number, called on the host from inside jit.
    """
    if not black_box:
        return lambda gates: fn(prune(net, gates))

    def on_host(live: np.ndarray) -> np.ndarray:
        rows = np.asarray(live).reshape(-1, live.shape[-1])
        values = [np.float32(fn(row)) for row in rows]
        return np.array(values, np.float32).reshape(live.shape[:-1])

    def cost(gates: jax.Array) -> jax.Array:
        live = jax.lax.stop_gradient(prune(net, gates))
        shape = jax.ShapeDtypeStruct(live.shape[:-1], jnp.float32)
        return jax.pure_callback(on_host, shape, live, vmap_method="expand_dims")

    return cost


def relative(net: Net, cost: Cost) -> Cost:
    """`cost` as a share of the whole network's: 1 with all gates on. Makes λ scale-free."""
    full = cost(jnp.ones(len(net.edges)))
    return lambda gates: cost(gates) / full


def edge_macs(net: Net) -> dict[str, int]:
    """Multiply-accumulates of each edge's block on one input."""
    return {edge.name: count_macs(_apply(net, edge), *_abstract(net, edge)) for edge in net.edges}


def edge_params(net: Net) -> dict[str, int]:
    """Number of parameters of each edge's block."""
    return {
        edge.name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_abstract(net, edge)[0]))
        for edge in net.edges
    }


def count_macs(fn: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of `fn(*args)`: its dot_general and conv_general_dilated operations."""
    return _jaxpr_macs(jax.make_jaxpr(fn)(*args).jaxpr)


def _apply(net: Net, edge: Edge) -> Callable[..., Any]:
    return lambda variables, x: edge.block.apply(variables, x)


def _abstract(net: Net, edge: Edge) -> tuple[Any, jax.ShapeDtypeStruct]:
    """Variables and one input of an edge's block, as shapes."""
    x = jax.ShapeDtypeStruct((1, *net.shapes[edge.source]), jnp.float32)
    return jax.eval_shape(edge.block.init, jax.random.key(0), x), x


def _jaxpr_macs(jaxpr: jex.Jaxpr) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(_shape(eqn.invars[0])[d] for d in contract)
            total += depth * math.prod(_shape(eqn.outvars[0]))
        elif name == "conv_general_dilated":
            total += _conv_macs(eqn)
        else:
            inner = [_jaxpr_macs(sub) for sub in _sub_jaxprs(eqn.params.values())]
            if name == "while" and any(inner):
                raise ValueError("MACs of a while loop: expected a static trip count (scan, fori)")
            if name == "cond":
                total += max(inner)
            else:
                total += sum(inner) * eqn.params.get("length", 1)
    return total


def _conv_macs(eqn: jex.JaxprEqn) -> int:
    """Output size × kernel size × input channels per group; zeros of a dilated input are free."""
    numbers = eqn.params["dimension_numbers"]
    kernel = _shape(eqn.invars[1])
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    macs = math.prod(_shape(eqn.outvars[0])) * per_output // eqn.params["batch_group_count"]
    return macs // math.prod(eqn.params["lhs_dilation"])


def _shape(var: Any) -> tuple[int, ...]:
    """Shape of an equation's operand or result."""
    return var.aval.shape


def _sub_jaxprs(values: Any) -> Sequence[jex.Jaxpr]:
    """The jaxprs among an equation's parameters (calls, loops, branches)."""
    found: list[jex.Jaxpr] = []
    for value in values:
        if isinstance(value, jex.ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, jex.Jaxpr):
            found.append(value)
        elif isinstance(value, tuple | list):
            found.extend(_sub_jaxprs(value))
    return found
