"""What `benchmarks.streaming` times: networks of ours and in PyTorch, and their architectures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.peers import kws_paper, pytorch
from experiments.runs.trained import read_model
from sanas_jax.controller import Controller
from sanas_jax.costs import edge_macs, edge_params
from sanas_jax.data.features import Frontend
from sanas_jax.graph import Net, prune
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.spaces import kws_cnn

Decide = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (window, live [E]) → logits


class Subject(NamedTuple):
    """A network to time.

    name, model, params: ours.
    theirs: name → the same in PyTorch.
    compile_seconds: of those of them that were compiled.
    frontend: that of a trained network; None for one that hears no audio.
    """

    name: str
    model: Sanas
    params: dict[str, Any]
    theirs: dict[str, Decide]
    compile_seconds: dict[str, float]
    frontend: Frontend | None

    def macs(self, live: np.ndarray) -> float:
        """Multiply-accumulates of the live edges [..., E], windows computed whole; mean."""
        per_edge = np.array([*edge_macs(self.model.net).values()], np.float64)
        return float(np.mean(live @ per_edge))

    def weights_bytes(self, live: np.ndarray) -> int:
        """Bytes of the weights that a decision reads, once: of live edges [..., E], controller."""
        sizes = np.array([*edge_params(self.model.net).values()], np.float64)
        controller = sum(leaf.size for leaf in jax.tree.leaves(self.params["controller"]))
        return int(4 * (np.mean(live @ sizes) + controller))


def paper(settings: Settings, notes: list[str]) -> Subject:
    """cnn-trad-fpool3 with shortcuts, 137M MACs, as it begins."""
    maps = kws_paper.QUICK_MAPS if settings.quick else kws_paper.PAPER_MAPS
    model = Sanas(kws_cnn(maps=maps), Controller())
    params = init_model(model, jax.random.key(0))

    def make(peer: pytorch.Peer, compiled: bool) -> Decide:
        torch = peer.torch
        network = kws_paper.torch_model(peer, maps, params, compiled=compiled).eval()
        z = torch.zeros(1, network.cell.hidden_size)

        def decide(window: np.ndarray, live: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                network.head(z)
                x = torch.tensor(window[None, None, :, :, 0])
                logits, features = network.network(x, torch.tensor(live[None]))
                network.cell(features, z)
            return logits[0].numpy()

        return decide

    return _subject("kws_paper", model, params, make, settings, notes, None)


def trained(reference: str, settings: Settings, notes: list[str]) -> Subject:
    """A run, or a model of the package, of the separable space."""
    found = read_model(reference)
    about = found.info.config.model
    if about.family != "separable" or not about.conditioned:
        raise ValueError(
            "--model: expected a separable network that is told its price, got "
            f"{about.family}{'' if about.conditioned else ', not told one'}: {reference}"
        )
    model, params = found.sanas, found.params
    make = partial(separable_in_torch, model, params)
    name = found.workdir.name
    return _subject(name, model, params, make, settings, notes, found.info.frontend)


def separable_in_torch(
    model: Sanas, params: dict[str, Any], peer: pytorch.Peer, compiled: bool
) -> Decide:
    """A network of the separable space and its controller in PyTorch, whole windows."""
    from experiments.benchmarks.peers.torch_separable import TorchSeparable

    torch = peer.torch
    network: Any = TorchSeparable(model.net, jax.device_get(params)).eval()
    if compiled:
        network = torch.compile(network)
    size = model.controller.cell.features
    width = model.net.shapes[model.net.features][0]
    cell = torch.nn.GRUCell(width + 1, size)
    head = torch.nn.Linear(size + 1, len(model.net.gated))
    z, told = torch.zeros(1, size), torch.zeros(1, 1)
    last: dict[str, Any] = {}

    def decide(window: np.ndarray, live: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            head(torch.cat([z, told], 1))
            x = torch.tensor(window[None, :, :, 0]).transpose(1, 2)
            logits, features = network(x, torch.tensor(live), last)
            cell(torch.cat([features, told], 1), z)
        return logits[0].numpy()

    return decide


def architectures(net: Net, quick: bool = False) -> dict[str, np.ndarray]:
    """Gates [E] by name: everything, and those nearest to shares of its MACs; the cheapest path.

    One that is nearest to two of them has the name of the last. A quick run times the first and the
    last.
    """
    macs = np.array([*edge_macs(net).values()], np.float64)
    every = np.array(list(itertools.product((0.0, 1.0), repeat=len(net.gated))), np.float32)
    gates = np.ones((len(every), len(net.edges)), np.float32)
    gates[:, list(net.gated)] = every
    gates[:, [net.index[edge.name] for edge in net.reuse.values()]] = 0  # nothing to reuse here
    live = np.asarray(prune(net, jnp.asarray(gates)))
    into = [net.index[edge.name] for edge in net.incoming[net.output]]
    answers = live[:, into].max(1) > 0
    live, spent = live[answers], (live @ macs)[answers]
    full = spent.max()
    named = {"everything": full, "half": full / 2, "a tenth": full / 10, "cheapest": 0.0}
    if quick:
        named = {name: named[name] for name in ("everything", "cheapest")}
    found = {int(np.abs(spent - near).argmin()): name for name, near in named.items()}
    return {name: live[index] for index, name in found.items()}


def _subject(
    name: str,
    model: Sanas,
    params: dict[str, Any],
    make: Callable[[pytorch.Peer, bool], Decide],
    settings: Settings,
    notes: list[str],
    frontend: Frontend | None,
) -> Subject:
    """With PyTorch's sides, as far as there are any; what is missing is noted, once."""
    theirs: dict[str, Decide] = {}
    seconds: dict[str, float] = {}
    missing: list[str] = []
    peer = pytorch.import_torch(settings, missing)
    if peer:
        theirs[pytorch.EAGER] = make(peer, False)
        compiled = make(peer, True)
        window = np.zeros(model.net.input_shape, np.float32)
        live = np.ones(len(model.net.edges), np.float32)
        # Twice, since what may be reused is there from the second window on.
        run = lambda: [compiled(window, live) for _ in range(2)]  # noqa: E731
        for side_name, side in pytorch.compiled_side(settings, lambda: run, missing).items():
            theirs[side_name] = compiled
            assert side.compile_seconds is not None
            seconds[side_name] = side.compile_seconds
    notes += [note for note in missing if note not in notes]
    return Subject(name, model, params, theirs, seconds, frontend)
