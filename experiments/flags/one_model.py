"""Flags of commands that listen with one model, and what they choose.

jax is imported when something is chosen: `--help` need not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from experiments.config.wording import parse_macs
from experiments.flags.trust import define_trust_flag

DEFAULT_MODEL = "pretrained:kws"
DEFAULT_PRICE = 0.1


def define_model_flags(values: flags.FlagValues) -> None:
    """Flags that say which model listens, and how."""
    flags.DEFINE_string("workdir", None, "Folder of a run.", flag_values=values)
    flags.DEFINE_string("pretrained", None, "Name of a model of the package.", flag_values=values)
    flags.DEFINE_string("checkpoint", "latest", "'latest', or a step.", flag_values=values)
    flags.DEFINE_string(
        "budget", None, "MACs per frame asked of a conditioned network.", flag_values=values
    )
    flags.DEFINE_float(
        "cost_weight",
        None,
        f"λ told to a conditioned network; {DEFAULT_PRICE} if nothing is asked, or the nearest "
        "that it learnt.",
        lower_bound=1e-9,
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold",
        None,
        "Fire above this mean posterior; as calibrated if not given.",
        lower_bound=0,
        upper_bound=1,
        flag_values=values,
    )
    define_trust_flag(values)


def define_runtime_flags(values: flags.FlagValues) -> None:
    """Flags that say how it is run."""
    flags.DEFINE_integer(
        "programs",
        0,
        "How many architectures, those that occur most, get a program of their own: faster, after "
        "a second or two of compilation each in the background. For long streams.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "engine",
        "auto",
        ["auto", "native", "xla"],
        "What runs it: C that is compiled here, or XLA. auto: C where there is a compiler (cc, or "
        "the extra `native`) and the network has a form in C.",
        flag_values=values,
    )


def define_address_flags(values: flags.FlagValues) -> None:
    """Flags that say where the live page is served."""
    flags.DEFINE_string("host", "127.0.0.1", "Address of the live page.", flag_values=values)
    flags.DEFINE_integer(
        "port",
        8765,
        "Port of the live page; 0 for any.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
    )


def chosen_model(values: flags.FlagValues) -> TrainedModel:
    """The model that the flags name, on audio."""
    from experiments.runs.packed import PREFIX
    from experiments.runs.trained import read_model

    if values.workdir and values.pretrained:
        raise ValueError("--workdir, --pretrained: expected one of them, got both")
    named = values.workdir or (PREFIX + values.pretrained if values.pretrained else DEFAULT_MODEL)
    budgets = [] if values.budget is None else [parse_macs(values.budget)]
    model = read_model(named, values.checkpoint, budgets, trust=values.trust)
    if model.info.input_shape is not None:
        raise ValueError(f"--workdir: expected a run on audio, got one on images: {model.workdir}")
    return model


def default_price(model: TrainedModel) -> float:
    """λ that a conditioned network is told if nothing is asked."""
    low, high = model.info.config.train.cost_weight_range
    return min(max(DEFAULT_PRICE, low), high)


def chosen_price(values: flags.FlagValues, model: TrainedModel) -> float | None:
    """λ that a conditioned network is told; None for others."""
    asked = values.budget is not None or values.cost_weight is not None
    if values.budget is not None and values.cost_weight is not None:
        raise ValueError("--budget, --cost_weight: expected one of them, got both")
    if not model.conditioned:
        if asked:
            raise ValueError(
                f"--budget, --cost_weight: expected a conditioned network, got {model.workdir.name}"
            )
        return None
    if values.budget is not None:
        return model.prices[0]
    if values.cost_weight is None:
        return default_price(model)
    price = float(values.cost_weight)
    model.check_price(price, "cost_weight")
    return price


def chosen_engine(values: flags.FlagValues) -> Engine:
    """The model that the flags name at its price, compiled."""
    from experiments.live.engine import make_engine

    model = chosen_model(values)
    return make_engine(
        model, chosen_price(values, model), values.programs, values.threshold, values.engine
    )


if TYPE_CHECKING:
    from experiments.live.engine import Engine
    from experiments.runs.trained import TrainedModel
