"""From a config to the library's objects. The only place where a config's words become code."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.config.checks import check
from experiments.config.costs import Charged, charged_of, named_cost
from experiments.config.model import build_model
from experiments.config.schema import Config, Hooks, ModelConfig, choose, features_of
from sanas_jax import costs, estimators
from sanas_jax.controller import initial_state
from sanas_jax.data.images import ImageSettings
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.recipe import Recipe
from sanas_jax.rollout import Sanas
from sanas_jax.training import (
    PRECISIONS,
    Evaluate,
    Objective,
    Price,
    Score,
    Teach,
    Update,
    make_evaluate,
    make_static_evaluate,
    make_static_update,
    make_update,
    terms,
)
from sanas_jax.training.budgets import Target
from sanas_jax.training.optimizer import make_optimizer


class Training(NamedTuple):
    """Everything static about a run.

    Fields:
      model, objective, optimizer: of the library.
      settings: how examples are mixed or varied.
      charged: what the objective charges, in its own unit.
    """

    model: Sanas
    objective: Objective
    optimizer: optax.GradientTransformation
    settings: MixSettings | ImageSettings
    charged: Charged

    @property
    def streams(self) -> bool:
        """Whether batches are of streams; images are none."""
        return isinstance(self.settings, MixSettings)

    def update(self, class_weights: jax.Array | None = None) -> Update:
        """One step of training."""
        make = make_update if self.streams else make_static_update
        return make(self.model, self.optimizer, self.objective, class_weights)

    def evaluate(self, class_weights: jax.Array | None = None) -> Evaluate:
        """Measurements of a batch."""
        make = make_evaluate if self.streams else make_static_evaluate
        return make(self.model, self.objective, class_weights)


def build_training(
    config: Config, num_classes: int, hooks: Hooks, input_shape: tuple[int, ...] | None = None
) -> Training:
    """The library's objects for a config; ValueError names a field with an impossible value.

    Args:
      config: of the run.
      num_classes: K.
      hooks: of the config file.
      input_shape: of an image; None for windows of speech.
    """
    train = config.train
    check(config)
    model = build_model(config, num_classes, hooks, input_shape)
    if not hooks.build_net:  # what a network of the config file's own hears is not known
        _check_features(config)
    net, controller = model.net, model.controller
    state_size = initial_state(controller, net, 1).shape[-1]
    charged = charged_of(config, net, hooks)
    if input_shape is not None and "incremental" in (train.cost, *train.report_costs):
        raise ValueError(
            "config field 'train.cost', 'train.report_costs': incremental is a cost of streams; "
            "expected others for images"
        )
    if input_shape is not None and train.cost_weight_changes:
        raise ValueError(
            "config field 'train.cost_weight_changes': expected 0 for images, which are no streams "
            f"along which a price could change, got {train.cost_weight_changes}"
        )
    penalties = {"max": terms.max_penalty, "abs": terms.abs_penalty}
    estimators_by_name = {
        "leave_one_out": estimators.leave_one_out,
        "batch_mean": estimators.batch_mean,
        "moving_average": lambda: estimators.moving_average(train.estimator_decay),
        "learned_value": lambda: estimators.learned_value(state_size, train.estimator_decay),
        "disarm": estimators.disarm,
        "none": estimators.no_baseline,
    }
    reported = [name for name in train.report_costs if name != train.cost]
    objective = Objective(
        Price(
            charged.objective,
            choose("train.penalty", train.penalty, penalties),
            costs.inconsistent(net),
            train.invalid_penalty,
            tuple(
                (name, named_cost(name, net, train.workers, config.model.hop).cost)
                for name in reported
            ),
        ),
        Score(
            choose("train.estimator", train.estimator, estimators_by_name)(),
            train.samples,
            train.discount,
            train.entropy_weight,
        ),
        Teach(**{field.name: getattr(train, field.name) for field in fields(Teach)}),
        static=config.model.static,
        precision=choose("train.precision", train.precision, {name: name for name in PRECISIONS}),
        average_decay=train.average_decay,
        remat=train.remat,
        measure_mode=train.budget is not None,
    )
    optimizer = make_optimizer(
        _schedule(config, train.learning_rate),
        controller_learning_rate=_schedule(
            config,
            train.learning_rate
            if train.controller_learning_rate is None
            else train.controller_learning_rate,
            train.controller_delay_steps,
        ),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        relative=train.relative,
        decoupled=train.decoupled,
    )
    return Training(model, objective, optimizer, _settings(config, model, input_shape), charged)


def _settings(
    config: Config, model: Sanas, input_shape: tuple[int, ...] | None
) -> MixSettings | ImageSettings:
    data = config.data
    if input_shape is not None:
        return ImageSettings(pad=data.pad, flip=data.flip)
    recipe = {field.name: getattr(data, field.name) for field in fields(Recipe)}
    window = model.window
    if features_of(data)["raw"]:  # rows of samples, of which the last frame takes several
        window -= MixSettings.frame_length // MixSettings.frame_hop - 1
    return MixSettings(**recipe, window=window, hop_frames=config.model.hop)


def _check_features(config: Config) -> None:
    """A network of the library hears either samples, of which it makes bands, or features."""
    family, features = config.model.family, config.data.features
    raw = features_of(config.data)["raw"]
    if family == "separable-gated":
        if not raw:
            raise ValueError(
                "config field 'data.features': expected 'samples', which 'separable-gated' hears, "
                f"got {features!r}"
            )
        return
    if raw:
        raise ValueError(
            f"config field 'data.features': expected 'mfcc' or 'log-mel' for {family!r}, "
            f"got {features!r}"
        )
    default = ModelConfig().max_hz
    if config.model.max_hz != default:
        raise ValueError(
            f"config field 'model.max_hz': expected {default:g} for {family!r}, which makes no mel "
            f"bands itself, got {config.model.max_hz:g}"
        )


def target_of(config: Config, built: Training) -> Target:
    """What a run asks of its cost, arrays []; ValueError for a budget that no network can keep."""
    train, charged = config.train, built.charged
    budget = train.budget
    if budget is not None:
        budget = in_units(budget, charged)
        if not charged.floor <= budget < charged.full:
            raise ValueError(
                f"budget: expected from {_amount(charged.floor)} {charged.unit}, the cheapest "
                f"path, to less than {_amount(charged.full)}, the whole network; "
                f"got {_amount(budget)}"
            )
        budget *= charged.scale
    rate = 0.0 if budget is None else train.budget_rate
    damping = 0.0 if budget is None else train.budget_damping
    values = (train.cost_weight, train.cost_limit, budget or 0.0, rate, damping)
    return Target(*(jnp.float32(value) for value in values))


def _amount(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 1000 else f"{cost:.6g}"


def in_units(budget: float, charged: Charged) -> float:
    """A budget in the cost's unit; below 1 it is a share of the whole network's."""
    return budget * charged.full if budget < 1 else budget


def _schedule(config: Config, peak: float, delay: int = 0) -> optax.Schedule:
    """0 for `delay` steps, linear warm-up, then cosine to 0 or constant."""
    train = config.train
    steps = max(train.steps - delay, 1)
    warmup = max(min(train.warmup_steps, steps - 1), 1)
    rise = optax.linear_schedule(0.0, peak, warmup)
    rest = optax.constant_schedule(peak)
    if train.cosine:
        rest = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
    return optax.join_schedules([optax.constant_schedule(0.0), rise, rest], [delay, delay + warmup])
