"""The controller in C: Γ and gates from its state, and its next state from the features."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import numpy as np

from sanas_jax.controller import Constant
from sanas_jax.export.c.blocks import write_map
from sanas_jax.export.c.layout import layout_of
from sanas_jax.export.c.text import Source, constant
from sanas_jax.rollout import Sanas


def write_plan(source: Source, model: Sanas, params: dict[str, Any]) -> None:
    """Write `plan(told, gamma, gate)`: Γ [E] and the most probable gates [E] from z and log λ."""
    net = model.net
    edges, gated = len(net.edges), len(net.gated)
    lines = [f"    for (int e = 0; e < {edges}; ++e) gamma[e] = 1, gate[e] = 1;"]
    if gated:
        head = params["controller"]["head"]
        kernel, bias = (np.asarray(head[part], np.float64) for part in ("kernel", "bias"))
        write_map(source, "head", kernel, bias)
        source.add(constant("gated", net.gated, "short"))
        lines += [
            f"    float logit[{gated}];",
            "    head_map(told, logit);",
            f"    for (int i = 0; i < {gated}; ++i) {{",
            "        gamma[gated[i]] = sigmoid(logit[i]);",
            "        gate[gated[i]] = logit[i] > 0;",
            "    }",
        ]
    source.add("static float sigmoid(float x)\n{\n    return 1 / (1 + expf(-x));\n}")
    body = "\n".join(lines)
    source.add(f"""
static void plan(const float *told, float *gamma, int *gate)
{{
    (void)told;
{body}
}}""")


def write_advance(source: Source, model: Sanas, params: dict[str, Any]) -> None:
    """Write `advance(told, features)`: z and log λ are told, and z is changed.

    Raises ValueError for a cell that has no form here.
    """
    cell, layout = model.controller.cell, layout_of(model)
    if isinstance(cell, Constant):
        source.add(
            "static void advance(float *told, const float *features)\n"
            "{\n    (void)told, (void)features;\n}"
        )
        return
    plain = isinstance(cell, nn.GRUCell) and cell.gate_fn is nn.sigmoid
    if not plain or cell.activation_fn is not nn.tanh:
        raise ValueError(
            "controller: expected a GRU with sigmoid and tanh, or a constant, which have a form in "
            f"C, got {type(cell).__name__}"
        )
    weights, size = params["controller"]["cell"], layout.z
    features = math.prod(model.net.shapes[model.net.features])
    told = features + layout.conditioned

    def beside(names: tuple[str, ...], part: str) -> np.ndarray:
        zeros = np.zeros(size)
        return np.concatenate(
            [np.asarray(weights[name].get(part, zeros), np.float64) for name in names], -1
        )

    heard, kept = ("ir", "iz", "in"), ("hr", "hz", "hn")
    write_map(source, "heard", beside(heard, "kernel"), beside(heard, "bias"))
    write_map(source, "kept", beside(kept, "kernel"), beside(kept, "bias"))
    price = f"\n    x[{features}] = told[{size}];" if told > features else ""
    source.add(f"""
static void advance(float *told, const float *features)
{{
    float x[{told}], in[{3 * size}], own[{3 * size}];
    memcpy(x, features, {features} * sizeof *x);{price}
    heard_map(x, in);
    kept_map(told, own);
    for (int i = 0; i < {size}; ++i) {{
        const float reset = sigmoid(in[i] + own[i]);
        const float update = sigmoid(in[{size} + i] + own[{size} + i]);
        const float new = tanhf(in[{2 * size} + i] + reset * own[{2 * size} + i]);
        told[i] = (1 - update) * new + update * told[i];
    }}
}}""")
