"""The network's step in C: the graph's layers in order, with an `if` around whatever may be off.

The memory is `streaming.Memory`, number by number: what one engine has saved another goes on from.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import jax

from sanas_jax.export.c.blocks import check_activation, write_edge
from sanas_jax.export.c.layout import layout_of
from sanas_jax.export.c.text import Source, constant, identifiers
from sanas_jax.export.live import On, live_edges
from sanas_jax.graph import Edge, Layer
from sanas_jax.rollout import Sanas
from sanas_jax.streaming import dead_answers
from sanas_jax.streaming.rings import rings

RINGS = """
typedef struct {
    int start, size, fresh, steps, width; /* on the tape; rows; rows; capacity in steps; numbers */
} ring;

/* Where the last `rows` rows of step t are written, of which a slot holds `fresh`. */
static float *slot(float *tape, const ring *r, int t, int rows)
{
    const int at = (t - 1 + r->steps) % r->steps;
    return tape + r->start + (at * r->fresh + r->fresh - rows) * r->width;
}

/* All is kept twice, so that every window is contiguous. */
static void keep(const ring *r, float *rows, int count)
{
    memcpy(rows + r->steps * r->fresh * r->width, rows, (size_t)(count * r->width) * sizeof *rows);
}

/* The rows of the window of step t. */
static const float *window(const float *tape, const ring *r, int t)
{
    const int capacity = r->steps * r->fresh;
    const int at = r->steps > 1 ? (t % r->steps * r->fresh + capacity - r->size) % capacity : 0;
    return tape + r->start + at * r->width;
}

typedef void (*block)(const float *restrict x, int rows, float *restrict y);

/* An edge's rows of the last `steps` steps; those before the window are never looked at. */
static void catch_up(float *tape, const ring *from, const ring *to, int stride, int t, int steps,
    block run)
{
    const float *x = window(tape, from, t);
    for (int ago = steps - 1; ago >= 0; --ago) {
        const int rest = to->size - ago * to->fresh, rows = rest < to->fresh ? rest : to->fresh;
        float *y = slot(tape, to, t - ago + to->steps, rows);
        run(x + (rest - rows) * stride * from->width, rows, y);
        keep(to, y, rows);
    }
}

static void add(float *restrict y, const float *restrict x, int count)
{
    for (int i = 0; i < count; ++i) y[i] += x[i];
}
"""


class Walk:
    """Writes what edges and layers compute; `body` is then the part of the step between them."""

    def __init__(self, source: Source, model: Sanas, params: dict[str, Any]) -> None:
        self._source, self._net, self._params = source, model.net, params
        self._rings, self._rows = rings(model), {model.net.input: model.net.input}
        self._edges = identifiers([edge.name for edge in model.net.edges])
        self._layers = identifiers([layer.name for layer in model.net.layers])
        # One program, not one for each operation.
        self._answers = jax.device_get(jax.jit(partial(dead_answers, model.net))(params))
        self._last = layout_of(model).last
        self._lines: list[str] = []

    def body(self) -> str:
        """Lines of the step that run the edges; they know tape, t, live, steps and last values."""
        net, source = self._net, self._source
        source.add(RINGS)
        for name, ring in self._rings.items():
            fields = (ring.start, ring.size, ring.fresh, ring.steps, math.prod(ring.row))
            source.add(f"static const ring {self._ring(name)} = {{{', '.join(map(str, fields))}}};")
        for layer in net.layers[1:]:
            self._layer(layer)
        for name in net.read_layers:
            if name in self._rows:
                raise ValueError(
                    f"layer {name!r}: expected features and logits behind the rows of the stream"
                )
        return "\n".join(self._lines)

    def value(self, layer: str) -> str:
        """C for where a layer's value lies."""
        if layer in self._rows:
            return f"window(tape, &{self._ring(self._rows[layer])}, t)"
        return f"at_{self._layers[layer]}"

    def _ring(self, name: str) -> str:
        return "ring_of_input" if name == self._net.input else f"ring_{self._edges[name]}"

    def _layer(self, layer: Layer) -> None:
        net = self._net
        shape, value = net.shapes[layer.name], f"at_{self._layers[layer.name]}"
        inside = layer.name in net.trunk and any(
            edge.name in self._rings for edge in net.incoming[layer.name]
        )
        if not inside:
            self._lines.append(f"    float {value}[{math.prod(shape)}] = {{0}};")
        for edge in net.incoming[layer.name]:
            if edge.name in self._rings:
                self._rows_edge(edge, layer if inside else None)
                if not inside:
                    self._add(edge, value, f"window(tape, &{self._ring(edge.name)}, t)")
            else:
                self._edge(edge, value)
        if inside:
            return
        if check_activation(layer.activation, layer.name):
            self._lines.append(
                f"    for (int i = 0; i < {math.prod(shape)}; ++i) "
                f"{value}[i] = {value}[i] > 0 ? {value}[i] : 0;"
            )
        if layer.name in net.reuse:
            reuse = net.index[net.reuse[layer.name].name]
            last = f"m->vector + {self._last[layer.name]}"
            self._lines += [
                f"    if (live[{reuse}]) memcpy({value}, {last}, sizeof {value});",
                f"    memcpy({last}, {value}, sizeof {value});",
            ]

    def _rows_edge(self, edge: Edge, layer: Layer | None) -> None:
        """Compute an edge's new rows, with the activation of a layer that has no other."""
        net, ring = self._net, self._rings[edge.name]
        activation = None if layer is None else layer.activation
        self._write(edge, ring.fresh, activation)
        came, gone = self._ring(self._rows[edge.source]), self._ring(edge.name)
        self._lines.append(
            f"    catch_up(tape, &{came}, &{gone}, {edge.block.time_stride}, t, "
            f"steps[{net.index[edge.name]}], edge_{self._edges[edge.name]});"
        )
        if layer is not None:
            self._rows[layer.name] = edge.name

    def _edge(self, edge: Edge, value: str) -> None:
        """Add what an edge makes of a whole value."""
        shape = self._net.shapes[edge.target]
        rows = shape[0] if len(shape) > 1 else 1
        self._write(edge, rows, None)
        run = f"edge_{self._edges[edge.name]}({self.value(edge.source)}, {rows}, part);"
        self._add(
            edge, value, "part", [f"        float part[{math.prod(shape)}];", f"        {run}"]
        )

    def _add(self, edge: Edge, value: str, term: str, before: list[str] | None = None) -> None:
        """Where an edge is live its term, else what a dead one says."""
        size, e = math.prod(self._net.shapes[edge.target]), self._net.index[edge.name]
        adds = [*(before or []), f"        add({value}, {term}, {size});"]
        self._lines += [f"    if (live[{e}]) {{", *adds]
        answer = self._answers.get(edge.name)
        if answer is not None and answer.any():
            name = f"dead_{self._edges[edge.name]}"
            self._source.add(constant(name, answer))
            self._lines += ["    } else {", f"        add({value}, {name}, {size});"]
        self._lines.append("    }")

    def _write(self, edge: Edge, fresh: int, activation: Any) -> None:
        name, shape = f"edge_{self._edges[edge.name]}", self._net.shapes[edge.source]
        write_edge(self._source, name, edge, self._params, shape, fresh, activation)


def live_lines(model: Sanas, static: bool) -> str:
    """C that says which edges are live, given `gate`."""
    net = model.net
    lines: list[str] = []

    def write(kind: str, *names: str) -> str:
        made = f"is_{len(lines)}"
        value = f"!{names[0]}" if kind == "Not" else {"And": " && ", "Or": " || "}[kind].join(names)
        lines.append(f"    const int {made} = {value};")
        return made

    gates: dict[str, On] = {
        edge.name: True if static or not edge.gated else f"gate[{e}]"
        for e, edge in enumerate(net.edges)
    }
    live = live_edges(write, net, gates)
    values = ", ".join(str(int(on)) if isinstance(on, bool) else on for on in live.values())
    used: list[str] = []
    for i, line in reversed(list(enumerate(lines))):
        if re.search(rf"\bis_{i}\b", " ".join([*used, values])):
            used.insert(0, line)
    return "\n".join([*used, f"    const int live[{len(net.edges)}] = {{{values}}};"])
