"""Blocks whose input is audio: rows of as many samples as a hop has [B, rows, hop, 1].

With them the front end is part of the graph: computed where an edge needs it, and not otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.data.features import Array, Frontend, extract
from sanas_jax.data.frontend_cost import LOG, frontend_cost
from sanas_jax.data.mel import mel_matrix
from sanas_jax.graph import Net

# Mean square of samples below which energies are flat: 1e2 times that of 16-bit rounding.
ENERGY_FLOOR = 1e-8


class LogMel(nn.Module):
    """Log-mel bands of frames that begin at every row: `data.features.extract`, nothing is learnt.

    Normalised by fixed numbers, `mean` and `std` among the batch statistics: 0 and 1 unless those
    of a `Frontend` are put there (`normalised`).

    Fields: bands; `rate` of the samples, Hz; `n_fft` samples of a frame, a whole number of rows;
    `min_hz` to `max_hz`, which the bands span.
    """

    bands: int = 40
    rate: int = 16000
    n_fft: int = 480
    min_hz: float = 20.0
    max_hz: float = 4000.0
    time_stride = 1
    stats_over_stream = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        """[B, rows, hop, 1] → [B, rows − n_fft / hop + 1, bands]."""
        del train, live
        hop = math.prod(x.shape[2:])
        mean = self.variable("batch_stats", "mean", jnp.zeros, (self.bands,))
        std = self.variable("batch_stats", "std", jnp.ones, (self.bands,))
        frontend = self.frontend(hop, mean.value, std.value)
        return extract(frontend, x.reshape(len(x), -1), centred=False)

    @nn.nowrap
    def frontend(self, hop: int, mean: Array, std: Array) -> Frontend:
        """The features that it computes, of rows of `hop` samples."""
        if self.n_fft % hop:
            raise ValueError(
                f"n_fft: expected a multiple of the {hop} samples of a row, got {self.n_fft}"
            )
        mel = mel_matrix(self.bands, self.n_fft, self.rate, self.min_hz, self.max_hz)
        return Frontend(
            *(mel, mean, std, self.n_fft, hop, self.rate),
            num_bins=int(np.flatnonzero(mel.any(0))[-1]) + 1,
            cepstral=False,
        )

    @nn.nowrap
    def macs(self, shape: tuple[int, ...]) -> int:
        """Of an input [rows, hop, 1], by the native form of `frontend_cost`."""
        hop, none = math.prod(shape[1:]), np.zeros(self.bands)
        rows = shape[0] - self.n_fft // hop + 1
        return frontend_cost(self.frontend(hop, none, none), rows).total


class Energies(nn.Module):
    """Log energies of a row, of its differences, of their differences: loudness low and high.

    Above a floor: digital silence has none. Cheaper to look at than any spectrum. Field: `orders`,
    how many of these.
    """

    orders: int = 3
    time_stride = 1
    keeps_zero = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, rows, hop, 1] → [B, rows, orders]."""
        x, levels = x.reshape(*x.shape[:2], -1), []
        for _ in range(self.orders):
            levels.append(jnp.mean(x * x, -1, keepdims=True))
            x = x[..., 1:] - x[..., :-1]
        return jnp.log(jnp.concatenate(levels, -1) / ENERGY_FLOOR + 1)

    @nn.nowrap
    def macs(self, shape: tuple[int, ...]) -> int:
        """Of an input [rows, hop, 1]: a square a sample, and the logs; differences are additions,
        counted as one each (`frontend_cost`)."""
        rows, hop = shape[0], math.prod(shape[1:])
        each = sum(hop - k + (hop - k if k else 0) for k in range(self.orders))
        return rows * (each + LOG * self.orders)


def normalised(net: Net, params: dict[str, Any], frontend: Frontend) -> dict[str, Any]:
    """A model's parameters, in which every `LogMel` normalises as a front end of data does.

    Raises ValueError for a front end of other bands.
    """
    stats = dict(params.get("stats", {}))
    for edge in net.edges:
        if not isinstance(edge.block, LogMel):
            continue
        hop = math.prod(net.shapes[edge.source][1:])
        ours = edge.block.frontend(hop, frontend.mean, frontend.std)
        alike = (ours.n_fft, ours.hop, ours.sample_rate, ours.mel.shape) == (
            *(frontend.n_fft, frontend.hop, frontend.sample_rate),
            frontend.mel.shape,
        )
        if not alike or not np.allclose(ours.mel, frontend.mel, rtol=1e-4, atol=1e-7):
            raise ValueError(
                f"edge {edge.name!r}: expected the mel bands of the data's features, got others, "
                f"up to {edge.block.max_hz:g} Hz"
            )
        # Copies: training gives its parameters away.
        stats[edge.name] = {"mean": jnp.array(frontend.mean), "std": jnp.array(frontend.std)}
    return params | ({"stats": stats} if stats else {})
