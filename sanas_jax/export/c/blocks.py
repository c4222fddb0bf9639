"""What edges compute, in C: `void NAME(const float *x, int rows, float *y)`, rows of y from x.

BatchNorm, whose statistics no longer change, is folded into the maps before it. A block over the
rows of a stream computes TILE of them together, since each weight is then read once for all.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import numpy as np

from sanas_jax.blocks import Dense, Identity
from sanas_jax.blocks.audio import ENERGY_FLOOR, Energies, LogMel
from sanas_jax.blocks.norm import EPSILON
from sanas_jax.blocks.separable import Crop, Exit, Separable
from sanas_jax.export.c.frontend import write_features
from sanas_jax.export.c.text import Source, affine, block_of, write_taps, write_weights
from sanas_jax.graph import Edge

Arrays = dict[str, Any]
PARTS = 16  # of a sum of squares
TILE = 5  # rows whose sums, of 16 numbers each, fit into 16 registers of 8
HEAD = "(const float *restrict x, int rows, float *restrict y)"


def write_edge(
    source: Source,
    name: str,
    edge: Edge,
    params: dict[str, Any],
    shape: tuple[int, ...],
    fresh: int,
    activation: Any,
) -> None:
    """Write an edge's function.

    Args:
      source: where.
      name: of the function, and a part of the names of its constants.
      edge: with its block.
      params: of the model.
      shape: of what the edge reads.
      fresh: rows that it mostly computes at once.
      activation: of these rows, None or ReLU.

    Raises ValueError for a block that has no form here.
    """
    weights = Weights(params, edge.name)
    relu = check_activation(activation, edge.target)
    block = edge.block
    width = math.prod(shape[1:])
    if isinstance(block, Separable):
        _separable(source, name, block, weights, width, fresh, relu)
    elif isinstance(block, Exit) and not relu:
        _exit(source, name, block, weights, shape[0], width)
    elif isinstance(block, Dense) and not relu and not block.by_output:
        kernel, bias = weights.dense("Dense_0")
        _vector(source, name, "x", kernel, bias, "")
    elif isinstance(block, Crop | Identity):
        _copy(source, name, block, shape, relu)
    elif isinstance(block, LogMel) and not relu:
        _log_mel(source, name, block, weights, width)
    elif isinstance(block, Energies) and not relu:
        _energies(source, name, block, width)
    else:
        raise ValueError(
            f"edge {edge.name!r}: expected Separable, Crop, Exit, Dense, Identity, LogMel or "
            f"Energies, which have a form in C, got {type(block).__name__}"
        )


def check_activation(activation: Any, layer: str) -> bool:
    """Whether it is ReLU, and not none; ValueError for others."""
    if activation not in (None, nn.relu):
        raise ValueError(f"layer {layer!r}: expected ReLU or no activation, got {activation}")
    return activation is not None


class Weights:
    """Those of an edge, in double precision."""

    def __init__(self, params: dict[str, Any], edge: str) -> None:
        self._params = params["net"].get(edge, {})
        self._stats = params.get("stats", {}).get(edge, {})

    def dense(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel [inputs, outputs] and bias."""
        kernel = np.asarray(self._params[name]["kernel"], np.float64)
        bias = self._params[name].get("bias", np.zeros(kernel.shape[1]))
        return kernel, np.asarray(bias, np.float64)

    def taps(self) -> np.ndarray:
        """[taps, channels] of the depthwise convolution."""
        return np.asarray(self._params["DepthwiseConv_0"]["kernel"], np.float64)[:, 0]

    def stats(self, name: str) -> np.ndarray:
        """Fixed numbers that stand among its statistics."""
        return np.asarray(self._stats[name])

    def norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """BatchNorm as x · scale + shift."""
        norm, stats = self._params[name], self._stats[name]
        mean, var = (np.asarray(stats[part], np.float64) for part in ("mean", "var"))
        scale = np.asarray(norm["scale"], np.float64) / np.sqrt(var + EPSILON)
        return scale, np.asarray(norm["bias"], np.float64) - mean * scale


def fold_separable(block: Separable, weights: Weights, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [inputs, maps] and bias of the map after a block's depthwise convolution.

    Where the way around mixes channels there are twice `width` inputs: its rows beside the others.
    """
    (before, moved), (after, shift) = weights.norm("BatchNorm_0"), weights.norm("BatchNorm_1")
    kernel, _ = weights.dense("Dense_0")
    bias = moved @ kernel * after + shift
    kernel = before[:, None] * kernel * after
    if block.residual and width != block.maps:
        scale, shift = weights.norm("BatchNorm_2")
        kernel = np.concatenate([kernel, weights.dense("Dense_1")[0] * scale])
        bias = bias + shift
    return kernel, bias


def fold_exit(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [inputs, features] and bias of the map after an exit's weighted sum."""
    scale, shift = weights.norm("BatchNorm_0")
    return weights.dense("Dense_0")[0] * scale, shift


def _separable(
    source: Source,
    name: str,
    block: Separable,
    weights: Weights,
    width: int,
    fresh: int,
    relu: bool,
) -> None:
    """Depthwise convolution, then one affine map; its way around is more inputs of that map."""
    kernel, bias = fold_separable(block, weights, width)
    inputs, stride = len(kernel), block.stride
    around = (block.kernel - 1) // 2 * width
    mixes = inputs > width
    block_size = block_of(block.maps, 16)
    scaled = write_taps(source, name, weights.taps())
    told = write_weights(source, name, kernel, bias, block_size)
    terms = " +\n                ".join(
        f"p[{k * width} + c] * {name}_taps[{k * width} + c]" for k in range(block.kernel)
    )
    terms = f"({terms}){scaled}" if scaled else terms
    copy = f"\n            memcpy(d + {width}, p + {around}, {width} * sizeof *d);" if mixes else ""
    value = f"y[r * {block.maps} + c]"
    if block.residual and not mixes:
        value += f" + x[r * {stride * width} + {around} + c]"
    last = f"{value} > 0 ? {value} : 0" if relu else value
    finish = ""
    if value != last or "x[" in value:
        finish = f"""
        for (int r = 0; r < now; ++r)
            for (int c = 0; c < {block.maps}; ++c) {{
                const float v = {value};
                y[r * {block.maps} + c] = {"v > 0 ? v : 0" if relu else "v"};
            }}"""
    tile = max(n for n in range(1, TILE + 1) if fresh % n == 0)
    whole = affine(source, tile, inputs, block.maps, block_size)
    one = affine(source, 1, inputs, block.maps, block_size)
    source.add(f"""
static void {name}{HEAD}
{{
    float mixed[{tile * inputs}];
    for (int now; rows > 0; rows -= now) {{
        now = rows < {tile} ? 1 : {tile};
        for (int r = 0; r < now; ++r) {{
            const float *p = x + r * {stride * width};
            float *d = mixed + r * {inputs};
            for (int c = 0; c < {width}; ++c)
                d[c] = {terms};{copy}
        }}
        (now == {tile} ? {whole} : {one})(mixed, {told}, y);{finish}
        x += now * {stride * width};
        y += now * {block.maps};
    }}
}}""")


def _exit(source: Source, name: str, block: Exit, weights: Weights, rows: int, width: int) -> None:
    """A weighted sum of the rows, then an affine map."""
    kernel, bias = fold_exit(weights)
    scaled = write_taps(source, name, weights.taps())
    last = f"\n    for (int c = 0; c < {width}; ++c) mean[c] = mean[c]{scaled};" if scaled else ""
    weigh = f"""
    float mean[{width}];
    for (int c = 0; c < {width}; ++c) mean[c] = 0;
    for (int r = 0; r < {rows}; ++r)
        for (int c = 0; c < {width}; ++c)
            mean[c] += x[r * {width} + c] * {name}_taps[r * {width} + c];{last}"""
    _vector(source, name, "mean", kernel, bias, weigh)


def _log_mel(source: Source, name: str, block: LogMel, weights: Weights, hop: int) -> None:
    """Features of the frames that begin at the rows."""
    write_features(source, block.frontend(hop, weights.stats("mean"), weights.stats("std")))
    source.add(f"static void {name}{HEAD}\n{{\n    features(x, rows, y);\n}}")


def _energies(source: Source, name: str, block: Energies, hop: int) -> None:
    """Sums of squares in as many parts as a vector has, which compilers would not take apart."""
    source.add(f"""
static float mean_square(const float *restrict x, int count)
{{
    float sum[{PARTS}] = {{0}}, all = 0;
    int i = 0;
    for (; i + {PARTS} <= count; i += {PARTS})
        for (int j = 0; j < {PARTS}; ++j) sum[j] += x[i + j] * x[i + j];
    for (int j = 0; i + j < count; ++j) sum[j] += x[i + j] * x[i + j];
    for (int j = 0; j < {PARTS}; ++j) all += sum[j];
    return all / (float)count;
}}""")
    source.add(f"""
static void {name}{HEAD}
{{
    float d[{hop}];
    for (; rows > 0; --rows, x += {hop}, y += {block.orders}) {{
        memcpy(d, x, sizeof d);
        for (int k = 0; k < {block.orders}; ++k) {{
            y[k] = logf(mean_square(d, {hop} - k) / {ENERGY_FLOOR:.9g}f + 1);
            for (int i = 0; i < {hop} - 1 - k; ++i) d[i] = d[i + 1] - d[i];
        }}
    }}
}}""")


def _vector(
    source: Source, name: str, x: str, kernel: np.ndarray, bias: np.ndarray, before: str
) -> None:
    """An affine map of one vector."""
    write_map(source, name, kernel, bias)
    source.add(f"""
static void {name}{HEAD}
{{
    (void)rows;{before}
    {name}_map({x}, y);
}}""")


def write_map(source: Source, name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Write `NAME_map(x, y)`: an affine map [inputs, outputs] with its weights."""
    inputs, outputs = kernel.shape
    size = block_of(outputs, 32)
    told = write_weights(source, name, kernel, bias, size)
    function = affine(source, 1, inputs, outputs, size)
    source.add(f"""
static void {name}_map(const float *restrict x, float *restrict y)
{{
    {function}(x, {told}, y);
}}""")


def _copy(
    source: Source, name: str, block: Crop | Identity, shape: tuple[int, ...], relu: bool
) -> None:
    """Rows as they are; of a value without rows, all of it."""
    width = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    first, stride = 0, 1
    if isinstance(block, Crop):
        first, stride = (block.kernel - 1) // 2 * width, block.stride
    value = "v > 0 ? v : 0" if relu else "v"
    source.add(f"""
static void {name}{HEAD}
{{
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < {width}; ++c) {{
            const float v = x[r * {stride * width} + {first} + c];
            y[r * {width} + c] = {value};
        }}
}}""")
