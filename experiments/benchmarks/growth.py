"""How the time of a training step grows with batch, steps of a stream, edges, budgets and devices.

    python -m experiments.benchmarks.growth [--repeats 7] [--json out.json] [--figure growth.png]

The update of the train loop on kws_small (16 maps, 8 samples) and random features, one thing
changed at a time; edges are those of a graph of dense layers in which every layer sees all before
it. Several devices share one batch of 64; on a CPU they are virtual ones on the same cores, which
shows what sharing costs and cannot show a gain. Each axis is timed in turn, in a process of its
own, and its rows are compared with its first one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from data_prep.command import cli as command
from experiments.benchmarks.harness import entry, records
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, measure
from experiments.benchmarks.harness.programs import build
from experiments.benchmarks.harness.records import Result, result, table
from experiments.config import Hooks, ModelConfig, load_config, override
from experiments.config.build import build_training, target_of
from experiments.figures.growth import growth_figure
from experiments.training.steps import make_train_steps, place_batch
from sanas_jax.blocks import Dense
from sanas_jax.costs import count_macs
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.sharding import BUDGET, jit_onto, make_mesh, place
from sanas_jax.training import Batch, init_state
from sanas_jax.training.budgets import init_member

__all__ = ["benchmark", "main", "table"]

NAME = "growth"
CONFIG = Path(__file__).parents[1] / "configs" / "kws_small.py"
NUM_CLASSES, WIDTH, COEFFICIENTS = 12, 16, 40
AXES: dict[str, tuple[int, ...]] = {
    "batch": (8, 16, 32, 64, 128, 256),
    "steps": (6, 11, 21, 41, 81),
    "edges": (6, 28, 66, 120, 231),
    "budgets": (1, 2, 4, 8),
    "devices": (1, 2, 4, 8),
}
REPEATS = 7


class Point(NamedTuple):
    """What a step is of; one field differs along an axis. `edges` 0: those of kws_small."""

    batch: int = 64
    steps: int = 11
    edges: int = 0
    budgets: int = 1
    devices: int = 1


def points_of(axis: str, quick: bool) -> list[Point]:
    """The points of an axis; the first ones, with a small batch, where it is quick."""
    base = Point(batch=8) if quick else Point()
    counts = AXES[axis][: 2 if quick else None]
    return [base._replace(**{axis: count}) for count in counts]


def side_of(point: Point) -> Side:
    """One step per run, the state carried along."""
    config, hooks = load_config(str(CONFIG))
    config = override(config, [f"train.batch_size={point.batch}"])
    if point.edges:
        hooks = Hooks(build_net=partial(dense_graph, edges=point.edges))
    built = build_training(config, NUM_CLASSES, hooks)
    devices = jax.devices()[: point.devices]
    mesh = make_mesh(devices, 1, point.batch)
    train_steps = make_train_steps(config, built, None, mesh)

    def stack(leaf: Any) -> jax.Array:
        return jnp.stack([leaf] * point.budgets)

    state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    by_budget = jit_onto(partial(jax.tree.map, stack), mesh, BUDGET)
    members, targets, keys = (
        by_budget(place(tree, mesh))
        for tree in (init_member(state), target_of(config, built), jax.random.key(1))
    )
    rng = np.random.default_rng(0)
    frames = built.model.window + built.model.hop * (point.steps - 1)
    features = rng.standard_normal((point.batch, frames, COEFFICIENTS, 1)).astype(np.float32)
    labels = rng.integers(0, NUM_CLASSES, (point.steps, point.batch), np.int32)
    whole = Batch(jnp.asarray(features), jnp.asarray(labels), jnp.ones(labels.shape, bool))
    batches = jax.tree.map(lambda leaf: leaf[None], place_batch(whole, mesh))
    numbers = np.zeros(1, np.int32)
    program = build(train_steps, members, batches, keys, targets, numbers)
    macs = count_macs(train_steps, members, batches, keys, targets, numbers)

    def run() -> None:
        nonlocal members
        members, metrics = program.run(members, batches, keys, targets, numbers)
        jax.block_until_ready((members, metrics))

    return Side(run, macs=macs).compiled(program)


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


def benchmark(settings: Settings, only: Sequence[str] = ()) -> Result:
    """All axes, or those of `only`, each in a process of its own."""
    measured: dict[str, Any] = {"rows": {}, "limits": {}}
    for axis in only or AXES:
        found = _in_a_process(settings, axis)
        measured["rows"] |= found["rows"]
        measured["limits"] = measured["limits"] or found["limits"]
    return result(
        f"growth of a training step, kws_small, batch 64 × 11 steps unless said otherwise, "
        f"{settings.threads} threads, median of {settings.repeats} in turn",
        settings.asked,
        measured,
    )


def measure_axis(settings: Settings, axis: str) -> Result:
    """The points of one axis, in this process."""
    points = points_of(axis, settings.quick)
    sides = {f"{axis} {getattr(point, axis)}": side_of(point) for point in points}
    return result(axis, settings.asked, measure(sides, settings.repeats))


def _in_a_process(settings: Settings, axis: str) -> Result:
    """`measure_axis`, with as many virtual devices as it needs."""
    count = points_of(axis, settings.quick)[-1].devices
    environment = dict(os.environ)
    if settings.device == "cpu" and count > 1:
        several = f"--xla_force_host_platform_device_count={count}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {several}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "axis.json"
        asked = [
            *(sys.executable, "-m", "experiments.benchmarks.growth", f"--axis={axis}"),
            *(f"--json={file}", f"--device={settings.device}", f"--threads={settings.threads}"),
            f"--repeats={settings.repeats}",
            *(["--quick"] if settings.quick else []),
        ]
        done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise ValueError(f"growth with {axis}: expected it to end well, got an error (above)")
        return records.read(file)[NAME]


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS)
    flags.DEFINE_enum("axis", None, list(AXES), "One axis only.", flag_values=values)
    flags.DEFINE_string("figure", None, "PNG file for a plot of all axes.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    measured: Callable[[], Result] = partial(benchmark, settings)
    if values.axis:
        measured = partial(measure_axis, settings, values.axis)
    figure = Path(values.figure) if values.figure else None
    if figure and not (figure.suffix == ".png" and figure.parent.is_dir()):
        raise ValueError(f"--figure: expected a PNG file in a folder that exists, got {figure}")

    def measured_and_drawn() -> Result:
        found = measured()
        if figure:
            growth_figure(found["rows"]).savefig(figure, dpi=150)
        return found

    entry.run_one(NAME, values, settings, measured_and_drawn, training=True)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
