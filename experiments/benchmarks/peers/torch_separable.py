"""`spaces.separable` in plain PyTorch, run eagerly: every window whole, every edge computed.

What an adaptive network costs where gates are multiplied: the peer of `benchmarks.streaming`. Needs
PyTorch, imported by the benchmark alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.graph import Net


class TorchSeparable(nn.Module):
    """The super-network with the weights of ours; gates [E] multiply what was computed anyway."""

    def __init__(self, net: Net, params: Mapping[str, Any]) -> None:
        """`params`: of ours, with running statistics."""
        super().__init__()
        self._net = net
        blocks: dict[str, nn.Module] = {}
        for edge in net.edges:
            weights, stats = params["net"].get(edge.name, {}), params["stats"].get(edge.name, {})
            if isinstance(edge.block, Separable):
                blocks[edge.name] = _Separable(edge.block, weights, stats)
            elif isinstance(edge.block, Exit):
                blocks[edge.name] = _Exit(weights, stats)
            elif "Dense_0" in weights:
                blocks[edge.name] = _dense(weights["Dense_0"])
            else:
                blocks[edge.name] = nn.Identity()
        self._blocks = nn.ModuleDict(blocks)

    def forward(
        self, x: torch.Tensor, gates: torch.Tensor, last: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [1, K] and features [1, F] of a window [1, bands, frames]; changes `last`."""
        net = self._net
        values = {net.input: x}
        for layer in net.layers[1:]:
            total: Any = 0.0
            for edge in net.incoming[layer.name]:
                value = values[edge.source]
                value = self._blocks[edge.name](value)
                total = total + value * gates[net.index[edge.name]]
            value = total if layer.activation is None else functional.relu(total)
            if layer.name in net.reuse:
                reused = gates[net.index[net.reuse[layer.name].name]]
                if layer.name in last:
                    value = value * (1 - reused) + last[layer.name] * reused
                last[layer.name] = value
            values[layer.name] = value
        return values[net.output], values[net.features]


class _Separable(nn.Module):
    """Depthwise and 1×1 convolution over [1, C, rows], with the residual where there is one."""

    def __init__(self, block: Separable, weights: Mapping[str, Any], stats: Any) -> None:
        super().__init__()
        taps = np.asarray(weights["DepthwiseConv_0"]["kernel"])  # [K, 1, C]
        channels = taps.shape[-1]
        self.depthwise = nn.Conv1d(
            channels, channels, block.kernel, block.stride, groups=channels, bias=False
        )
        self.depthwise.weight.data = _tensor(taps.transpose(2, 1, 0))
        self.norm = _norm(weights["BatchNorm_0"], stats["BatchNorm_0"])
        self.mix, self.mix_norm = _mix(weights, stats, 0, 1)
        self.around: nn.Module | None = None
        self._residual, self._kernel, self._stride = block.residual, block.kernel, block.stride
        if block.residual and channels != block.maps:
            self.around, self.around_norm = _mix(weights, stats, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mix_norm(self.mix(self.norm(self.depthwise(x))))
        if not self._residual:
            return y
        first = (self._kernel - 1) // 2
        around = x[..., first :: self._stride][..., : y.shape[-1]]
        return y + (around if self.around is None else self.around_norm(self.around(around)))


class _Exit(nn.Module):
    """A weighted sum of rows, an affine map, BatchNorm: [1, C, rows] → [1, F]."""

    def __init__(self, weights: Mapping[str, Any], stats: Any) -> None:
        super().__init__()
        taps = np.asarray(weights["DepthwiseConv_0"]["kernel"])  # [rows, 1, C]
        self.weigh = nn.Parameter(_tensor(taps[:, 0].T))
        self.dense = _dense(weights["Dense_0"])
        self.norm = _norm(weights["BatchNorm_0"], stats["BatchNorm_0"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.dense((x * self.weigh).sum(-1)))


def _mix(
    weights: Mapping[str, Any], stats: Any, dense: int, norm: int
) -> tuple[nn.Module, nn.Module]:
    kernel = np.asarray(weights[f"Dense_{dense}"]["kernel"])
    inputs, outputs = kernel.shape
    mix = nn.Conv1d(inputs, outputs, 1, bias=False)
    mix.weight.data = _tensor(kernel.T[..., None])
    return mix, _norm(weights[f"BatchNorm_{norm}"], stats[f"BatchNorm_{norm}"])


def _norm(weights: Mapping[str, Any], stats: Mapping[str, Any]) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(len(weights["scale"]), eps=1e-5)
    norm.weight.data, norm.bias.data = _tensor(weights["scale"]), _tensor(weights["bias"])
    norm.running_mean, norm.running_var = _tensor(stats["mean"]), _tensor(stats["var"])
    return norm.eval()


def _dense(weights: Mapping[str, Any]) -> nn.Linear:
    kernel = np.asarray(weights["kernel"])
    inputs, outputs = kernel.shape
    dense = nn.Linear(inputs, outputs, bias="bias" in weights)
    dense.weight.data = _tensor(kernel.T)
    if "bias" in weights:
        dense.bias.data = _tensor(weights["bias"])
    return dense


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))
