"""What a block computes, as ONNX: its jaxpr, primitive by primitive.

Numbers that do not depend on the input are computed here, so that of a BatchNorm a difference, a
product and a sum are left. Where a function is written twice, for CPUs and for other devices, the
form for other devices is taken: XLA is not what runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from sanas_jax.export.onnx_scope import Scope, Value

_ALONE = {
    **{"neg": "Neg", "sign": "Sign", "abs": "Abs", "sqrt": "Sqrt", "exp": "Exp", "log": "Log"},
    **{"tanh": "Tanh", "logistic": "Sigmoid", "floor": "Floor", "not": "Not", "erf": "Erf"},
    **{"stop_gradient": "Identity", "copy": "Identity", "copy_p": "Identity"},
}
_PAIRS = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"},
    **{"max": "Max", "min": "Min", "and": "And", "or": "Or"},
    **{"eq": "Equal", "lt": "Less", "gt": "Greater", "le": "LessOrEqual", "ge": "GreaterOrEqual"},
}
_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
_RESHAPES = ("reshape", "squeeze", "expand_dims")


def translate(
    scope: Scope, function: Callable[..., jax.Array], shapes: Sequence[Any], inputs: Sequence[str]
) -> Value:
    """Write a function's value into a scope.

    Args:
      scope: where.
      function: of arrays of these shapes, float32, to one array; what else it uses is constant.
      shapes: of the inputs.
      inputs: their names in the graph.

    Raises ValueError for a primitive that is not known here.
    """
    like = [jax.ShapeDtypeStruct(tuple(shape), np.float32) for shape in shapes]
    closed = jax.make_jaxpr(function)(*like)
    (value,) = _run(scope, closed.jaxpr, list(map(np.asarray, closed.consts)), list(inputs))
    return value


def _run(scope: Scope, jaxpr: core.Jaxpr, consts: list[Value], inputs: list[Value]) -> list[Value]:
    """The values of a jaxpr's outputs."""
    known: dict[core.Var, Value] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True)
    )

    def read(atom: Any) -> Value:
        return np.asarray(atom.val) if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        values = _equation(scope, eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, values, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(scope: Scope, eqn: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """The outputs of one equation."""
    kind, params = eqn.primitive.name, eqn.params
    if kind == "platform_index":
        return [np.int32(params["platforms"].index(None))]
    if kind == "cond" and not isinstance(inputs[0], str):
        inner = params["branches"][int(inputs[0])]
        return _run(scope, inner.jaxpr, list(inner.consts), inputs[1:])
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is not None and kind not in ("while", "scan"):
        return _run(scope, inner.jaxpr, list(inner.consts), inputs)
    if not any(isinstance(value, str) for value in inputs):
        with jax.ensure_compile_time_eval():
            out = eqn.primitive.bind(*inputs, **params)
        return [np.asarray(x) for x in (out if eqn.primitive.multiple_results else [out])]
    return [_node(scope, kind, eqn, inputs)]


def _node(scope: Scope, kind: str, eqn: core.JaxprEqn, inputs: list[Value]) -> Value:
    """The output of an equation that stays one, or a few."""
    params, x = eqn.params, inputs[0]
    shape, new = _shape(eqn.invars[0]), _shape(eqn.outvars[0])
    if kind in _ALONE:
        return scope.op(_ALONE[kind], x)
    if kind in _PAIRS:
        return scope.op(_PAIRS[kind], *inputs)
    if kind in _REDUCTIONS:
        axes = np.array(params["axes"], np.int64)
        return scope.op(_REDUCTIONS[kind], x, axes, keepdims=0)
    if kind in _RESHAPES:
        return _reshape(scope, x, shape, new)
    if kind == "ne":
        return scope.op("Not", scope.op("Equal", *inputs))
    if kind == "rsqrt":
        return scope.op("Reciprocal", scope.op("Sqrt", x))
    if kind == "square":
        return scope.op("Mul", x, x)
    if kind == "integer_pow" and params["y"] == 2:
        return scope.op("Mul", x, x)
    if kind == "select_n" and len(inputs) == 3:
        return scope.op("Where", x, inputs[2], inputs[1])
    if kind == "transpose":
        return _transpose(scope, x, params["permutation"])
    if kind == "concatenate":
        return scope.op("Concat", *inputs, axis=params["dimension"])
    if kind == "broadcast_in_dim":
        spread = [1] * len(new)
        for axis, place in enumerate(params["broadcast_dimensions"]):
            spread[place] = shape[axis]
        x = _reshape(scope, x, shape, spread)
        return x if tuple(spread) == new else scope.op("Expand", x, _ints(new))
    if kind == "slice":
        return _slice(scope, x, shape, params)
    if kind == "pad":
        return _pad(scope, x, inputs[1], params["padding_config"])
    if kind == "dot_general":
        return _dot(scope, inputs, eqn)
    if kind == "conv_general_dilated":
        return _convolution(scope, inputs, params)
    if kind == "reduce_window_sum":
        return _window_sum(scope, x, params)
    if kind == "gather":
        return _take(scope, inputs, shape, params)
    raise ValueError(f"expected primitives that have a form in ONNX here, got {kind!r}")


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _ints(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.int64)


def _reshape(scope: Scope, x: Value, old: Sequence[int], new: Sequence[int]) -> Value:
    return x if tuple(old) == tuple(new) else scope.op("Reshape", x, _ints(new))


def _transpose(scope: Scope, x: Value, permutation: Sequence[int]) -> Value:
    if not isinstance(x, str):
        return np.transpose(x, permutation)
    if list(permutation) == sorted(permutation):
        return x
    return scope.op("Transpose", x, perm=list(permutation))


def _slice(scope: Scope, x: Value, shape: Sequence[int], params: dict[str, Any]) -> Value:
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(shape)
    axes = [
        axis
        for axis, size in enumerate(shape)
        if (starts[axis], ends[axis], steps[axis]) != (0, size, 1)
    ]
    if not axes:
        return x
    chosen = [_ints([numbers[axis] for axis in axes]) for numbers in (starts, ends)]
    return scope.op("Slice", x, *chosen, _ints(axes), _ints([steps[axis] for axis in axes]))


def _pad(scope: Scope, x: Value, fill: Value, config: Sequence[tuple[int, int, int]]) -> Value:
    low, high, between = ([int(entry[i]) for entry in config] for i in range(3))
    if any(between) or min(low + high) < 0:
        raise ValueError("expected padding around an array, got some inside it or less than none")
    return x if not any(low + high) else scope.op("Pad", x, _ints(low + high), fill)


def _dot(scope: Scope, inputs: list[Value], eqn: core.JaxprEqn) -> Value:
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    ranks = [len(_shape(atom)) for atom in eqn.invars]
    plain = left == (ranks[0] - 1,) and right == (0,) and ranks[1] == 2 and not left_batch
    if plain:
        return scope.op("MatMul", *inputs)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names = [[next(letters) for _ in range(rank)] for rank in ranks]
    for one, other in zip((*left, *left_batch), (*right, *right_batch), strict=True):
        names[1][other] = names[0][one]
    out = [names[0][axis] for axis in left_batch]
    for side, used in zip(names, ((*left, *left_batch), (*right, *right_batch)), strict=True):
        out += [letter for axis, letter in enumerate(side) if axis not in used]
    equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join(out)}"
    return scope.op("Einsum", *inputs, equation=equation)


def _convolution(scope: Scope, inputs: list[Value], params: dict[str, Any]) -> Value:
    numbers = params["dimension_numbers"]
    if params["batch_group_count"] != 1 or any(n != 1 for n in params["lhs_dilation"]):
        raise ValueError("expected a convolution without gaps in its input, got another")
    x = _transpose(scope, inputs[0], numbers.lhs_spec)
    kernel = _transpose(scope, inputs[1], numbers.rhs_spec)
    low, high = ([pair[i] for pair in params["padding"]] for i in range(2))
    y = scope.op(
        "Conv",
        x,
        kernel,
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=low + high,
        group=params["feature_group_count"],
    )
    return _transpose(scope, y, np.argsort(numbers.out_spec).tolist())


def _window_sum(scope: Scope, x: Value, params: dict[str, Any]) -> Value:
    """Sums over windows of [B, *sizes, C], without padding: what a mean over windows divides."""
    window, last = params["window_dimensions"], len(params["window_dimensions"]) - 1
    dilations = (*params["base_dilation"], *params["window_dilation"])
    gaps = any(n != 1 for n in dilations) or any(map(any, params["padding"]))
    if gaps or window[0] != 1 or window[last] != 1:
        raise ValueError("expected windows over inner axes without padding or gaps, got others")
    x = _transpose(scope, x, [0, last, *range(1, last)])
    sizes, strides = list(window[1:last]), list(params["window_strides"][1:last])
    mean = scope.op("AveragePool", x, kernel_shape=sizes, strides=strides)
    back = _transpose(scope, mean, [0, *range(2, last + 1), 1])
    return scope.op("Mul", back, np.float32(math.prod(sizes)))


def _take(scope: Scope, inputs: list[Value], shape: Sequence[int], params: dict[str, Any]) -> Value:
    """Entries along one axis, at places known beforehand."""
    numbers, sizes = params["dimension_numbers"], list(params["slice_sizes"])
    axes, (x, places) = numbers.start_index_map, inputs
    plain = len(axes) == 1 and numbers.collapsed_slice_dims == axes
    if not plain or isinstance(places, str) or np.ndim(places) != 2:
        raise ValueError("expected a gather along one axis at fixed places, got another")
    axis, chosen = axes[0], np.asarray(places)[:, 0]
    whole = [*shape[:axis], 1, *shape[axis + 1 :]] == sizes
    rest = tuple(i for i in range(len(shape)) if i != axis)
    if not whole or numbers.offset_dims != rest or not (chosen < shape[axis]).all():
        raise ValueError("expected a gather of whole entries along one axis, got another")
    return scope.op("Gather", x, _ints(chosen.tolist()), axis=axis)
