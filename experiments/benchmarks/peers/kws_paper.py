"""The network of kws_paper, its objective and a batch of random streams: what benchmarks run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.peers.pytorch import Peer
from sanas_jax import costs, spaces
from sanas_jax.controller import Controller
from sanas_jax.rollout import Sanas
from sanas_jax.training import Batch, Objective, Price

FRAMES = 301  # 3 s
PAPER_MAPS, QUICK_MAPS = (64, 64), (8, 8)
PAPER_BATCH, QUICK_BATCH = 64, 8


class Problem(NamedTuple):
    """What both sides compute on: model, its objective, and a batch as NumPy arrays."""

    model: Sanas
    objective: Objective
    maps: tuple[int, int]
    stream: np.ndarray
    labels: np.ndarray

    @property
    def batch(self) -> Batch:
        """The batch for `update`; every step counts."""
        return Batch(
            jnp.asarray(self.stream), jnp.asarray(self.labels), jnp.ones(self.labels.shape, bool)
        )

    @property
    def edge_costs(self) -> np.ndarray:
        """Cost of each edge [E] as a share of the whole network."""
        macs = np.array([*costs.edge_macs(self.model.net).values()], np.float32)
        return macs / macs.sum()

    @property
    def macs_window_by_window(self) -> int:
        """Multiply-accumulates of the network on every window of the batch."""
        return sum(costs.edge_macs(self.model.net).values()) * self.labels.size

    @property
    def settings(self) -> dict[str, Any]:
        """What results on it must share to be compared."""
        return {"maps": list(self.maps), "batch": len(self.stream), "steps": len(self.labels)}

    def describe(self, settings: Settings) -> str:
        """Network, batch, threads, rounds: a line's end."""
        return (
            f"kws_paper, maps {self.maps}, batch {len(self.stream)} × {len(self.labels)} steps, "
            f"{settings.threads} threads, median of {settings.repeats} in turn"
        )


def make_problem(maps: tuple[int, int], batch: int, *, gate_bias: float = 3.0) -> Problem:
    """The network of kws_paper, or one with fewer maps, on random features and labels."""
    net = spaces.kws_cnn(maps=maps)
    model = Sanas(net, Controller(bias=gate_bias))
    rng = np.random.default_rng(0)
    stream = rng.standard_normal((batch, FRAMES, *net.input_shape[1:])).astype(np.float32)
    labels = rng.integers(0, net.shapes[net.output][0], (model.num_steps(FRAMES), batch))
    return Problem(
        model, Objective(Price(costs.relative(net, costs.macs(net)))), maps, stream, labels
    )


def problem_of(settings: Settings, batch: int | None = None) -> Problem:
    """The problem of a run: whole, or small where it is quick; `batch` replaces its own."""
    maps = QUICK_MAPS if settings.quick else PAPER_MAPS
    return make_problem(maps, batch or (QUICK_BATCH if settings.quick else PAPER_BATCH))


def torch_model(
    peer: Peer, maps: tuple[int, int], params: Any = None, *, compiled: bool = False
) -> Any:
    """`torch_kws.TorchSanas` on the peer's device.

    Args:
      peer: PyTorch.
      maps: of the two convolutions.
      params: of ours, to begin with; its own if not given.
      compiled: the network on a window is compiled; the loop over steps, the head and the cell,
        a thousandth of the arithmetic, are not.
    """
    from experiments.benchmarks.peers import torch_kws

    model: Any = torch_kws.TorchSanas(maps)
    if params is not None:
        torch_kws.load(model, torch_kws.from_ours(jax.device_get(params), maps))
    model = model.to(peer.device)
    if compiled:
        model.network = peer.torch.compile(model.network)
    return model
