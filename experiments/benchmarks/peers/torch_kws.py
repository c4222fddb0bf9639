"""SANAS on cnn-trad-fpool3 with shortcuts in plain PyTorch: what we compare with.

It works as the method's own PyTorch code does: the windows of a stream one after another, each
through every convolution and every shortcut, whose outputs are multiplied by gates of 0 and 1. The
objective is ours (`sanas_jax.training`), on streams whose steps all count. Needs PyTorch, which the
project does not depend on: imported by the benchmarks alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HOP, WINDOW, BANDS = 20, 101, 40


class Rollout(NamedTuple):
    """All steps of a stream: logits [T, B, K], gates [T, B, 8], live [T, B, 9], log_prob [T, B]."""

    logits: torch.Tensor
    gates: torch.Tensor
    live: torch.Tensor
    log_prob: torch.Tensor


class TorchSanas(nn.Module):
    """Super-network, gate head and GRU. Edges are in the order of `spaces.kws_cnn`; out, the last,
    has no gate to draw.
    """

    def __init__(self, maps: tuple[int, int], num_classes: int = 12, state_size: int = 100) -> None:
        super().__init__()
        first, second = maps
        sizes = (WINDOW * BANDS, first * 82 * 11, second * 73 * 8, 32)
        self.conv_0 = nn.Conv2d(1, first, (20, 8))
        self.conv_1 = nn.Conv2d(first, second, (10, 4))
        self.lin_0 = nn.Linear(sizes[2], 32)
        self.lin_1 = nn.Linear(32, 128)
        self.shortcuts = nn.ModuleList(nn.Linear(size, 128) for size in sizes)
        self.out = nn.Linear(128, num_classes)
        self.head = nn.Linear(state_size, 8)
        self.cell = nn.GRUCell(128, state_size)

    def network(self, x: torch.Tensor, live: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features of windows [B, 1, time, band] in the architectures `live` [B, 9]."""
        gate = live.T[..., None]
        h0 = functional.max_pool2d(self.conv_0(x), (1, 3)) * gate[0, ..., None, None]
        h0 = functional.relu(h0)
        h1 = functional.relu(self.conv_1(h0) * gate[2, ..., None, None])
        h2 = functional.relu(self.lin_0(h1.flatten(1)) * gate[4])
        total = self.lin_1(h2) * gate[6]
        for i, source in enumerate((x, h0, h1, h2)):
            total = total + self.shortcuts[i](source.flatten(1)) * gate[2 * i + 1]
        features = functional.relu(total)
        return self.out(features), features  # always on: its bias answers where nothing is live

    def forward(
        self, stream: torch.Tensor, gates: torch.Tensor | None = None, *, draw: bool = True
    ) -> Rollout:
        """Run streams [B, frames, band]; `gates` [T, B, 8] replaces the draws, and the most
        probable architecture where `draw` is false.
        """
        z = stream.new_zeros(stream.shape[0], self.cell.hidden_size)
        steps = []
        for t in range((stream.shape[1] - WINDOW) // HOP + 1):
            x = stream[:, None, t * HOP : t * HOP + WINDOW]
            logits = self.head(z)
            if gates is not None:
                drawn = gates[t]
            elif draw:
                drawn = torch.bernoulli(torch.sigmoid(logits.detach()))
            else:
                drawn = (logits.detach() > 0).to(logits.dtype)
            live = prune(drawn)
            log_prob = -functional.binary_cross_entropy_with_logits(logits, drawn, reduction="none")
            answer, features = self.network(x, live)
            z = self.cell(features, z)
            steps.append((answer, drawn, live, log_prob.sum(-1)))
        return Rollout(*map(torch.stack, zip(*steps, strict=True)))


def prune(gates: torch.Tensor) -> torch.Tensor:
    """Live edges [B, 9] of gates [B, 8]: on, fed by the chain before them and read by what follows.

    The last, out, is live where anything reaches it.
    """
    chain, shortcut = gates[:, 0::2], gates[:, 1::2]
    reach = torch.cumprod(torch.cat([torch.ones_like(chain[:, :1]), chain[:, :-1]], 1), 1)
    need = torch.ones_like(chain[:, 0])
    live_chain: list[torch.Tensor] = []
    for i in reversed(range(chain.shape[1])):
        live_chain.insert(0, chain[:, i] * need * reach[:, i])
        need = torch.maximum(shortcut[:, i], chain[:, i] * need)
    live = torch.stack([torch.stack(live_chain, 1), shortcut * reach], 2).flatten(1)
    return torch.cat([live, live.amax(1, keepdim=True)], 1)


def loss(
    outs: Rollout, labels: torch.Tensor, edge_costs: torch.Tensor, cost_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scalar to differentiate, and the objective: mean of cross-entropy + λ·cost.

    Args:
      outs: from the model.
      labels: [T, B].
      edge_costs: [9] cost of each edge.
      cost_weight: λ.
    """
    flat = functional.cross_entropy(outs.logits.flatten(0, 1), labels.flatten(), reduction="none")
    ce = flat.view(labels.shape)
    per_step = ce + cost_weight * (outs.live @ edge_costs)
    returns = per_step.detach().flip(0).cumsum(0).flip(0)
    batch = returns.shape[1]
    others = (returns.sum(1, keepdim=True) - returns) / (batch - 1)
    score = (outs.log_prob * (returns - others)).mean()
    return ce.mean() + score, per_step.mean()


def make_adam(model: TorchSanas, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with weight decay on the network, none on the controller."""
    controller = [*model.head.parameters(), *model.cell.parameters()]
    theirs = {id(parameter) for parameter in controller}
    network = [p for p in model.parameters() if id(p) not in theirs]
    groups: list[dict[str, Any]] = [
        {"params": network, "weight_decay": weight_decay},
        {"params": controller},
    ]
    return torch.optim.Adam(groups, lr=learning_rate)


def train_step(
    model: TorchSanas,
    optimizer: torch.optim.Optimizer,
    stream: torch.Tensor,
    labels: torch.Tensor,
    edge_costs: torch.Tensor,
    cost_weight: float,
) -> float:
    """One whole training iteration; returns the objective."""
    optimizer.zero_grad()
    total, objective = loss(model(stream), labels, edge_costs, cost_weight)
    total.backward()
    optimizer.step()
    return objective.item()


def from_ours(params: Mapping[str, Any], maps: tuple[int, int]) -> dict[str, np.ndarray]:
    """Our parameters, or a gradient of the same form, by the names and layouts of `TorchSanas`."""
    net, head, cell = params["net"], params["controller"]["head"], params["controller"]["cell"]
    images = {"shortcut_1": (82, 11, maps[0]), "shortcut_2": (73, 8, maps[1])}
    images["lin_0"] = images["shortcut_2"]
    out: dict[str, np.ndarray] = {}
    for name in ("conv_0", "conv_1"):
        conv = net[name]["Conv_0"]
        out[f"{name}.weight"] = np.transpose(conv["kernel"], (3, 2, 0, 1))
        out[f"{name}.bias"] = np.asarray(conv["bias"])
    for name in ("lin_0", "lin_1", *(f"shortcut_{i}" for i in range(4)), "out"):
        dense = net[name]["Dense_0"]
        theirs = name.replace("shortcut_", "shortcuts.")
        out[f"{theirs}.weight"] = _linear(dense["kernel"], images.get(name))
        out[f"{theirs}.bias"] = np.asarray(dense["bias"])
    out["head.weight"], out["head.bias"] = _linear(head["kernel"]), np.asarray(head["bias"])
    out["cell.weight_ih"] = np.concatenate([_linear(cell[f"i{g}"]["kernel"]) for g in "rzn"])
    out["cell.bias_ih"] = np.concatenate([cell[f"i{g}"]["bias"] for g in "rzn"])
    out["cell.weight_hh"] = np.concatenate([_linear(cell[f"h{g}"]["kernel"]) for g in "rzn"])
    # PyTorch's cell has a second bias in two of its gates, which adds nothing: it starts at 0.
    out["cell.bias_hh"] = np.concatenate(
        [np.zeros(2 * len(cell["hn"]["bias"]), np.float32), cell["hn"]["bias"]]
    )
    return out


def gradients(model: TorchSanas) -> dict[str, np.ndarray]:
    """Gradients by name; those of the cell's second biases, which our cell lacks, as 0."""
    out = {
        name: p.grad.cpu().numpy().copy()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    out["cell.bias_hh"][: 2 * model.cell.hidden_size] = 0
    return out


def load(model: TorchSanas, arrays: Mapping[str, np.ndarray]) -> None:
    """Set every parameter; arrays as from `from_ours`."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    model.load_state_dict(state)


def _linear(kernel: Any, image: Sequence[int] | None = None) -> np.ndarray:
    """Kernel [in, out] → weight [out, in]; inputs (time, freq, maps) → (maps, time, freq)."""
    kernel = np.asarray(kernel)
    if image is not None:
        kernel = kernel.reshape(*image, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return kernel.T.copy()
