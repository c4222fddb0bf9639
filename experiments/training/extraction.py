"""A found architecture as a run of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import training_of
from experiments.training.job import run_keys
from sanas_jax.costs import edge_macs, edge_params
from sanas_jax.graph import Net
from sanas_jax.training import init_state
from sanas_jax.training.budgets import init_member


def extracted_config(config: Config, edges: list[str], steps: int) -> Config:
    """The config of the small network: static, of these edges alone."""
    model = dataclasses.replace(config.model, static=True, edges=tuple(edges))
    train = dataclasses.replace(
        config.train, steps=max(steps, 1), budget=None, init_from=None, teacher=(), cost_weight=0.0
    )
    data = dataclasses.replace(config.data, negative_mined=0.0)  # by the network started from
    return dataclasses.replace(config, model=model, data=data, train=train)


def write_run(out: Path, source: Path, info: run_folder.RunInfo, params: dict[str, Any]) -> None:
    """A run at step 0, with the weights of the edges that are left."""
    built = training_of(info)
    state = init_state(
        built.model, built.optimizer, built.objective, run_keys(info.config.train.seed).init
    )
    kept = dict(state.params)
    for part in ("net", "stats"):
        if part in kept:
            kept[part] = {name: params[part][name] for name in kept[part]}
    config_file = source / "config.py"
    run_folder.create(out, info, str(config_file) if config_file.is_file() else None)
    checkpoints = Checkpoints(out / "checkpoints", keep=2)
    checkpoints.save(0, init_member(state._replace(params=kept)))
    checkpoints.close()


def compare(net: Net, small: Net, step: int) -> str:
    """Edges, MACs and parameters that are left of a network, on a few lines."""
    rows = []
    for name, table in (("MACs", edge_macs), ("parameters", edge_params)):
        before, after = (sum(table(n).values()) for n in (net, small))
        rows.append(f"  {name}: {after:,} of {before:,} ({after / before:.1%})")
    edges = f"step {step}: {len(small.edges)} of {len(net.edges)} edges"
    return "\n".join([edges, *rows])
