"""A step of a stream as an ONNX graph that skips what is off, as `streaming.stream_step` does.

An edge that a gate can turn off is an `If` of its name: what is off is not run. A trunk edge over
the rows of the stream keeps its window as a part of the state; its branch is a `Loop` of as many
turns as it has to catch up with, one hop of rows each, which are pushed into that window. Audio
goes in: the features are part of the graph. Only the most probable architecture is run: nothing is
drawn. `onnx_state` names what one step hands to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from onnx import ModelProto

from sanas_jax.controller import advance
from sanas_jax.data.features import Frontend, extract
from sanas_jax.export.live import On, live_edges
from sanas_jax.export.onnx_live import gates_of, split
from sanas_jax.export.onnx_memory import Kept, edges_with_rows, initial_memory, kept_rows
from sanas_jax.export.onnx_ops import translate
from sanas_jax.export.onnx_scope import Scope, Value, tensor
from sanas_jax.graph import Edge, Layer
from sanas_jax.rollout import Sanas, init_carry
from sanas_jax.running import run_edge
from sanas_jax.streaming import dead_answers


def begin_model(model: Sanas, frontend: Frontend, samples: int) -> ModelProto:
    """`samples` [n] → `next_frames`: the frames before those of the first step."""
    scope, kept = Scope(), kept_rows(model)[model.net.input]
    frames, count = "frames", model.window - model.hop
    out: Value = frames
    if count:
        heard = _features(scope, frontend, samples)
        empty = np.zeros((1, kept.rows - count, *kept.ring.row), np.float32)
        out = scope.op("Concat", empty, heard, axis=1)
    scope.named(out, "next_frames")
    inputs = [tensor("samples", np.float32, (samples,)), tensor(frames, np.float32, kept.shape)]
    return scope.model(inputs, [tensor("next_frames", np.float32, kept.shape)])


def step_model(
    model: Sanas, params: dict[str, Any], frontend: Frontend, samples: int, *, static: bool
) -> ModelProto:
    """State and `samples` [n] → state, `posterior` [K], `live` [E], `gamma` [E].

    Args:
      model, params: as trained.
      frontend: of its features.
      samples: of a step, n.
      static: every edge is on, whatever the controller says.
    """
    scope, net = Scope(), model.net
    gates, gamma = gates_of(scope, model, params, static=static)
    live = live_edges(scope.op, net, gates)
    bools = [np.array([on]) if isinstance(on, bool) else on for on in live.values()]
    ran = scope.op("Concat", *bools, axis=0)
    step = _Step(scope, model, params, live)
    step.hear(_features(scope, frontend, samples))
    missed = step.count(ran)
    for layer in net.layers[1:]:
        step.layer(layer)
    told = ["log_price"] if model.controller.conditioned else []
    z = _advance(scope, model, params, step.values[net.features], told)
    posterior = scope.op("Softmax", step.values[net.output], axis=-1)
    out = {
        "posterior": scope.op("Reshape", posterior, np.array([-1])),
        "live": scope.op("Cast", ran, to=tensor("", np.float32, ()).type.tensor_type.elem_type),
        "gamma": gamma,
    }
    memory = initial_memory(model, 1.0)
    now = step.state | {"missed": missed, "z": z} | {name: name for name in told}
    for name, value in (out | {f"next_{name}": now[name] for name in memory}).items():
        scope.named(value, name)
    state = [tensor(name, array.dtype, array.shape) for name, array in memory.items()]
    after = [tensor(f"next_{name}", array.dtype, array.shape) for name, array in memory.items()]
    sizes = {"posterior": math.prod(net.shapes[net.output]), "live": len(net.edges)}
    sizes["gamma"] = len(net.edges)
    answer = [tensor(name, np.float32, (size,)) for name, size in sizes.items()]
    return scope.model([*state, tensor("samples", np.float32, (samples,))], [*answer, *after])


class _Step:
    """The walk over the layers: values so far, and the state as it will be."""

    def __init__(
        self, scope: Scope, model: Sanas, params: dict[str, Any], live: dict[str, On]
    ) -> None:
        self._scope, self._net, self._params, self._live = scope, model.net, params, live
        self._kept, self._edges = kept_rows(model), edges_with_rows(model)
        self._answers = dead_answers(model.net, params)
        self._rows = {model.net.input: model.net.input}  # layer → whose rows it looks at
        self._turns: dict[str, str] = {}
        self.state: dict[str, Value] = {}
        self.values: dict[str, Value] = {}

    def hear(self, frames: Value) -> None:
        """The frames of the step."""
        kept = self._kept[self._net.input]
        fresh = self._last(self._scope, frames, kept.ring.fresh)
        self.state["frames"] = self._push(self._scope, "frames", fresh, kept.rows)

    def count(self, ran: str) -> Value:
        """Steps that each edge with rows has to compute, and those that it has then missed."""
        if not self._edges:
            return "missed"
        scope, kept = self._scope, [self._kept[name] for name in self._edges]
        most = np.array([k.ring.steps for k in kept])
        behind = scope.op("Min", scope.op("Add", "missed", np.int64(1)), most)
        parts = split(scope, behind, len(kept))
        self._turns = dict(zip(self._edges, parts, strict=True))
        order = np.array([self._net.index[name] for name in self._edges])
        return scope.op("Where", scope.op("Gather", ran, order), np.int64(0), behind)

    def layer(self, layer: Layer) -> None:
        """Run the edges into a layer."""
        scope, net, terms = self._scope, self._net, []
        for edge in net.incoming[layer.name]:
            value = self._rows_edge(edge, layer) if edge.name in self._kept else self._edge(edge)
            terms += [] if value is None else [value]
        if not terms:
            return
        value = terms[0]
        for term in terms[1:]:
            value = scope.op("Add", value, term)
        shape = (1, *net.shapes[layer.name])
        if layer.name not in self._rows and layer.activation is not None:
            value = translate(scope, layer.activation, [shape], [scope.name(value)])
        if layer.name in net.reuse:
            reused, last = self._live[net.reuse[layer.name].name], f"last_{layer.name}"
            if isinstance(reused, str):
                value = scope.op("Where", reused, last, value)
            elif reused:
                value = last
            self.state[last] = value
        self.values[layer.name] = value

    def _edge(self, edge: Edge) -> Value:
        """An edge's value: its block's where it is on, else what a dead one says."""
        shape = (1, *self._net.shapes[edge.source])

        def run(scope: Scope) -> list[Value]:
            return [self._block(scope, edge, shape, self._value(scope, edge.source))]

        return self._run_if(edge, run, [self._dead(edge)])[0]

    def _rows_edge(self, edge: Edge, layer: Layer) -> Value | None:
        """Push an edge's new rows; its window, if anything but edges over rows looks at it."""
        kept, state = self._kept[edge.name], f"rows_{edge.name}"
        inside = layer.name in self._net.trunk
        if inside:
            self._rows[layer.name] = edge.name
        read = not inside or layer.name in self._net.read_layers
        activation = layer.activation if inside else None

        def run(scope: Scope) -> list[Value]:
            rows = self._push(scope, state, self._new_rows(scope, edge, activation), kept.rows)
            if not read:
                return [rows]
            return [rows, scope.op("Identity", self._last(scope, rows, kept.ring.size, kept.rows))]

        off: list[Value] = [state, self._dead(edge)]
        self.state[state], *value = self._run_if(edge, run, off[: 1 + read])
        return value[0] if read else None

    def _new_rows(self, scope: Scope, edge: Edge, activation: Any) -> Value:
        """The rows of all steps that the edge has missed: a turn for each."""
        source, ring = self._source(edge.source), self._kept[edge.name].ring
        stride, turns = edge.block.time_stride, self._turns[edge.name]
        kernel = source.ring.size - (ring.size - 1) * stride
        length = (ring.fresh - 1) * stride + kernel
        newest = source.rows - source.ring.size + (ring.size - ring.fresh) * stride
        hop = np.int64(ring.fresh * stride)
        body = scope.branch()
        turn, going, same = (scope.new(name) for name in ("turn", "going", "going"))
        ago = body.op("Sub", body.op("Sub", turns, np.int64(1)), turn)
        start = body.op("Sub", np.array([newest]), body.op("Mul", ago, hop))
        end = body.op("Add", start, np.array([length]))
        x = body.op("Slice", self._seen(edge.source), start, end, np.array([1]))
        rows = self._block(body, edge, (1, length, *source.ring.row), x, activation)
        body.named(going, same)
        out = body.own(rows)
        inside = body.graph(
            [tensor(turn, np.int64, ()), tensor(going, np.bool_, ())],
            [tensor(same, np.bool_, ()), tensor(out, np.float32, (1, ring.fresh, *ring.row))],
        )
        made = scope.op("Loop", turns, np.array(True), body=inside)
        return scope.op("Reshape", made, np.array([1, -1, *ring.row]))

    def _run_if(
        self, edge: Edge, run: Callable[[Scope], list[Value]], off: list[Value]
    ) -> Sequence[Value]:
        """run() where an edge is on, else `off`."""
        on = self._live[edge.name]
        if isinstance(on, bool):
            return run(self._scope) if on else off
        branches = []
        for values in (run, lambda _: off):
            branch = self._scope.branch()
            names = [branch.own(value) for value in values(branch)]
            branches.append(branch.graph([], [tensor(name, np.float32, None) for name in names]))
        then, otherwise = branches
        return self._scope.ops(
            "If",
            on,
            outputs=len(off),
            label=edge.name,
            then_branch=then,
            else_branch=otherwise,
        )

    def _block(
        self, scope: Scope, edge: Edge, shape: tuple[int, ...], x: Value, activation: Any = None
    ) -> Value:
        params, stats = self._params["net"], self._params.get("stats", {})

        def run(x: jax.Array) -> jax.Array:
            y = run_edge(edge, params, stats, x)
            return y if activation is None else activation(y)

        try:
            return translate(scope, run, [shape], [scope.name(x)])
        except ValueError as error:
            raise ValueError(f"edge {edge.name!r}, {type(edge.block).__name__}: {error}") from error

    def _source(self, layer: str) -> Kept:
        return self._kept[self._rows[layer]]

    def _seen(self, layer: str) -> Value:
        """A layer's rows, those of this step included."""
        name = self._rows[layer]
        return self.state["frames" if name == self._net.input else f"rows_{name}"]

    def _value(self, scope: Scope, layer: str) -> Value:
        """A layer's value: a window of its rows, if it has rows."""
        if layer not in self._rows:
            return self.values[layer]
        kept = self._source(layer)
        return self._last(scope, self._seen(layer), kept.ring.size, kept.rows)

    def _dead(self, edge: Edge) -> Value:
        zeros = np.zeros((1, *self._net.shapes[edge.target]), np.float32)
        return np.asarray(self._answers.get(edge.name, zeros))

    def _push(self, scope: Scope, state: str, rows: Value, count: int) -> Value:
        """The state with rows at its end, and as many fewer at its beginning."""
        return self._last(scope, scope.op("Concat", state, rows, axis=1), count)

    @staticmethod
    def _last(scope: Scope, rows: Value, count: int, of: int | None = None) -> Value:
        """The last `count` rows."""
        if count == of:
            return rows
        end = np.array([np.iinfo(np.int64).max])
        return scope.op("Slice", rows, np.array([-count]), end, np.array([1]))


def _features(scope: Scope, frontend: Frontend, samples: int) -> Value:
    """Frames [1, n, F, 1] of `samples`."""

    def frames(audio: jax.Array) -> jax.Array:
        return extract(frontend, audio, centred=False)[None, ..., None]

    return translate(scope, frames, [(samples,)], ["samples"])


def _advance(
    scope: Scope, model: Sanas, params: dict[str, Any], features: Value, told: list[str]
) -> Value:
    carry = init_carry(model, 1, 1.0)

    def z(old: jax.Array, features: jax.Array, *told: jax.Array) -> jax.Array:
        condition = told[0] if told else None
        return advance(model.controller, params["controller"], old, features, condition)

    shapes = [carry.z.shape, (1, *model.net.shapes[model.net.features]), *[(1, 1) for _ in told]]
    return translate(scope, z, shapes, ["z", scope.name(features), *told])
