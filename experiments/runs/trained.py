"""Trained models as the commands that use them take them: from runs, sweeps and packed models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from data_prep.cli import word_list
from experiments.config.build import Built, rebuild
from experiments.config.wording import parse_macs
from experiments.runs import folder as run_folder
from experiments.runs.packed import PREFIX, resolve
from experiments.training.init_from import restore_params
from experiments.training.loop import prices_of


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


def define_model_flags(values: flags.FlagValues) -> None:
    """Flags that say which models, and where their results go."""
    flags.DEFINE_multi_string(
        "workdir", [], "Folder of a run or a sweep; may be repeated.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "pretrained",
        [],
        "Name of a model that came with the package; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )
    flags.DEFINE_list(
        "budgets",
        [],
        "MACs per frame asked of a conditioned network, e.g. 2M,5M; nine prices of "
        "its range if not given.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "cost_weights",
        [],
        "Prices λ told to a conditioned network, e.g. 0.03,0.3, in place of --budgets.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json",
        None,
        "Where to write the result as JSON; a list if there are several.",
        flag_values=values,
    )


def read_models(values: flags.FlagValues) -> tuple[list[Model], list[float]]:
    """The models that the flags name, and the budgets asked of those that are conditioned."""
    budgets = [parse_macs(word) for word in word_list(values.budgets)]
    prices = [parse_price(word) for word in word_list(values.cost_weights)]
    if budgets and prices:
        raise ValueError("--budgets, --cost_weights: expected one of them, got both")
    named = [resolve(PREFIX + name) for name in values.pretrained]
    folders = run_folder.expand_sweeps([*map(resolve, values.workdir), *named])
    if not folders:
        raise ValueError("--workdir, --pretrained: expected a model, got none")
    models = [read_model(folder, values.checkpoint, budgets) for folder in folders]
    if (budgets or prices) and not any(m.info.config.model.conditioned for m in models):
        flag = "--budgets" if budgets else "--cost_weights"
        raise ValueError(f"{flag}: expected a run with model.conditioned, got none")
    return [_told(model, prices) for model in models], budgets


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
    tables = [
        line["calibration"] for line in run_folder.read_metrics(workdir) if "calibration" in line
    ]
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


def parse_price(word: str) -> float:
    """λ, above 0, of a word of --cost_weights."""
    try:
        price = float(word)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise ValueError(f"--cost_weights: expected numbers above 0, got {word!r}")
    return price


def _told(model: Model, prices: list[float]) -> Model:
    """The model at these prices, if there are any and it hears them."""
    if not (prices and model.info.config.model.conditioned):
        return model
    low, high = model.info.config.train.cost_weight_range
    for price in prices:
        if not low <= price <= high:
            raise ValueError(
                f"--cost_weights: expected from {low:g} to {high:g}, the prices that "
                f"{model.workdir.name} learnt; got {price:g}"
            )
    return model._replace(prices=prices)


def asked(model: Model, price: float | None, budgets: Sequence[float]) -> float | None:
    """MACs per frame that were asked of a model at this price; None if nothing was."""
    if price is None:
        return model.info.config.train.budget
    return budgets[model.prices.index(price)] if budgets else None
