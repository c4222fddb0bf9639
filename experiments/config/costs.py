"""What a run charges: a config's word, to a cost with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from data_prep.command.reading import read_text
from experiments.config.edge_timing import edge_times
from experiments.config.schema import Config, Hooks
from sanas_jax import costs
from sanas_jax.costs import Cost, StreamCost, cheapest_path, scaled
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.forward import init
from sanas_jax.graph import Net

COSTS = ("macs", "incremental", "params", "memory", "time", "parallel")


class NamedCost(NamedTuple):
    """A cost in its unit.

    Fields:
      cost: of the library; `incremental` is one of successive steps.
      unit: word for it.
      full: cost of the whole network.
      floor: the least that a path from input to output can cost (0: unknown).
    """

    cost: Cost | StreamCost
    unit: str
    full: float
    floor: float


class Charged(NamedTuple):
    """What the objective charges.

    Fields:
      objective: as a share of the whole network's; of a config file's own cost, as it is.
      unit: word for it.
      full: cost of the whole network, in its unit.
      floor: least cost of a path from input to output, in its unit.
      scale: what one unit is for the objective.
    """

    objective: Cost | StreamCost
    unit: str
    full: float
    floor: float
    scale: float


def charged_of(config: Config, net: Net, hooks: Hooks) -> Charged:
    """What a config charges."""
    if hooks.build_cost:
        cost = hooks.build_cost(net)
        return Charged(cost, "units of cost", _full(net, cost), 0.0, 1.0)
    train = config.train
    if train.cost == "incremental" and not train.discount > 0:
        raise ValueError(
            "config field 'train.cost': incremental charges a step for what those before left out; "
            f"expected train.discount > 0, got {train.discount}"
        )
    cost, unit, full, floor = named_cost(train.cost, net, train.workers, config.model.hop)
    if not full > 0:
        raise ValueError(f"config field 'train.cost': the whole network costs {full} {unit}")
    return Charged(scaled(cost, full), unit, full, floor, 1 / full)


def named_cost(name: str, net: Net, workers: int, hop: int) -> NamedCost:
    """The cost that a word or a JSON file names; ValueError for any other.

    `hop`: frames between two windows of a stream.
    """
    if name == "macs":
        return _per_edge(net, costs.edge_macs(net), "MACs")
    if name == "incremental":
        cost, floor = incremental_macs(net, hop), cheapest_path(net, fresh_macs(net, hop))
        return NamedCost(cost, "MACs of new rows", cost.full, floor)
    if name == "params":
        return _per_edge(net, costs.edge_params(net), "parameters")
    if name == "time":
        times = edge_times(net, init(net, jax.random.key(0)))
        return _per_edge(net, {edge: 1e6 * seconds for edge, seconds in times.items()}, "µs")
    if name == "memory":
        return _whole(net, costs.memory(net), "bytes")
    if name == "parallel":
        steps = cheapest_path(net, dict.fromkeys(net.index, 1))
        return _whole(net, costs.parallel(net, workers), steps_on(workers), steps)
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ValueError(f"config field 'train.cost': expected a JSON file, got {name}")
        return _whole(net, costs.table(net, read_text(name)), "units of cost")
    raise ValueError(
        f"config field 'train.cost': expected one of {COSTS} or a JSON file, got {name!r}"
    )


def steps_on(workers: int) -> str:
    """The unit of the parallel cost."""
    return "steps on 1 worker" if workers == 1 else f"steps on {workers} workers"


def _per_edge(net: Net, table: Mapping[str, float], unit: str) -> NamedCost:
    return _whole(net, costs.table(net, table), unit, cheapest_path(net, table))


def _whole(net: Net, cost: Cost, unit: str, floor: float = 0.0) -> NamedCost:
    """A cost of single architectures."""
    return NamedCost(cost, unit, _full(net, cost), floor)


def _full(net: Net, cost: Cost) -> float:
    """Cost of the whole network."""
    return float(cost(jnp.ones(len(net.edges))))
