"""Numbers of a config that cannot work together."""

from __future__ import annotations

import math

from experiments.config.schema import Config


def check(config: Config) -> None:
    """Raise ValueError for numbers that cannot work together."""
    train = config.train
    if train.estimator == "leave_one_out" and train.samples < 2:
        raise ValueError(
            f"config fields: expected train.samples ≥ 2 for leave_one_out, got {train.samples}"
        )
    positive = (
        "samples",
        "steps",
        "batch_size",
        "log_every",
        "eval_every",
        "eval_batches",
        "front_size",
    )
    for name in positive:
        if getattr(train, name) < 1:
            raise ValueError(
                f"config field 'train.{name}': expected ≥ 1, got {getattr(train, name)}"
            )
    if train.eval_every % train.log_every:
        raise ValueError(
            "config fields: expected train.eval_every to be a multiple of train.log_every, "
            f"got {train.eval_every} and {train.log_every}"
        )
    if not 0 <= train.cost_weight < math.inf or not 0 <= train.cost_limit <= 1:
        raise ValueError(
            "config fields: expected train.cost_weight ≥ 0 and train.cost_limit in [0, 1], "
            f"got {train.cost_weight} and {train.cost_limit}"
        )
    if train.budget is not None and not (train.budget > 0 and train.budget_rate > 0):
        raise ValueError(
            "config fields: expected train.budget > 0 and train.budget_rate > 0, "
            f"got {train.budget} and {train.budget_rate}"
        )
    if config.model.static and (train.budget is not None or config.model.conditioned):
        raise ValueError("config fields: model.static has no gates, so no budget and no condition")
    if config.model.conditioned:
        if train.budget is not None or train.cost_ramp_steps:
            raise ValueError(
                "config fields: model.conditioned draws its prices; expected no train.budget and "
                f"no train.cost_ramp_steps, got {train.budget} and {train.cost_ramp_steps}"
            )
        prices = train.cost_weight_range
        if len(prices) != 2 or not 0 < prices[0] < prices[1]:
            raise ValueError(
                "config field 'train.cost_weight_range': expected two prices above 0, the lower "
                f"first, got {prices}"
            )
    if not 0 <= train.discount <= 1:
        raise ValueError(f"config field 'train.discount': expected 0..1, got {train.discount}")
