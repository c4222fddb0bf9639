"""Estimators of the score function: bias, variance, time.

    python -m experiments.benchmarks.estimators --data cache [--workdir runs/static]

On one batch of real streams, with the weights of a run (a static run is SANAS before its first
step) or fresh ones of kws_small. What is measured is the gradient of the controller's parameters:

bias      on streams of one step, where every architecture can be run: distance of the mean over
          draws from the exact gradient, beside the distance that chance alone would explain, both
          as shares of its length
time      of a whole update, network's gradient and Adam included, relative to the first row's;
          rows take turns, so that other load hits all alike
variance  on whole streams, γ = 0 and γ = 1: sum over parameters, in units of the squared length of
          the mean gradient; only the architectures are drawn anew, the streams stay
price     variance × time, relative to the first row's: what is paid for the same precision

Estimators that remember first see `WARM_UP` other batches, as they would in training.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import check_place, write_json
from data_prep.command.progress import counted
from experiments.config import load_config, override
from experiments.config.build import Training, build_training
from experiments.datasets.speech import AudioSource
from experiments.runs import folder as run_folder
from experiments.runs.trained import model_of, restore_params
from sanas_jax import estimators
from sanas_jax.controller import gamma_of, initial_state
from sanas_jax.costs import charge
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.forward import join, trunk_edges
from sanas_jax.gates import log_prob
from sanas_jax.graph import prune
from sanas_jax.training import Batch, Budget, Objective, Score, TrainState, init_state, make_update
from sanas_jax.training.terms import cross_entropy

CONFIG = Path(__file__).parents[1] / "configs" / "kws_small.py"
WARM_UP = 20
ROUNDS = 5  # of timed updates
CHUNK = 16  # draws that share a trunk


class Problem(NamedTuple):
    """A network with its weights, streams that are measured and others, and what a class counts."""

    built: Training
    params: Any
    batch: Batch
    others: list[Batch]
    class_weights: jax.Array | None
    cost_weight: float


class Way(NamedTuple):
    """An estimator and its number of samples per stream."""

    name: str
    estimator: estimators.Estimator
    samples: int


def ways(state_size: int) -> list[Way]:
    """What is compared; the first is what the others are measured by."""
    learned = estimators.learned_value(state_size)
    return [
        Way("leave one out, M = 4", estimators.leave_one_out(), 4),
        Way("leave one out, M = 2", estimators.leave_one_out(), 2),
        Way("leave one out, M = 8", estimators.leave_one_out(), 8),
        Way("DisARM, 1 pair", estimators.disarm(), 1),
        Way("DisARM, 2 pairs", estimators.disarm(), 2),
        Way("DisARM, 4 pairs", estimators.disarm(), 4),
        Way("learned value, M = 1", learned, 1),
        Way("learned value, M = 4", learned, 4),
        Way("batch mean, M = 1", estimators.batch_mean(), 1),
        Way("batch mean, M = 4", estimators.batch_mean(), 4),
        Way("moving average, M = 1", estimators.moving_average(), 1),
        Way("moving average, M = 4", estimators.moving_average(), 4),
        Way("none, M = 1", estimators.no_baseline(), 1),
        Way("none, M = 4", estimators.no_baseline(), 4),
    ]


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "data", None, "Cache of data_prep.prepare.", required=True, flag_values=values
    )
    flags.DEFINE_string("workdir", None, "Run whose weights are used.", flag_values=values)
    flags.DEFINE_string("checkpoint", "latest", "As in evaluate.", flag_values=values)
    flags.DEFINE_integer("batch", 16, "Streams.", lower_bound=2, flag_values=values)
    flags.DEFINE_integer("draws", 256, "Gradients per row.", lower_bound=CHUNK, flag_values=values)
    flags.DEFINE_float("cost_weight", 1.0, "λ.", lower_bound=0, flag_values=values)
    flags.DEFINE_string("json", None, "File for the result.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measure, print, write."""
    check_place("json", values.json)
    problem = read_problem(values.data, values.workdir, values.checkpoint, values.batch)
    result = benchmark(problem._replace(cost_weight=values.cost_weight), values.draws)
    print(table(result))
    if values.json:
        write_json(Path(values.json), result)


def read_problem(cache: str, workdir: str | None, checkpoint: str, batch: int) -> Problem:
    """Weights and features of a run, or fresh ones, and batches of the cache's training clips."""
    if workdir:
        info = run_folder.read(Path(workdir))
        config, hooks = info.config, info.hooks
    else:
        config, hooks = load_config(str(CONFIG))
    if config.model.conditioned:
        raise ValueError(
            f"--workdir: expected a run with one price, got a conditioned one: {workdir}"
        )
    config = override(config, [f"data.cache={cache}", "model.static=false"])
    data = AudioSource(config.data)
    built = build_training(config, len(data.classes), hooks)
    settings = built.settings
    assert isinstance(settings, MixSettings)  # a source of audio
    if workdir:
        _, params = restore_params(Path(workdir), info, model_of(info), checkpoint)
        frontend, weights = info.frontend, info.class_weights
    else:
        state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
        params = state.params
        frontend, weights = data.fit(settings, jax.random.key(0))

    @jax.jit
    def draw(key: jax.Array) -> Batch:
        return data.draw(data.training, frontend, settings, key, jnp.arange(batch))

    first, *others = (draw(key) for key in jax.random.split(jax.random.key(1), 1 + WARM_UP))
    return Problem(
        built, params, first, others, weights if config.train.class_weighted else None, 1.0
    )


def benchmark(problem: Problem, draws: int) -> dict[str, Any]:
    """Bias, variance and time of every way."""
    model = problem.built.model
    all_ways = ways(initial_state(model.controller, model.net, 1).shape[-1])
    rows: dict[str, dict[str, Any]] = {way.name: {} for way in all_ways}
    short = problem._replace(
        batch=_first_step(problem.batch, model.window),
        others=[_first_step(batch, model.window) for batch in problem.others],
    )
    exact = exact_gradient(short)
    for way in counted(all_ways, "way", "bias"):
        grads = draw_gradients(short, way, 0.0, draws)
        bias = np.linalg.norm(grads.mean(0) - exact)
        chance = np.sqrt(grads.var(0, ddof=1).sum() / draws)
        rows[way.name] |= {
            "bias": float(bias / np.linalg.norm(exact)),
            "chance": float(chance / np.linalg.norm(exact)),
        }
    for discount in (0.0, 1.0):
        sound = [way for way in all_ways if not (way.estimator.paired and discount)]
        means, spreads = {}, {}
        for way in counted(sound, "way", f"variance γ={discount:g}"):
            grads = draw_gradients(problem, way, discount, draws)
            means[way.name], spreads[way.name] = grads.mean(0), grads.var(0, ddof=1).sum()
        # All have one mean; the row that knows it best says how long it is.
        best = min(spreads, key=lambda name: spreads[name])
        length = float((means[best] ** 2).sum() - spreads[best] / draws)
        for name, spread in spreads.items():
            rows[name][f"variance γ={discount:g}"] = float(spread) / length
    for name, seconds in time_updates(problem, all_ways).items():
        rows[name]["seconds"] = seconds
    return {
        "batch": problem.batch.labels.shape[1],
        "steps": problem.batch.labels.shape[0],
        "draws": draws,
        "cost_weight": problem.cost_weight,
        "device": jax.devices()[0].device_kind,
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    rows = result["rows"]
    first = next(iter(rows.values()))
    lines = [
        f"{result['batch']} streams × {result['steps']} steps, {result['draws']} draws, "
        f"λ = {result['cost_weight']:g}, {result['device']}; "
        f"time 1 = {first['seconds']:.3f} s",
        f"{'':<22}{'bias (chance)':>16}{'time':>7}"
        f"{'variance γ=0':>14}{'price':>8}{'variance γ=1':>14}{'price':>8}",
    ]
    for name, row in rows.items():
        seconds = row["seconds"] / first["seconds"]
        text = f"{name:<22}{row['bias']:>8.3f} ({row['chance']:.3f}){seconds:>7.2f}"
        for key in ("variance γ=0", "variance γ=1"):
            if key in row:
                text += f"{row[key]:>14.2f}{row[key] / first[key] * seconds:>8.2f}"
            else:
                text += f"{'–':>14}{'–':>8}"
        lines.append(text)
    return "\n".join(lines)


def draw_gradients(problem: Problem, way: Way, discount: float, draws: int) -> np.ndarray:
    """Gradients of the controller on one batch, [draws, P], each with architectures of its own."""
    keep = optax.GradientTransformation(
        lambda params: (), lambda grads, state, params=None: (_zeros(grads), grads)
    )
    update = make_update(
        problem.built.model, keep, _objective(problem, way, discount), problem.class_weights
    )
    budget = _budget(problem)

    def state_of(params: Any, memory: Any) -> TrainState:
        return TrainState(jnp.int32(0), params, (), memory)

    @jax.jit
    def remember(params: Any, memory: Any, batch: Batch, key: jax.Array) -> Any:
        return update(state_of(params, memory), batch, key, budget)[0].estimator_state

    @jax.jit
    def gradients(params: Any, memory: Any, batch: Batch, keys: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            after, _ = update(state_of(params, memory), batch, key, budget)
            # The network's gradient is not asked for, so the trunk's is not computed.
            leaves = jax.tree.leaves(after.opt_state["controller"])
            return jnp.concatenate([leaf.ravel() for leaf in leaves])

        return jax.vmap(one)(keys)

    memory = way.estimator.init()
    if jax.tree.leaves(memory):
        for i, batch in enumerate(problem.others):
            memory = remember(problem.params, memory, batch, jax.random.key(i))
    keys = jax.random.split(jax.random.key(1000), (-(-draws // CHUNK), CHUNK))
    found = [np.asarray(gradients(problem.params, memory, problem.batch, k)) for k in keys]
    return np.concatenate(found)[:draws].astype(np.float64)


def time_updates(problem: Problem, all_ways: Iterable[Way]) -> dict[str, float]:
    """Median seconds of a whole update of each way, in turn after an untimed round."""
    updates: dict[str, Callable[..., Any]] = {}
    states: dict[str, TrainState] = {}
    times: dict[str, list[float]] = {}
    optimizer, budget = problem.built.optimizer, _budget(problem)
    for way in all_ways:
        objective = _objective(problem, way, 0.0)
        updates[way.name] = jax.jit(
            make_update(problem.built.model, optimizer, objective, problem.class_weights)
        )
        states[way.name] = TrainState(
            jnp.int32(0), problem.params, optimizer.init(problem.params), way.estimator.init()
        )
        times[way.name] = []
    for number in counted(range(ROUNDS + 1), "round"):
        for name, update in updates.items():
            begin = time.perf_counter()
            jax.block_until_ready(
                update(states[name], problem.batch, jax.random.key(number), budget)
            )
            if number:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def exact_gradient(problem: Problem) -> np.ndarray:
    """Gradient of the controller's parameters on streams of one step, every architecture run."""
    model, batch = problem.built.model, problem.batch
    net, streams = model.net, batch.labels.shape[1]
    trunk = trunk_edges(net, problem.params["net"], batch.features, num_steps=1, hop=model.hop)
    trunk_0 = jax.tree.map(lambda value: value[0], trunk.values)
    gates = np.ones((2 ** len(net.gated), len(net.edges)), np.float32)
    gates[:, list(net.gated)] = list(itertools.product((0, 1), repeat=len(net.gated)))
    cost = charge(problem.built.objective.price.cost, jnp.asarray(gates)[None])[0]

    def losses(gates: jax.Array) -> jax.Array:
        live = jnp.broadcast_to(prune(net, gates), (streams, len(net.edges)))
        out = join(net, problem.params["net"], live, trunk_0)
        return cross_entropy(out.logits, batch.labels[0], problem.class_weights)

    all_losses = jax.jit(lambda every: jax.lax.map(losses, every))(jnp.asarray(gates))
    value = jnp.where(batch.mask[0], all_losses + problem.cost_weight * cost[:, None], 0).sum(1)
    z = initial_state(model.controller, net, 1)

    def expected(controller: Any) -> jax.Array:
        gamma = gamma_of(model.controller, net, controller, z)
        return jnp.exp(log_prob(jnp.asarray(gates), gamma)) @ value / batch.mask.sum()

    grads = jax.tree.leaves(jax.grad(expected)(problem.params["controller"]))
    return np.concatenate([np.asarray(leaf).ravel() for leaf in grads])


def _objective(problem: Problem, way: Way, discount: float) -> Objective:
    return dataclasses.replace(
        problem.built.objective,
        static=False,
        score=Score(way.estimator, way.samples, discount),
        measure_mode=False,
    )


def _budget(problem: Problem) -> Budget:
    return Budget(jnp.float32(problem.cost_weight), jnp.float32(0))


def _first_step(batch: Batch, window: int) -> Batch:
    return Batch(batch.features[:, :window], batch.labels[:1], batch.mask[:1])


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def cli() -> None:
    """Console entry point."""
    sys.exit(command.run(define_flags, main, __doc__ or "", sys.argv))


if __name__ == "__main__":
    cli()
