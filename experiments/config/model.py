"""From a config to the network and its controller: all that using a trained model takes."""

from __future__ import annotations

import flax.linen as nn
import numpy as np

from experiments.config.networks import library_net
from experiments.config.schema import Config, Hooks, choose
from sanas_jax import costs
from sanas_jax.controller import Constant, Controller, controller_macs
from sanas_jax.graph import Net, subnet
from sanas_jax.rollout import Sanas

CALIBRATION_POINTS = 9


def build_model(
    config: Config, num_classes: int, hooks: Hooks, input_shape: tuple[int, ...] | None = None
) -> Sanas:
    """The network and its controller; all that using a trained model takes.

    Arguments and errors as of `build_training`.
    """
    net = build_net(config, num_classes, hooks, input_shape)
    cells = {
        "gru": lambda: nn.GRUCell(config.model.state_size),
        "rnn": lambda: nn.SimpleCell(config.model.state_size),
        "constant": Constant,
    }
    cell = choose("model.cell", config.model.cell, cells)()
    controller = Controller(cell, config.model.gate_bias, config.model.conditioned)
    # An image is one window.
    hop = config.model.hop if input_shape is None else net.input_shape[0]
    return Sanas(net, controller, hop)


def build_net(
    config: Config,
    num_classes: int,
    hooks: Hooks,
    input_shape: tuple[int, ...] | None = None,
) -> Net:
    """The super-network: the config file's own, or one of the library's."""
    if hooks.build_net:
        net = hooks.build_net(config.model, num_classes)
    else:
        net = library_net(config.model, num_classes, input_shape)
    return net if config.model.edges is None else subnet(net, config.model.edges)


def macs_per_step(model: Sanas, static: bool) -> tuple[dict[str, int], int]:
    """MACs of each edge per step, and of the controller: 0 where the architecture is constant."""
    constant = static or isinstance(model.controller.cell, Constant)
    controller = 0 if constant else controller_macs(model.controller, model.net)
    return costs.edge_macs(model.net), controller


def prices_of(config: Config) -> list[float]:
    """λ at which a run is validated: a conditioned one's range, log-spaced; else its own."""
    if config.model.conditioned:
        low, high = config.train.cost_weight_range
        return np.geomspace(low, high, CALIBRATION_POINTS).tolist()
    return [config.train.cost_weight]
