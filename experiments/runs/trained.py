"""Trained models as the commands that use them take them: from runs, sweeps and packed models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config.build import Built, build, prices_of
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.folder import RunInfo
from experiments.runs.metrics import read_metrics
from experiments.runs.packed import is_packed, read_params, resolve
from sanas_jax.controller import gamma_of
from sanas_jax.gates import mode, sample
from sanas_jax.graph import prune
from sanas_jax.rollout import init_carry, init_model

Params = dict[str, Any]


class Model(NamedTuple):
    """A trained model: `prices` are told to it if it is conditioned.

    `workdir` is its folder; one that is packed is only read.
    """

    workdir: Path
    info: run_folder.RunInfo
    built: Built
    step: int
    params: Any
    prices: list[float]


def read_model(
    reference: str | Path, checkpoint: str = "latest", budgets: Sequence[float] = ()
) -> Model:
    """A trained model; a conditioned one's prices, looked up for budgets in MACs.

    Args:
      reference: folder of a run or of a packed model, or `pretrained:NAME`.
      checkpoint: "latest", or the number of a step.
      budgets: MACs per frame; without any, the prices at which it is validated.
    """
    workdir = resolve(reference)
    info = run_folder.read(workdir)
    built = rebuild(info)
    step, params = restore_params(workdir, built, checkpoint)
    prices = prices_of(info.config)
    if budgets and info.config.model.conditioned:
        table = calibration(workdir)
        prices = [price_for(macs, table) for macs in budgets]
    return Model(workdir, info, built, step, params, prices)


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
            f"--budgets: expected from {spent[-1]:,.0f} to {spent[0]:,.0f} MACs per frame, the "
            f"prices that the network learnt; got {macs:,.0f}"
        )
    logs = np.log([row["cost_weight"] for row in table])
    return float(np.exp(np.interp(np.log(macs), np.log(spent[::-1]), logs[::-1])))


def found_architecture(
    built: Built,
    params: Any,
    static: bool,
    price: float | None = None,
    key: jax.Array | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Γ [E] at the start of a stream, and the live edges [E] of its most probable architecture.

    Args:
      built, params: the trained run.
      static: every edge is on.
      price: λ that a conditioned controller is told.
      key: draw the architecture instead.
    """
    net = built.model.net
    if static:
        everything = np.ones(len(net.edges))
        return everything, everything
    carry = init_carry(built.model, 1, price, params.get("stats"))
    gamma = gamma_of(built.model.controller, net, params["controller"], carry.z, carry.condition)
    gates = mode(gamma) if key is None else sample(gamma, key)
    return np.asarray(gamma.probs[0]), np.asarray(prune(net, gates)[0])


def rebuild(info: RunInfo) -> Built:
    """The library's objects of a run."""
    return build(info.config, len(info.classes), info.hooks, info.input_shape)


def restore_params(folder: Path, built: Built, which: str = "latest") -> tuple[int, Params]:
    """Step and parameters of a run, its latest or `which` step of its front; or of a packed model.

    Args:
      folder: of the run or the packed model.
      built: its model and optimiser, for structure and dtypes.
      which: "latest", or the number of a step in checkpoints/ or front/.
    """
    if is_packed(folder):
        step, params = read_params(folder, built.model, built.objective.static)
        if which not in ("latest", str(step)):
            raise ValueError(
                f"checkpoint: expected 'latest' or {step} of a packed model, got {which!r}"
            )
        return step, params
    like = init_model(built.model, jax.random.key(0))
    latest = Checkpoints(folder / "checkpoints")
    steps = latest.steps()
    if not steps:
        raise ValueError(f"{folder}: expected a checkpoint, found none; has training begun?")
    if which == "latest":
        return steps[-1], _deployed(latest, steps[-1], built, like)
    front = Checkpoints(folder / "front")
    if not which.isdigit() or int(which) not in {*steps, *front.steps()}:
        raise ValueError(
            f"checkpoint: expected 'latest' or one of {sorted({*steps, *front.steps()})}, "
            f"got {which!r}"
        )
    step = int(which)
    if step in steps:
        return step, _deployed(latest, step, built, like)
    return step, front.restore(step, like)


def _deployed(checkpoints: Checkpoints, step: int, built: Built, like: Params) -> Params:
    """Of a training state the parameters in use, as `TrainState.deployed`, without the optimiser's.

    So networks that an earlier version trained can be used, though their training cannot go on.
    """
    part = "average" if built.objective.average_decay else "params"
    params: Params = checkpoints.restore_part(step, {"train": {part: like}})["train"][part]
    return params
