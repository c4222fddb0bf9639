"""The same training for every architecture that was found, from the shared weights on.

All of them train by one program, as runs of a sweep do: Γ is 0 and 1, is left so, and says which
architecture a run is. Each keeps a folder of its own, named by its live edges, and resumes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.config import Config
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import Params, TrainedModel, model_of, restore_params
from experiments.training.begin import begin
from experiments.training.loop import run_loop
from sanas_jax.graph import Net
from sanas_jax.training.budgets import Member

# A logit whose probability is 0 or 1 in float32, and which stays finite.
SURE = 200.0


def finetuned(
    model: TrainedModel,
    found: Sequence[np.ndarray],
    folder: Path,
    steps: int,
    *,
    trust: bool = False,
) -> list[Params]:
    """Parameters of each architecture [E] after so many steps.

    Args:
      model: super-network, without a controller that changes along a stream.
      found: live edges of each.
      folder: of their runs.
      steps: of training.
      trust: run what the super-network's config.py brings.
    """
    config = finetuning_config(model, steps)
    net = model.sanas.net
    folders = {_name(live): folder / _name(live) for live in found}
    by_name = {_name(live): live for live in found}
    missing = [name for name, path in folders.items() if _last_step(path) < steps]
    if missing:
        hooks = model.info.hooks
        config_file = str(model.workdir / "config.py") if any(hooks) else None
        new = [folders[name] for name in missing]
        with begin([config] * len(missing), new, config_file, hooks=hooks, trust=trust) as job:
            runs = [
                run._replace(member=with_gates(run.member, net, by_name[name]))
                if run.step == 0
                else run
                for name, run in zip(missing, job.runs, strict=True)
            ]
            run_loop(job._replace(runs=runs))
    info = model.info._replace(config=config)
    sanas = model_of(info)
    paths = [folders[_name(live)] for live in found]
    return [restore_params(path, info, sanas, str(steps))[1] for path in paths]


def finetuning_config(model: TrainedModel, steps: int) -> Config:
    """The super-network's, for one architecture that does not change and costs nothing."""
    config = model.info.config
    if not config.model.static and config.model.cell != "constant":
        raise ValueError(
            "--finetune_steps: expected 0, or a super-network that is static or has a Γ for all "
            f"inputs (model.cell=constant), got {model.workdir}"
        )
    train = dataclasses.replace(
        config.train,
        steps=steps,
        init_from=str(model.workdir),
        teacher=(),
        warmup_steps=min(config.train.warmup_steps, steps // 4),
        controller_learning_rate=0.0,
        budget=None,
        cost="macs",
        report_costs=(),
        cost_weight=0.0,
        cost_weight_changes=0.0,
        samples=1,
        estimator="none",
        entropy_weight=0.0,
        full_weight=0.0,
        distill_weight=0.0,
        log_every=steps,
        eval_every=steps,
        front_size=1,
    )
    plain = dataclasses.replace(config.model, static=False, cell="constant", conditioned=False)
    return dataclasses.replace(config, model=plain, train=train)


def with_gates(member: Member, net: Net, live: np.ndarray) -> Member:
    """The state of a run whose Γ is an architecture, live edges [E]."""
    train = member.train._replace(params=with_architecture(member.train.params, net, live))
    if train.average is not None:
        train = train._replace(average=with_architecture(train.average, net, live))
    return member._replace(train=train)


def with_architecture(params: Params, net: Net, live: np.ndarray) -> Params:
    """Parameters of a model with a constant Γ that says this and nothing else."""
    bias = jnp.where(jnp.asarray(live)[np.array(net.gated)], SURE, -SURE)
    controller = params["controller"]
    return params | {"controller": controller | {"head": controller["head"] | {"bias": bias}}}


def _name(live: np.ndarray) -> str:
    """Of an architecture's folder: its live edges as hexadecimal digits."""
    return np.packbits(np.asarray(live, bool)).tobytes().hex()


def _last_step(folder: Path) -> int:
    """Of what a run has saved; -1 if nothing."""
    if not run_folder.is_run(folder):
        return -1
    with Checkpoints(folder / "checkpoints", writes=False) as saved:
        return max(saved.steps(), default=-1)
