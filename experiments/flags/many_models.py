"""Flags of commands that evaluate many models, and what they choose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from absl import flags

from data_prep.command.cli import number, word_list
from experiments.config.wording import parse_macs
from experiments.flags.trust import define_trust_flag

if TYPE_CHECKING:
    from experiments.runs.trained import TrainedModel


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
    define_trust_flag(values)


def read_models(values: flags.FlagValues) -> tuple[list[TrainedModel], list[float]]:
    """The models that the flags name, and the budgets asked of those that are conditioned."""
    from experiments.runs import folder as run_folder
    from experiments.runs.packed import PREFIX, resolve
    from experiments.runs.trained import read_model

    # One that is asked for twice is run once.
    budgets = list(dict.fromkeys(map(parse_macs, word_list(values.budgets))))
    prices = list(dict.fromkeys(map(parse_price, word_list(values.cost_weights))))
    if budgets and prices:
        raise ValueError("--budgets, --cost_weights: expected one of them, got both")
    named = [resolve(PREFIX + name) for name in values.pretrained]
    folders = run_folder.expand_sweeps([*map(resolve, values.workdir), *named])
    if not folders:
        raise ValueError("--workdir, --pretrained: expected a model, got none")
    models = [
        replace(read_model(folder, values.checkpoint, budgets, trust=values.trust), named=name)
        for folder, name in zip(folders, run_folder.names_of(folders), strict=True)
    ]
    if (budgets or prices) and not any(m.info.config.model.conditioned for m in models):
        flag = "--budgets" if budgets else "--cost_weights"
        raise ValueError(f"{flag}: expected a run with model.conditioned, got none")
    return [at_prices(model, prices) for model in models], budgets


def parse_price(word: str) -> float:
    """λ, above 0, of a word of --cost_weights."""
    price = number(word)
    if not 0 < price < math.inf:
        raise ValueError(f"--cost_weights: expected numbers above 0, got {word!r}")
    return price


def at_prices(model: TrainedModel, prices: list[float]) -> TrainedModel:
    """The model at these prices, if there are any and it hears them."""
    if not (prices and model.info.config.model.conditioned):
        return model
    for price in prices:
        model.check_price(price, "cost_weights")
    return model.at_prices(prices)
