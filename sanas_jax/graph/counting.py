"""Multiply-accumulates of any jax function, counted from its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core as jex


def count_macs(fn: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of `fn(*args)`: its dot_general and conv_general_dilated operations.

    Of a `cond`, and of forms for different platforms (`depthwise`), the dearest branch.
    """
    return _jaxpr_macs(jax.make_jaxpr(fn)(*args).jaxpr)


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
