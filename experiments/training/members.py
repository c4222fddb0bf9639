"""The members of a sweep: one config each, and what they reached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from experiments.config import Config, override
from experiments.config.build import Training, in_units
from experiments.config.wording import format_columns, format_macs, verdict
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics


def expand(
    config: Config, budgets: Sequence[float], cost_weights: Sequence[float], seeds: Sequence[int]
) -> dict[str, Config]:
    """Members of a sweep by name: every budget (or price) with every seed."""
    if budgets and cost_weights:
        raise ValueError("expected either --budgets or --cost_weights, got both")
    if not (budgets or cost_weights or seeds):
        raise ValueError("expected --budgets, --cost_weights or --seeds, got none")
    amounts = {f"budget_{format_macs(macs)}": f"train.budget={macs!r}" for macs in budgets}
    amounts |= {f"lambda_{weight:g}": f"train.cost_weight={weight!r}" for weight in cost_weights}
    seeded = {f"seed_{seed}": f"train.seed={seed}" for seed in seeds}
    if len(amounts) < len(budgets) + len(cost_weights) or len(seeded) < len(seeds):
        raise ValueError("expected each budget, price and seed once, got one twice")
    axes = [list(axis.items()) for axis in (amounts, seeded) if axis]
    out = {}
    for choice in product(*axes):
        names, settings = zip(*choice, strict=True)
        out["-".join(names)] = override(config, settings)
    return out


def reached_table(folders: Sequence[Path], built: Training) -> str:
    """A line per run: what was asked, λ, and the last validation, in the cost's unit."""
    rows = [("run", "asked", f"reached ({built.charged.unit})", "", "λ", "frame accuracy")]
    for folder in folders:
        lines = list(read_metrics(folder))
        budget = run_folder.read(folder).config.train.budget
        budget = budget and in_units(budget, built.charged)
        asked = format_macs(budget) if budget else "–"
        if lines and lines[-1]["split"] == "diverged":
            rows.append((folder.name, asked, "diverged", lines[-1]["reason"], "", ""))
            continue
        validation = [line for line in lines if line["split"] == "validation"][-1]
        training = [line for line in lines if line["split"] == "training"][-1]
        reached = validation["charged"]
        rows.append(
            (
                folder.name,
                asked,
                format_macs(float(f"{reached:.4g}")),
                verdict(reached, budget, training["cost_weight"]) if budget else "",
                f"{training['cost_weight']:.3g}",
                f"{validation['frame_accuracy']:.1%}",
            )
        )
    return format_columns(rows)


def check_same_members(workdir: Path, members: list[str]) -> None:
    """A folder that holds another sweep, or a single run, is left alone."""
    if run_folder.is_run(workdir):
        raise ValueError(f"--workdir: expected a new folder or a sweep, got a run: {workdir}")
    known = run_folder.read_sweep(workdir)
    if known is not None and known != members:
        raise ValueError(
            f"--workdir {workdir} holds a sweep of {', '.join(known)}; expected the same members "
            f"or a new folder, got {', '.join(members)}"
        )
