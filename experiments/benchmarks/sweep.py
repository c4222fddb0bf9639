"""A step of a sweep beside as many steps of single runs.

    python -m experiments.benchmarks.sweep [--budgets 6] [--repeats 5] [--json out.json]

Single runs draw a batch, compute its features and update one network, once per budget; a sweep
draws once and updates all, in one vmapped program or one budget after the other. All run in turn in
one process, on kws_small with clips of noise. First the ways are held to agree: the parameters
after the same steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep import cli as command
from experiments import config as config_lib
from experiments.build import Built, build, target_of
from experiments.config import Config
from experiments.data import AudioSource
from experiments.loop import make_draw, make_train_steps
from experiments.runs import run_keys
from sanas_jax.budgets import Member, init_member
from sanas_jax.clips import Clips
from sanas_jax.features import Frontend
from sanas_jax.training import init_state

CONFIG = Path(__file__).parents[1] / "configs" / "kws_small.py"
NUM_CLASSES, NUM_CLIPS, SAMPLES, RATE = 12, 240, 16_000, 16_000
STEPS = 2  # per way and repeat
TOLERANCE = 1e-3
SINGLE, LOOPED, VMAPPED = "single runs", "sweep, one by one", "sweep, one program"


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_integer("budgets", 6, "G.", lower_bound=2, flag_values=values)
    flags.DEFINE_integer("batch", 64, "Streams per step.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("repeats", 5, "Rounds; medians count.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("maps", 16, "Maps per convolution.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("json", None, "File for the result.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measure, print, write."""
    result = benchmark(values.budgets, values.batch, values.repeats, values.maps)
    print(table(result))
    if values.json:
        Path(values.json).write_text(json.dumps(result, indent=2) + "\n")


def benchmark(budgets: int, batch: int, repeats: int, maps: int) -> dict[str, Any]:
    """Seconds per step of all budgets for each way, and their largest disagreement."""
    config, hooks = config_lib.load_config(str(CONFIG))
    settings = [f"train.batch_size={batch}", f"model.maps={maps},{maps}"]
    config = config_lib.override(config, settings)
    built = build(config, NUM_CLASSES, hooks)
    target = target_of(config, built)
    prices = jnp.linspace(0.5, 2, budgets)
    targets = jax.tree.map(lambda leaf: jnp.full((budgets,), leaf), target)
    targets = targets._replace(cost_weight=prices)
    ways = _ways(config, built, targets, budgets)
    states = {
        SINGLE: _members(built, budgets, 1),
        LOOPED: _members(built, budgets, 1),
        VMAPPED: _members(built, budgets, budgets),
    }
    compile_s: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        begin = time.perf_counter()
        states[name] = jax.block_until_ready(way(states[name], 0))
        compile_s[name] = time.perf_counter() - begin
    for repeat in tqdm(range(repeats), unit="round", desc="in turn"):
        for name, way in ways.items():
            begin = time.perf_counter()
            for step in range(STEPS):
                states[name] = way(states[name], 1 + repeat * STEPS + step)
            jax.block_until_ready(states[name])
            times[name].append((time.perf_counter() - begin) / STEPS)
        if repeat == 0:
            disagreement = max(_distance(states[SINGLE], states[n]) for n in (LOOPED, VMAPPED))
            if disagreement > TOLERANCE:
                raise ValueError(
                    f"expected the ways to agree to {TOLERANCE}, got {disagreement:.1e}"
                )
    return {
        "budgets": budgets,
        "batch": batch,
        "maps": maps,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "disagreement": disagreement,
        "seconds": {name: statistics.median(t) for name, t in times.items()},
        "first_step_seconds": compile_s,
    }


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    seconds = result["seconds"]
    rows = [
        f"{name:<20} {seconds[name]:8.3f} s   ratio {seconds[name] / seconds[SINGLE]:.2f}   "
        f"first step {result['first_step_seconds'][name]:.1f} s"
        for name in seconds
    ]
    head = (
        f"{result['budgets']} budgets, batch {result['batch']}, {result['maps']} maps, "
        f"{result['device']}; parameters agree to {result['disagreement']:.1e}"
    )
    return "\n".join([head, *rows])


def _ways(
    config: Config, built: Built, targets: Any, budgets: int
) -> dict[str, Callable[[list[Member], int], list[Member]]]:
    """Name → (members, step) → members: a list with one entry per program."""
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

    def way(size: int, *, share: bool) -> Callable[[list[Member], int], list[Member]]:
        keys = jnp.stack([key] * size)
        own = [part(targets, start, size) for start in range(0, budgets, size)]

        def run(members: list[Member], step: int) -> list[Member]:
            number, batch = np.array([step], np.int32), None
            out = []
            for member, target in zip(members, own, strict=True):
                if batch is None or not share:
                    batch = draw(clips, None, frontend, key, number)
                out.append(train_steps(member, batch, keys, target, number)[0])
            return out

        return run

    return {
        SINGLE: way(1, share=False),
        LOOPED: way(1, share=True),
        VMAPPED: way(budgets, share=True),
    }


def _members(built: Built, budgets: int, size: int) -> list[Member]:
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


def cli() -> None:
    """Console entry point."""
    sys.exit(command.run(define_flags, main, __doc__ or "", sys.argv))


if __name__ == "__main__":
    cli()
