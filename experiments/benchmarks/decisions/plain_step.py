"""A decision in Python: what the C file computes, in NumPy or with its blocks compiled by numba.

What C was chosen over (docs/measurements.md). Of the separable space. As in C what is off is not
computed, rows of the stream are kept, and BatchNorm is folded into the maps; what runs is decided
in Python. Features are NumPy's on both sides, since numba has no FFT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.decisions.engines import OtherEngine, OtherStream
from experiments.runs.trained import TrainedModel
from sanas_jax.blocks import Dense, Identity
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.data.features import POWER_FLOOR, hann
from sanas_jax.export.c.blocks import Weights, fold_exit, fold_separable
from sanas_jax.graph import Edge, prune
from sanas_jax.streaming import dead_answers
from sanas_jax.streaming.rings import rings
from sanas_jax.streaming.runtime import Answer

Block = Callable[[np.ndarray], np.ndarray]
NAMES = ("NumPy", "numba")


class _Folded(NamedTuple):
    """A separable block: taps [K, width], and the map after them; at tap `first` its way around."""

    taps: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    first: int
    residual: bool
    relu: bool


class PlainEngine(OtherEngine):
    """One of `NAMES`; ValueError for a network that is not of the separable space."""

    def __init__(self, model: TrainedModel, name: str) -> None:
        """Fold the weights; numba compiles when it first runs."""
        super().__init__(model)
        self.name, self.net = name, self.model.net
        separable, affine = _functions(name)
        params = jax.device_get(model.params)
        self.rings, self.static = rings(self.model), model.static
        self.blocks: dict[str, Block] = {}
        for edge in self.net.edges:
            self.blocks[edge.name] = self._block(edge, params, separable, affine)
        answers = jax.device_get(jax.jit(partial(dead_answers, self.net))(params))
        self.answers = {edge: np.asarray(answer[0]) for edge, answer in answers.items()}
        self.head = partial(affine, *_map(params["controller"]["head"], ""))
        cell = params["controller"]["cell"]
        self.heard = partial(affine, *_map(cell, "i"))
        self.kept = partial(affine, *_map(cell, "h"))
        frontend = self.frontend
        bins, hop = frontend.num_bins, frontend.hop
        if frontend.cepstral:
            raise ValueError("expected log-mel features, got MFCC")
        window = hann(frontend.n_fft).astype(np.float32)
        mel = np.ascontiguousarray(np.asarray(frontend.mel)[:, :bins].T)
        mean, std = np.asarray(frontend.mean), np.asarray(frontend.std)

        def features(x: np.ndarray) -> np.ndarray:
            frames = np.lib.stride_tricks.sliding_window_view(x, len(window))[::hop] * window
            spectrum = np.fft.rfft(frames)[:, :bins]
            power = spectrum.real**2 + spectrum.imag**2
            return (np.log(power @ mel + np.float32(POWER_FLOOR)) - mean) / std

        self.features = features
        self.live = lru_cache(self._live)

    def stream(self, cost_weight: float | None = None) -> OtherStream:
        """A stream before its first sample, told λ."""
        return _PlainStream(self, cost_weight)

    def _live(self, gates: bytes) -> np.ndarray:
        """[E] of gates float32 [E]."""
        return np.asarray(prune(self.net, jnp.asarray(np.frombuffer(gates, np.float32)[None]))[0])

    def _block(self, edge: Edge, params: Any, separable: Any, affine: Any) -> Block:
        """An edge's rows of those of its source, activation included where the edge has rows."""
        block, weights = edge.block, Weights(params, edge.name)
        shape = self.net.shapes[edge.source]
        activations = {layer.name: layer.activation for layer in self.net.layers}
        if isinstance(block, Identity):
            return lambda x: x
        if isinstance(block, Dense):
            return partial(affine, *_single(*weights.dense("Dense_0")))
        if not isinstance(block, Separable | Exit):
            raise ValueError(
                f"edge {edge.name!r}: expected a block of the separable space on features, got "
                f"{type(block).__name__}"
            )
        (taps,) = _single(weights.taps())
        if isinstance(block, Separable):
            kernel, bias = _single(*fold_separable(block, weights, int(np.prod(shape[1:]))))
            inside = edge.target in self.net.trunk
            relu = inside and activations[edge.target] is not None
            first, stride, residual = (block.kernel - 1) // 2, block.stride, block.residual
            return partial(separable, _Folded(taps, kernel, bias, stride, first, residual, relu))
        kernel, bias = _single(*fold_exit(weights))
        return lambda x: affine(kernel, bias, np.einsum("rc,rc->c", x, taps))


class _PlainStream(OtherStream):
    def __init__(self, engine: PlainEngine, price: float | None) -> None:
        net, cell = engine.net, engine.model.controller.cell
        self._engine = engine
        self._rows = {
            name: np.zeros((ring.size, int(np.prod(ring.row))), np.float32)
            for name, ring in engine.rings.items()
        }
        self._missed = {name: ring.steps for name, ring in engine.rings.items()}
        self._last = {name: np.zeros(net.shapes[name], np.float32) for name in net.reuse}
        assert price is not None or not engine.model.controller.conditioned
        told = [] if price is None else [np.log(price)]
        self._z = np.zeros(cell.features + len(told), np.float32)
        self._size = len(self._z) - len(told)
        self._z[self._size :] = told

    def begin(self, x: np.ndarray) -> None:
        engine = self._engine
        frames = engine.features(x)
        self._rows[engine.net.input][-len(frames) :] = frames

    def step(self, x: np.ndarray) -> Answer:
        engine, net = self._engine, self._engine.net
        self._add_rows(net.input, engine.features(x))
        gamma, gates = np.ones((2, len(net.edges)), np.float32)
        logits = engine.head(self._z)
        gamma[list(net.gated)] = 1 / (1 + np.exp(-logits))
        gates[list(net.gated)] = engine.static or logits > 0
        if engine.static:
            gates[[net.index[edge.name] for edge in net.reuse.values()]] = 0
            gamma = gates
        live = engine.live(gates.tobytes())
        values: dict[str, np.ndarray] = {net.input: self._rows[net.input]}
        for layer in net.layers[1:]:
            value: np.ndarray = np.zeros(net.shapes[layer.name], np.float32)
            inside = False
            for edge in net.incoming[layer.name]:
                on = live[net.index[edge.name]] > 0
                if edge.name in self._rows:
                    rows = self._catch_up(edge, values[edge.source], on)
                    inside = layer.name in net.trunk
                    if inside:
                        values[layer.name] = rows
                    elif on:
                        value += rows
                elif on:
                    value += engine.blocks[edge.name](values[edge.source])
                elif edge.name in engine.answers:
                    value += engine.answers[edge.name]
            if inside:
                continue
            if layer.activation is not None:
                value = np.maximum(value, 0)
            if layer.name in net.reuse:
                if live[net.index[net.reuse[layer.name].name]]:
                    value = self._last[layer.name]
                self._last[layer.name] = value
            values[layer.name] = value
        self._advance(values[net.features])
        powers = np.exp(values[net.output] - values[net.output].max())
        return Answer(powers / powers.sum(), live, gamma)

    def _catch_up(self, edge: Edge, source: np.ndarray, on: bool) -> np.ndarray:
        """An edge's rows [size, width], new ones computed where it is on."""
        ring = self._engine.rings[edge.name]
        behind = min(self._missed[edge.name] + 1, ring.steps)
        self._missed[edge.name] = 0 if on else behind
        if on:
            count, stride = min(behind * ring.fresh, ring.size), edge.block.time_stride
            kernel = len(source) - (ring.size - 1) * stride
            first = (ring.size - count) * stride
            heard = source[first : (ring.size - 1) * stride + kernel]
            self._add_rows(edge.name, self._engine.blocks[edge.name](heard))
        return self._rows[edge.name]

    def _add_rows(self, name: str, new: np.ndarray) -> None:
        rows = self._rows[name]
        new = new[-len(rows) :]
        rows[: len(rows) - len(new)] = rows[len(new) :].copy()
        rows[len(rows) - len(new) :] = new

    def _advance(self, features: np.ndarray) -> None:
        """As flax's GRU cell."""
        z, size = self._z, self._size
        heard = self._engine.heard(np.concatenate([features, z[size:]]))
        kept = self._engine.kept(z[:size])
        both = 1 / (1 + np.exp(-(heard[: 2 * size] + kept[: 2 * size])))
        reset, update = both[:size], both[size:]
        new = np.tanh(heard[2 * size :] + reset * kept[2 * size :])
        z[:size] = (1 - update) * new + update * z[:size]


def _map(weights: Any, gates: str) -> tuple[np.ndarray, ...]:
    """Kernel and bias of a dense layer, or of those of a GRU that read the same, side by side."""
    parts = [weights[gates + name] for name in "rzn"] if gates else [weights]
    kernel = np.concatenate([np.asarray(part["kernel"]) for part in parts], 1)
    size = kernel.shape[1] // len(parts)
    bias = [np.asarray(part.get("bias", np.zeros(size))) for part in parts]
    return _single(kernel, np.concatenate(bias))


def _single(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(array, np.float32) for array in arrays)


def _functions(name: str) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """A separable block and an affine map of a vector; ImportError without numba."""
    if name == "NumPy":
        return _separable, lambda kernel, bias, x: x @ kernel + bias
    import numba

    compiled = numba.njit(fastmath=True)
    return compiled(_separable_loops), compiled(_affine_loops)


def _separable(block: _Folded, x: np.ndarray) -> np.ndarray:
    """Rows [n, maps] of rows [(n − 1) · stride + taps, width]."""
    taps, kernel, bias, stride, first, residual, relu = block
    windows = np.lib.stride_tricks.sliding_window_view(x, len(taps), 0)[::stride]
    mixed = np.einsum("rck,kc->rc", windows, taps)
    around = windows[:, :, first]
    mixes = len(kernel) > len(taps[0])
    y = (np.concatenate([mixed, around], 1) if mixes else mixed) @ kernel + bias
    if residual and not mixes:
        y += around
    return np.maximum(y, 0) if relu else y


def _affine_loops(kernel: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = bias.copy()
    for i in range(len(x)):
        for o in range(len(y)):
            y[o] += x[i] * kernel[i, o]
    return y


def _separable_loops(block: _Folded, x: np.ndarray) -> np.ndarray:
    """As `_separable`."""
    taps, kernel, bias, stride, first, residual, relu = block
    count, width = taps.shape
    inputs, maps = kernel.shape
    rows = (len(x) - count) // stride + 1
    y = np.empty((rows, maps), np.float32)
    mixed = np.empty(inputs, np.float32)
    for r in range(rows):
        for c in range(width):
            mixed[c] = 0
        for k in range(count):
            for c in range(width):
                mixed[c] += x[r * stride + k, c] * taps[k, c]
        for c in range(inputs - width):
            mixed[width + c] = x[r * stride + first, c]
        for o in range(maps):
            y[r, o] = bias[o]
        for i in range(inputs):
            for o in range(maps):
                y[r, o] += mixed[i] * kernel[i, o]
        for o in range(maps):
            if residual and inputs == width:
                y[r, o] += x[r * stride + first, o]
            if relu and y[r, o] < 0:
                y[r, o] = 0
    return y
