"""Trained models as the commands that use them take them: from runs, sweeps and packed models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.config.model import build_model, macs_per_step, prices_of
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.metrics import read_metrics
from experiments.runs.packed import is_packed, read_params, resolve
from sanas_jax.controller import gamma_of
from sanas_jax.costs import edge_macs
from sanas_jax.data.features import Frontend
from sanas_jax.data.frontend_cost import frontend_cost
from sanas_jax.gates import all_on, mode, sample
from sanas_jax.graph import prune
from sanas_jax.rollout import Policy, Sanas, abstract_model, init_carry

Params = dict[str, Any]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, without what trained it.

    Fields:
      workdir: its folder; one that is packed is only read.
      info: what the folder says of it.
      sanas: network and controller.
      step: of training.
      params: as of `rollout.init_model`.
      prices: λ that are told to it, if it is conditioned.
      named: what tells it from others that it is used with; None for its folder's name.
    """

    workdir: Path
    info: RunInfo
    sanas: Sanas
    step: int
    params: Params
    prices: list[float]
    named: str | None = None

    @property
    def name(self) -> str:
        """As it is shown, and as its results are told from those of others."""
        return self.workdir.name if self.named is None else self.named

    @property
    def static(self) -> bool:
        """Whether all gates are on at every step."""
        return self.info.config.model.static

    @property
    def conditioned(self) -> bool:
        """Whether it is told a price."""
        return self.info.config.model.conditioned

    def check_price(self, price: float, flag: str) -> None:
        """ValueError, which names the flag, for a λ that a conditioned network has not learnt."""
        low, high = self.info.config.train.cost_weight_range
        if not low <= price <= high:
            raise ValueError(
                f"--{flag}: expected from {low:g} to {high:g}, the prices that {self.name} learnt; "
                f"got {price:g}"
            )

    @property
    def policy(self) -> Policy:
        """How it is used: each step in its most probable architecture."""
        return all_on if self.static else mode

    @cached_property
    def edge_macs(self) -> dict[str, int]:
        """MACs of each edge per step."""
        return edge_macs(self.sanas.net)

    @cached_property
    def controller_macs(self) -> int:
        """MACs of the controller per step; 0 where the architecture is constant."""
        return macs_per_step(self.sanas, self.static)[1]

    def frontend_macs(self, form: str = "native") -> int:
        """MACs of the features of a step, in a form of `frontend_cost`."""
        frontend: Frontend = self.info.frontend
        return frontend_cost(frontend, self.sanas.hop, form).total

    def as_static(self) -> TrainedModel:
        """The model without its controller: everything runs."""
        config = self.info.config
        static = replace(config.model, static=True)
        return replace(self, info=self.info._replace(config=replace(config, model=static)))

    def at_prices(self, prices: list[float]) -> TrainedModel:
        """The model, told other prices."""
        return replace(self, prices=prices)


def read_model(
    reference: str | Path,
    checkpoint: str = "latest",
    budgets: Sequence[float] = (),
    *,
    trust: bool = False,
) -> TrainedModel:
    """A trained model; a conditioned one's prices, looked up for budgets in MACs.

    Args:
      reference: folder of a run or of a packed model, or `pretrained:NAME`.
      checkpoint: "latest", or the number of a step.
      budgets: MACs per frame; without any, the prices at which it is validated.
      trust: run what its config.py brings, as of `folder.read`.
    """
    workdir = resolve(reference)
    info = run_folder.read(workdir, trust=trust)
    sanas = model_of(info)
    step, params = restore_params(workdir, info, sanas, checkpoint)
    prices = prices_of(info.config)
    if budgets and info.config.model.conditioned:
        table = calibration(workdir)
        prices = [price_for(macs, table) for macs in budgets]
    return TrainedModel(workdir, info, sanas, step, params, prices)


def calibration(workdir: Path) -> list[dict[str, float]]:
    """What a conditioned run's last validation measured: λ → MACs per frame."""
    tables = [line["calibration"] for line in read_metrics(workdir) if "calibration" in line]
    if not tables:
        raise ValueError(f"{workdir}: expected a validation with prices, found none")
    return tables[-1]


def price_for(macs: float, table: Sequence[dict[str, float]]) -> float:
    """λ at which a conditioned network spends `macs` per frame, between measured prices."""
    # A dearer price never buys more; noise in the table must not make it seem so.
    spent = np.minimum.accumulate([row["macs_per_frame"] for row in table])
    if not spent[-1] <= macs <= spent[0]:
        raise ValueError(
            f"expected budgets from {spent[-1]:,.0f} to {spent[0]:,.0f} MACs per frame, the prices "
            f"that the network learnt; got {macs:,.0f}"
        )
    logs = np.log([row["cost_weight"] for row in table])
    return float(np.exp(np.interp(np.log(macs), np.log(spent[::-1]), logs[::-1])))


def found_architecture(
    sanas: Sanas,
    params: Params,
    static: bool,
    price: float | None = None,
    key: jax.Array | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Γ [E] at the start of a stream, and the live edges [E] of its most probable architecture.

    Args:
      sanas, params: the trained model.
      static: every edge is on.
      price: λ that a conditioned controller is told.
      key: draw the architecture instead.
    """
    net = sanas.net
    if static:
        everything = np.ones(len(net.edges))
        return everything, everything
    carry = init_carry(sanas, 1, price, params.get("stats"))
    gamma = gamma_of(sanas.controller, net, params["controller"], carry.z, carry.condition)
    gates = mode(gamma) if key is None else sample(gamma, key)
    return np.asarray(gamma.probs[0]), np.asarray(prune(net, gates)[0])


def model_of(info: RunInfo) -> Sanas:
    """A run's network and controller."""
    return build_model(info.config, len(info.classes), info.hooks, info.input_shape)


def training_of(info: RunInfo) -> Training:
    """All static objects of a run, its objective and optimiser among them."""
    # Half a second to import, which listening need not wait for.
    from experiments.config.build import build_training

    return build_training(info.config, len(info.classes), info.hooks, info.input_shape)


def restore_params(
    folder: Path, info: RunInfo, sanas: Sanas, which: str = "latest"
) -> tuple[int, Params]:
    """Step and parameters of a run, its latest or `which` step of its front; or of a packed model.

    Args:
      folder: of the run or the packed model.
      info, sanas: of it, for structure and shapes.
      which: "latest", or the number of a step in checkpoints/ or front/.
    """
    if is_packed(folder):
        step, params = read_params(folder, sanas, info.config.model.static)
        if which not in ("latest", str(step)):
            raise ValueError(
                f"checkpoint: expected 'latest' or {step} of a packed model, got {which!r}"
            )
        return step, params
    # Takes a second to import, which packed models need not wait for.
    from experiments.runs.checkpoints import Checkpoints

    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        abstract_model(sanas),
    )
    averaged = info.config.train.average_decay > 0
    with Checkpoints(folder / "checkpoints", writes=False) as latest:
        steps = latest.steps()
        if not steps:
            raise ValueError(f"{folder}: expected a checkpoint, found none; has training begun?")
        if which == "latest" or which in map(str, steps):
            step = steps[-1] if which == "latest" else int(which)
            return step, _deployed(latest, step, averaged, like)
    with Checkpoints(folder / "front", writes=False) as front:
        if which not in map(str, front.steps()):
            known = sorted({*steps, *front.steps()})
            raise ValueError(f"checkpoint: expected 'latest' or one of {known}, got {which!r}")
        return int(which), front.restore(int(which), like)


def _deployed(checkpoints: Checkpoints, step: int, averaged: bool, like: Params) -> Params:
    """Of a training state the parameters in use, as `TrainState.deployed`, without the optimiser's.

    So networks that an earlier version trained can be used, though their training cannot go on.
    """
    part = "average" if averaged else "params"
    params: Params = checkpoints.restore_part(step, {"train": {part: like}})["train"][part]
    return params


if TYPE_CHECKING:
    from experiments.config.build import Training
    from experiments.runs.checkpoints import Checkpoints
