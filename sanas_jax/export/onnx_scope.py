"""ONNX graphs being written: nodes of a graph or of a branch, and constants, which all share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    checker,
    helper,
    numpy_helper,
)

OPSET = 18
IR_VERSION = 8  # what came with that opset; older runtimes refuse newer files

# A name in the graph, or a number that is known already.
Value = str | np.ndarray | np.generic


class Scope:
    """Nodes in the order in which they run; `branch` begins a graph inside one of them."""

    def __init__(self, outer: Scope | None = None) -> None:
        self._nodes: list[NodeProto] = []
        self._names: Iterator[int] = count() if outer is None else outer._names
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = (
            {} if outer is None else outer._constants
        )

    def branch(self) -> Scope:
        """A scope for a branch or a loop's body, which sees all that is here."""
        return Scope(self)

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """A node with one output; its name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(
        self, kind: str, *inputs: Value, outputs: int, label: str | None = None, **attributes: Any
    ) -> list[str]:
        """A node with several outputs; their names. `label`: what the node is called."""
        names = [self.name(value) for value in inputs]
        made = [self.new(kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, names, made, name=label or made[0], **attributes))
        return made

    def new(self, kind: str) -> str:
        """A name that nothing else has."""
        return f"{kind}_{next(self._names)}"

    def name(self, value: Value) -> str:
        """Of a value in the graph; a number becomes a constant, equal ones the same."""
        if isinstance(value, str):
            return value
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, self.new("constant"))
        return self._constants[key].name

    def named(self, value: Value, name: str) -> None:
        """Give a value the name of an output."""
        self._nodes.append(helper.make_node("Identity", [self.name(value)], [name], name=name))

    def own(self, value: Value) -> str:
        """A value that a node here makes, as the outputs of a branch must be."""
        here = (
            any(value in node.output for node in self._nodes) if isinstance(value, str) else False
        )
        return str(value) if here else self.op("Identity", value)

    def graph(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        """A branch, complete; its constants are those of the outermost graph."""
        return helper.make_graph(self._nodes, self.new("graph"), inputs, outputs)

    def model(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> ModelProto:
        """The outermost graph as a model, checked."""
        graph = self.graph(inputs, outputs)
        graph.initializer.extend(self._constants.values())
        made = helper.make_model(
            graph,
            producer_name="sanas_jax",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        checker.check_model(made, full_check=True)
        return made


def tensor(name: str, dtype: Any, shape: Sequence[int | None] | None) -> ValueInfoProto:
    """Type and shape of an input or output; None for what a branch does not promise."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )
