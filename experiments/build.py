"""From a config to the library's objects. The only place where a config's words become code."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax.numpy as jnp
import optax

from experiments.config import Config, Hooks
from sanas_jax import costs, estimators, objectives, spaces
from sanas_jax.augment import MixSettings
from sanas_jax.budgets import Target, cheapest_path
from sanas_jax.controller import Constant, Controller, controller_macs, initial_state
from sanas_jax.graph import Net
from sanas_jax.rollout import Sanas
from sanas_jax.training import Objective, make_optimizer

T = TypeVar("T")


class Built(NamedTuple):
    """Everything static about a run."""

    model: Sanas
    objective: Objective
    optimizer: optax.GradientTransformation
    mix: MixSettings


def build(config: Config, num_classes: int, hooks: Hooks) -> Built:
    """The library's objects for a config; ValueError names a field with an impossible value."""
    train = config.train
    check(config)
    net = build_net(config, num_classes, hooks)
    cells = {
        "gru": lambda: nn.GRUCell(config.model.state_size),
        "rnn": lambda: nn.SimpleCell(config.model.state_size),
        "constant": Constant,
    }
    cell = choose("model.cell", config.model.cell, cells)()
    controller = Controller(cell, config.model.gate_bias, config.model.conditioned)
    model = Sanas(net, controller, config.model.hop)
    state_size = initial_state(controller, net, 1).shape[-1]
    cost = hooks.build_cost(net) if hooks.build_cost else costs.relative(net, costs.macs(net))
    penalties = {"max": objectives.max_penalty, "abs": objectives.abs_penalty}
    estimators_by_name = {
        "leave_one_out": estimators.leave_one_out,
        "batch_mean": estimators.batch_mean,
        "moving_average": lambda: estimators.moving_average(train.estimator_decay),
        "learned_value": lambda: estimators.learned_value(state_size, train.estimator_decay),
        "disarm": estimators.disarm,
        "none": estimators.no_baseline,
    }
    objective = Objective(
        cost=cost,
        static=config.model.static,
        discount=train.discount,
        samples=train.samples,
        penalty=choose("train.penalty", train.penalty, penalties),
        estimator=choose("train.estimator", train.estimator, estimators_by_name)(),
        entropy_weight=train.entropy_weight,
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
    )
    mix = MixSettings(
        min_seconds=config.data.min_seconds,
        max_seconds=config.data.max_seconds,
        noise_probability=config.data.noise_probability,
        max_noise_gain=config.data.max_noise_gain,
        silence_fraction=config.data.silence_fraction,
        unknown_fraction=config.data.unknown_fraction,
        balance=config.data.balance,
        window=model.window,
        hop_frames=config.model.hop,
    )
    return Built(model, objective, optimizer, mix)


def target_of(config: Config, built: Built, hooks: Hooks) -> Target:
    """What a run asks of its cost, arrays []; ValueError for a budget that no network can keep.

    MACs are charged as a share of the whole network's, so a budget in MACs becomes such a share. A
    cost of the config file's own is asked for in its own unit.
    """
    train = config.train
    budget = train.budget
    if budget is not None and not hooks.build_cost:
        edge_macs = costs.edge_macs(built.model.net)
        floor, full = cheapest_path(built.model.net, edge_macs), sum(edge_macs.values())
        if not floor <= budget < full:
            raise ValueError(
                f"budget: expected from {floor:,} MACs per frame, the cheapest path, to less than "
                f"{full:,}, the whole network; got {budget:,.0f}"
            )
        budget /= full
    rate = 0.0 if budget is None else train.budget_rate
    damping = 0.0 if budget is None else train.budget_damping
    values = (train.cost_weight, train.cost_limit, budget or 0.0, rate, damping)
    return Target(*(jnp.float32(value) for value in values))


def build_net(config: Config, num_classes: int, hooks: Hooks) -> Net:
    """The super-network: the config file's own, or one of the library's."""
    if hooks.build_net:
        return hooks.build_net(config.model, num_classes)
    return spaces.kws_cnn(
        config.model.family,
        shortcuts=config.model.shortcuts,
        num_classes=num_classes,
        maps=config.model.maps,
    )


def macs_per_step(model: Sanas, static: bool) -> tuple[dict[str, int], int]:
    """MACs of each edge per step, and of the controller (0 for a static network)."""
    controller = 0 if static else controller_macs(model.controller, model.net)
    return costs.edge_macs(model.net), controller


def choose(field: str, word: str, choices: dict[str, T]) -> T:
    """The choice that a config's word names."""
    if word not in choices:
        raise ValueError(f"config field {field!r}: expected one of {sorted(choices)}, got {word!r}")
    return choices[word]


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


def cost_ramp(config: Config, step: jnp.ndarray) -> jnp.ndarray:
    """Share of λ that applies at a step: 0 → 1 over `cost_ramp_steps`."""
    ramp = config.train.cost_ramp_steps
    return jnp.minimum(1.0, step / ramp) if ramp else jnp.ones(())
