"""A step of a sweep beside as many steps of single runs.

    python -m experiments.benchmarks.sweep [--budgets 6] [--repeats 5] [--json out.json]

Single runs draw a batch, compute its features and update one network, once per budget; a sweep
draws once and updates all, in one vmapped program or one budget after the other. All run in turn in
one process, on kws_small with clips of noise. First the ways are held to agree: the parameters
after the same steps. Compile time and memory are those of the update, of one network or of all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from data_prep.command import cli as command
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure
from experiments.benchmarks.harness.programs import Program, build
from experiments.benchmarks.harness.records import Result, result, table
from experiments.config import Config, load_config, override
from experiments.config.build import Training, build_training, target_of
from experiments.datasets.speech import AudioSource
from experiments.training.job import run_keys
from experiments.training.steps import make_draw, make_train_steps
from sanas_jax.costs import count_macs
from sanas_jax.data.clips import Clips
from sanas_jax.data.features import Frontend
from sanas_jax.training import init_state
from sanas_jax.training.budgets import Member, init_member

__all__ = ["benchmark", "main", "table"]

NAME = "sweep"
CONFIG = Path(__file__).parents[1] / "configs" / "kws_small.py"
NUM_CLASSES, NUM_CLIPS, SAMPLES, RATE = 12, 240, 16_000, 16_000
CHECKED_STEPS = 3  # after which the ways must agree
TOLERANCE = 1e-3
REPEATS = 5
SINGLE, LOOPED, VMAPPED = "single runs", "sweep, one by one", "sweep, one program"

Way = Callable[[list[Member], int], list[Member]]


def benchmark(settings: Settings, budgets: int = 6, batch: int = 64, maps: int = 16) -> Result:
    """Seconds of a step of all budgets in each way; `maps` per convolution."""
    config, hooks = load_config(str(CONFIG))
    own = [f"train.batch_size={batch}", f"model.maps={maps},{maps}"]
    config = override(config, own)
    built = build_training(config, NUM_CLASSES, hooks)
    target = target_of(config, built)
    targets = jax.tree.map(lambda leaf: jnp.full((budgets,), leaf), target)
    targets = targets._replace(cost_weight=jnp.linspace(0.5, 2, budgets))
    programs: dict[int, tuple[Program, int]] = {}
    ways = _ways(config, built, targets, budgets, programs)
    sizes = {SINGLE: 1, LOOPED: 1, VMAPPED: budgets}
    states = {name: _members(built, budgets, size) for name, size in sizes.items()}
    sides: dict[str, Side] = {}
    for name, way in ways.items():
        for step in range(CHECKED_STEPS):
            states[name] = jax.block_until_ready(way(states[name], step))
        program, macs = programs[sizes[name]]
        side = Side(partial(_step, way, states, name), macs=macs * (budgets // sizes[name]))
        sides[name] = side.compiled(program)
    agreement = {name: _distance(states[SINGLE], states[name]) for name in (LOOPED, VMAPPED)}
    hold(agreement, TOLERANCE, "the ways end with other parameters")
    return result(
        f"a step of {budgets} budgets, kws_small, {maps} maps, batch {batch}, "
        f"{settings.threads} threads, median of {settings.repeats} in turn",
        settings.asked | {"budgets": budgets, "batch": batch, "maps": maps},
        measure(sides, settings.repeats),
        agreement=agreement,
    )


def _step(way: Way, states: dict[str, list[Member]], name: str) -> None:
    """The next step of one way, whatever its number."""
    states[name] = jax.block_until_ready(way(states[name], CHECKED_STEPS))


def _ways(
    config: Config,
    built: Training,
    targets: Any,
    budgets: int,
    programs: dict[int, tuple[Program, int]],
) -> dict[str, Way]:
    """Name → (members, step) → members: a list with one entry per program.

    The update's program for so many budgets, and its MACs, come to stand in `programs`.
    """
    rng = np.random.default_rng(0)
    clips = Clips.create(
        rng.integers(-8000, 8000, (NUM_CLIPS, SAMPLES), np.int16),
        np.full(NUM_CLIPS, SAMPLES),
        np.arange(NUM_CLIPS) % (NUM_CLASSES - 1) + 1,
    )
    frontend = Frontend.create(rng.random((40, 241), np.float32), sample_rate=RATE)
    draw = make_draw(config, built, AudioSource.draw)
    train_steps = make_train_steps(config, built, None)
    key = run_keys(0).train

    def part(tree: Any, start: int, size: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[start : start + size], tree)

    def way(size: int, *, share: bool) -> Way:
        keys = jnp.stack([key] * size)
        own = [part(targets, start, size) for start in range(0, budgets, size)]

        def run(members: list[Member], step: int) -> list[Member]:
            number, batch = np.array([step], np.int32), None
            out = []
            for member, target in zip(members, own, strict=True):
                if batch is None or not share:
                    batch = draw(clips, None, frontend, key, number)
                args = (member, batch, keys, target, number)
                if size not in programs:
                    programs[size] = build(train_steps, *args), count_macs(train_steps, *args)
                out.append(programs[size][0].run(*args)[0])
            return out

        return run

    return {
        SINGLE: way(1, share=False),
        LOOPED: way(1, share=True),
        VMAPPED: way(budgets, share=True),
    }


def _members(built: Training, budgets: int, size: int) -> list[Member]:
    """Fresh members in programs of `size`; each has buffers of its own, for steps donate them."""
    state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    member = init_member(state)
    return [
        jax.tree.map(lambda leaf: jnp.stack([leaf] * size), member) for _ in range(0, budgets, size)
    ]


def _distance(ours: list[Member], theirs: list[Member]) -> float:
    """Largest difference of two ways' parameters, relative to a tensor's largest entry."""
    a, b = (
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *(m.train.params for m in members))
        for members in (ours, theirs)
    )
    errors = jax.tree.map(lambda x, y: np.abs(x - y).max() / max(np.abs(x).max(), 1e-12), a, b)
    return float(max(jax.tree.leaves(errors)))


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS)
    flags.DEFINE_integer("budgets", None, "G; 6, or 2 with --quick.", 2, flag_values=values)
    flags.DEFINE_integer("batch", None, "Streams; 64, or 4 with --quick.", 1, flag_values=values)
    flags.DEFINE_integer("maps", None, "Maps; 16, or 2 with --quick.", 1, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    usual = (2, 4, 2) if settings.quick else (6, 64, 16)
    asked = (values.budgets, values.batch, values.maps)
    budgets, batch, maps = (a or u for a, u in zip(asked, usual, strict=True))
    entry.run_one(
        NAME, values, settings, lambda: benchmark(settings, budgets, batch, maps), training=True
    )


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
