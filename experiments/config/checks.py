"""Numbers of a config that cannot work together."""

from __future__ import annotations

from experiments.config.ranges import check_fields
from experiments.config.schema import Config


def check(config: Config) -> None:
    """Raise ValueError for fields out of range, and numbers that cannot work together."""
    check_fields(config)
    train = config.train
    if train.estimator == "leave_one_out" and train.samples < 2:
        raise ValueError(
            f"config fields: expected train.samples ≥ 2 for leave_one_out, got {train.samples}"
        )
    if train.eval_every % train.log_every:
        raise ValueError(
            "config fields: expected train.eval_every to be a multiple of train.log_every, "
            f"got {train.eval_every} and {train.log_every}"
        )
    masks = config.data.time_masks, config.data.frequency_masks
    if config.data.features == "samples" and (any(masks) or train.precision == "bfloat16"):
        raise ValueError(
            "config field 'data.features': samples are not masked, nor rounded; expected no "
            "data.time_masks, no data.frequency_masks and not train.precision bfloat16, got "
            f"{masks[0]}, {masks[1]} and {train.precision}"
        )
    if config.data.negative_mined and train.init_from is None:
        raise ValueError(
            "config field 'data.negative_mined': expected train.init_from (--init_from), the "
            "network that says where it fires, got none"
        )
    if train.teacher and not train.teacher_weight:
        raise ValueError(
            "config field 'train.teacher_weight': expected more than 0 of train.teacher, got 0"
        )
    if train.cost_weight_changes and not config.model.conditioned:
        raise ValueError(
            "config field 'train.cost_weight_changes': expected 0, or model.conditioned, a "
            f"controller that is told its price, got {train.cost_weight_changes}"
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
