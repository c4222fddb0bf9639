"""The update of kws_paper on this device: beside a CPU's, its rate, many budgets, the host."""

from __future__ import annotations

import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.day.loop_steps import make_dispatches
from experiments.benchmarks.day.results import Line, Teller
from experiments.benchmarks.day.scale import Scale
from experiments.benchmarks.day.training_step import (
    CONFIGS,
    NUM_CLASSES,
    Point,
    random_batch,
    side_of,
)
from experiments.benchmarks.harness.measure import hold, measure, relative_error
from experiments.benchmarks.harness.programs import device_peak_bytes
from experiments.config import load_config, override
from experiments.config.build import build_training
from experiments.datasets.speech import AudioSource
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.training import Budget, init_state, make_update

PAPER = CONFIGS / "kws_paper.py"
TOLERANCE = 1e-3  # of gradients, which sum millions of products in another order


def parity(scale: Scale, tell: Teller) -> None:
    """The gradients of one update, float32 throughout, against those that the CPU computes.

    Gradients, not parameters: an optimiser's first step divides each by its own size, so that
    those which are nearly zero become steps of either sign.
    """
    row = tell("float32", lambda: _compare_with_cpu(scale))
    if row:
        hold(row["tensors"], TOLERANCE, "the device's gradients differ from the CPU's")


def _compare_with_cpu(scale: Scale) -> Line:
    config, hooks = load_config(str(PAPER))
    config = override(config, [*scale.changes, "train.precision=float32"])
    built = build_training(config, NUM_CLASSES, hooks)
    keep = optax.trace(decay=0.0)  # the state that it leaves is the gradient
    update = jax.jit(make_update(built.model, keep, built.objective))
    state = init_state(built.model, keep, built.objective, jax.random.key(0))
    budget = Budget(jnp.float32(config.train.cost_weight), jnp.float32(0))
    given = (state, random_batch(built.model, scale.parity_batch), jax.random.key(1), budget)
    found: list[Any] = []
    for device in (jax.local_devices(backend="cpu")[0], jax.devices()[0]):
        after, metrics = update(*jax.device_put(given, device))
        found.append(jax.device_get((after.opt_state.trace, metrics["loss"])))
    (expected, loss), (got, own_loss) = found
    paths = [
        "/".join(str(getattr(part, "key", part)) for part in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(expected)[0]
    ]
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    tensors = {path: relative_error(*pair) for path, pair in zip(paths, pairs, strict=True)} | {
        "loss": relative_error(own_loss, loss)
    }
    worst = max(tensors, key=tensors.__getitem__)
    return {"difference": tensors[worst], "text": f"largest: {worst}", "tensors": tensors}


def update(scale: Scale, tell: Teller) -> None:
    """A step of the train loop by precision and batch, beside products of that precision."""
    for precision in scale.precisions:
        for batch in scale.batches:
            tell(f"{precision}, batch {batch}", partial(_step, scale, precision, batch))


def _step(scale: Scale, precision: str, batch: int) -> Line:
    side = side_of(Point(batch), PAPER, (*scale.changes, f"train.precision={precision}"))
    measured = measure({"step": side}, scale.repeats, precision)
    return _row(measured, "step")


def budgets(scale: Scale, tell: Teller) -> None:
    """Many budgets in one program beside one, as grouped convolutions and one after the other."""
    one = Point(scale.budgets_batch)
    many = one._replace(budgets=scale.budgets)
    base = cache(lambda: side_of(one, PAPER, scale.changes))  # compiled once

    def find(in_turn: bool) -> Line:
        sides = {"1": base(), "many": side_of(many, PAPER, scale.changes, in_turn=in_turn)}
        measured = measure(sides, scale.repeats)
        return _row(measured, "many") | {"one_seconds": measured["rows"]["1"]["seconds"]}

    tell(f"{scale.budgets} side by side", partial(find, in_turn=False))
    tell(f"{scale.budgets} in turn", partial(find, in_turn=True))


def dispatch(scale: Scale, tell: Teller, clips: Path) -> None:
    """Steps with their batches by how many one program makes, and how long the host waits."""
    config, hooks = load_config(str(PAPER))
    config = override(config, [*scale.changes, f"data.cache={clips}"])
    source = AudioSource(config.data)
    built = build_training(config, len(source.classes), hooks)
    assert isinstance(built.settings, MixSettings)  # a config of audio
    frontend, _ = source.fit(built.settings, jax.random.key(0))
    for at_once in scale.dispatches:

        def find(at_once: int = at_once) -> Line:
            run = make_dispatches(config, built, source, frontend, at_once)
            begin = time.perf_counter()
            jax.block_until_ready(run(1))
            compiled = time.perf_counter()
            count = max(1, scale.steps // at_once)
            issued, total, cpu = _time_dispatches(run, count)
            steps = count * at_once
            return {
                "seconds": total / steps,
                "host_idle": 1 - issued / total,
                "host_cpu_seconds": cpu / steps,
                "compile_seconds": compiled - begin,
                "steps": steps,
            }

        tell(f"{at_once} a dispatch", find)


def _time_dispatches(run: Any, count: int) -> tuple[float, float, float]:
    """Seconds until all are issued, until all are computed, and of CPU time meanwhile."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    computing = run(count)
    issued = time.perf_counter() - begin
    jax.block_until_ready(computing)
    return issued, time.perf_counter() - begin, time.process_time() - begin_cpu


def _row(measured: dict[str, Any], name: str) -> Line:
    limits = {f"limit_{key}": value for key, value in measured["limits"].items()}
    return measured["rows"][name] | limits | {"device_peak_bytes": device_peak_bytes()}
