"""A step of the train loop on random features, as something to time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness.measure import Side
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.config import Hooks, ModelConfig, load_config, override
from experiments.config.build import build_training, target_of
from experiments.training.steps import make_train_steps, place_batch
from sanas_jax.blocks import Dense
from sanas_jax.costs import count_macs
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas
from sanas_jax.sharding import BUDGET, jit_onto, make_mesh, place
from sanas_jax.training import Batch, init_state
from sanas_jax.training.budgets import init_member

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES, WIDTH, COEFFICIENTS = 12, 16, 40


class Point(NamedTuple):
    """What a step is of; one field differs along an axis. `edges` 0: those of the config."""

    batch: int = 64
    steps: int = 11
    edges: int = 0
    budgets: int = 1
    devices: int = 1


def side_of(
    point: Point,
    config_file: Path = CONFIGS / "kws_small.py",
    changes: Sequence[str] = (),
    *,
    in_turn: bool = False,
) -> Side:
    """One step per run, the state carried along.

    Args:
      point: of the step.
      config_file: whose network it is.
      changes: of that config, as `--set` takes them.
      in_turn: budgets one after the other, as in `over_budgets`.
    """
    config, hooks = load_config(str(config_file))
    config = override(config, [*changes, f"train.batch_size={point.batch}"])
    if point.edges:
        hooks = Hooks(build_net=partial(dense_graph, edges=point.edges))
    built = build_training(config, NUM_CLASSES, hooks)
    devices = jax.devices()[: point.devices]
    mesh = make_mesh(devices, 1, point.batch)
    train_steps = make_train_steps(config, built, None, mesh, in_turn)

    def stack(leaf: Any) -> jax.Array:
        return jnp.stack([leaf] * point.budgets)

    state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    by_budget = jit_onto(partial(jax.tree.map, stack), mesh, BUDGET)
    members, targets, keys = (
        by_budget(place(tree, mesh))
        for tree in (init_member(state), target_of(config, built), jax.random.key(1))
    )
    whole = random_batch(built.model, point.batch, point.steps)
    batches = jax.tree.map(lambda leaf: leaf[None], place_batch(whole, mesh))
    numbers = np.zeros(1, np.int32)
    program = build(train_steps, members, batches, keys, targets, numbers)
    macs = count_macs(train_steps, members, batches, keys, targets, numbers)
    moved = 2 * num_bytes(members) + num_bytes(batches)  # states are read and written

    def run() -> None:
        nonlocal members
        members, metrics = program.run(members, batches, keys, targets, numbers)
        jax.block_until_ready((members, metrics))

    return Side(run, macs=macs, moved=moved).compiled(program)


def random_batch(model: Sanas, batch: int, steps: int = 11) -> Batch:
    """Streams of noise and labels; every step counts."""
    rng = np.random.default_rng(0)
    frames = model.window + model.hop * (steps - 1)
    features = rng.standard_normal((batch, frames, COEFFICIENTS, 1)).astype(np.float32)
    labels = rng.integers(0, NUM_CLASSES, (steps, batch), np.int32)
    return Batch(jnp.asarray(features), jnp.asarray(labels), jnp.ones(labels.shape, bool))


def dense_graph(model: ModelConfig, num_classes: int, *, edges: int) -> Net:
    """A graph of `edges` gates: of as many layers as have that many pairs, each pair an edge."""
    del model
    count = 2
    while count * (count - 1) // 2 < edges:
        count += 1
    if count * (count - 1) // 2 != edges:
        raise ValueError(f"edges: expected a number of pairs (1, 3, 6, 10, …), got {edges}")
    names = [f"l{i}" for i in range(count)]
    layers = (Layer(names[0]), *(Layer(name, nn.relu) for name in names[1:]), Layer("out"))
    pairs = [(a, b) for j, b in enumerate(names) for a in names[:j]]
    inner = tuple(Edge(f"{a}-{b}", a, b, Dense(WIDTH)) for a, b in pairs)
    last = Edge("out", names[-1], "out", Dense(num_classes), gated=False)
    return Net((101, COEFFICIENTS, 1), layers, (*inner, last), output="out", features=names[-1])
