"""A training iteration of kws_paper beside the same network in plain PyTorch.

    python -m experiments.benchmarks.training_iteration [--batch 64] [--repeats 5] [--json out.json]

One iteration is a whole one: forward, objective with λ·cost, score function, backward, Adam, on
streams of 3 s (11 steps) of random features. PyTorch runs eagerly, and with the network on a
window, which is nearly all there is to compute, under `torch.compile`. First both sides are held to
be the same network: logits, objective and gradients agree in the same architectures. Without
PyTorch (pip install torch) ours is timed alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure, relative_error
from experiments.benchmarks.harness.programs import build
from experiments.benchmarks.harness.records import Result, result, table
from experiments.benchmarks.peers import pytorch
from experiments.benchmarks.peers.kws_paper import Problem, make_problem, problem_of, torch_model
from experiments.benchmarks.peers.pytorch import Peer
from sanas_jax import costs
from sanas_jax.rollout import init_carry, unroll
from sanas_jax.training import Budget, init_state, make_update
from sanas_jax.training.optimizer import make_optimizer

__all__ = ["benchmark", "main", "table"]

NAME = "training_iteration"
COST_WEIGHT, LEARNING_RATE, WEIGHT_DECAY = 0.1, 1e-3, 1e-5
TOLERANCE = 1e-4
REPEATS = 15  # malloc has the memory of all steps after a dozen


def benchmark(settings: Settings, batch: int | None = None) -> Result:
    """Verify, time and count; `batch` streams in place of 64, or 8 where it is quick."""
    notes: list[str] = []
    problem = problem_of(settings, batch)
    peer = pytorch.import_torch(settings, notes)
    agreement = verify(peer, problem.maps) if peer else {}
    hold(agreement, TOLERANCE, "the two networks differ")
    sides = {"ours": our_side(problem)}
    if peer:
        sides[pytorch.EAGER] = Side(torch_iteration(peer, problem))
        sides |= pytorch.compiled_side(
            settings, lambda: torch_iteration(peer, problem, compiled=True), notes
        )
    return result(
        f"training iteration, {problem.describe(settings)}",
        settings.asked | problem.settings,
        measure(sides, settings.repeats),
        agreement=agreement,
        notes=notes,
    )


def verify(peer: Peer, maps: tuple[int, int], batch: int = 8) -> dict[str, float]:
    """Largest relative errors between both sides with the same weights and architectures.

    The gradient is that of the `update` that is timed, taken from an optimiser that keeps it. Gates
    start at probability 0.73, so that all kinds of architectures occur, dead ones too.

    Returns:
      {"logits", "objective", "gradients"}: the last over all parameters, each relative to its own
      largest entry.
    """
    from experiments.benchmarks.peers import torch_kws

    torch = peer.torch
    problem = make_problem(maps, batch, gate_bias=1.0)
    keep = optax.trace(decay=0.0)
    state = init_state(problem.model, keep, problem.objective, jax.random.key(1))
    key = jax.random.key(2)
    _, outs = jax.jit(unroll, static_argnums=0)(
        problem.model,
        state.params,
        init_carry(problem.model, batch),
        jnp.asarray(problem.stream),
        jax.random.split(key, 1)[0],  # as `update` gives its only sample
    )
    update = jax.jit(make_update(problem.model, keep, problem.objective))
    after, metrics = update(state, problem.batch, key, _budget())

    theirs = torch_model(peer, maps, state.params)
    on = peer.device
    gates = torch.from_numpy(np.array(outs.gates[..., :-1])).to(on)
    torch_outs = theirs(torch.from_numpy(problem.stream[..., 0]).to(on), gates)
    total, objective = torch_kws.loss(
        torch_outs,
        torch.from_numpy(problem.labels).to(on),
        torch.from_numpy(problem.edge_costs).to(on),
        COST_WEIGHT,
    )
    total.backward()
    expected = torch_kws.gradients(theirs)
    got = torch_kws.from_ours(jax.device_get(after.opt_state.trace), maps)

    def error(ours: jax.Array, theirs: Any) -> float:
        return relative_error(np.asarray(ours), theirs.detach().cpu().numpy())

    return {
        "logits": error(outs.logits, torch_outs.logits),
        "objective": error(metrics["objective"], objective),
        "gradients": max(relative_error(got[name], expected[name]) for name in expected),
    }


def count(problem: Problem) -> tuple[int, int]:
    """Multiply-accumulates of ours: of all steps forward, and of a whole iteration."""
    model, batch, optimizer = problem.model, problem.batch, _optimizer()
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: init_state(model, optimizer, problem.objective, key), key)
    carry = init_carry(model, len(problem.stream))
    update = make_update(model, optimizer, problem.objective)
    forward = costs.count_macs(
        lambda p, x: unroll(model, p, carry, x, key), state.params, batch.features
    )
    return forward, costs.count_macs(update, state, batch, key, _budget())


def our_side(problem: Problem) -> Side:
    """One iteration of ours per run, the state carried along, with its MACs."""
    optimizer = _optimizer()
    update = make_update(problem.model, optimizer, problem.objective)
    state = init_state(problem.model, optimizer, problem.objective, jax.random.key(0))
    batch, budget, key = problem.batch, _budget(), jax.random.key(1)
    program = build(jax.jit(update, donate_argnums=0), state, batch, key, budget)

    def run() -> None:
        nonlocal state
        state, metrics = program.run(state, batch, jax.random.fold_in(key, state.step), budget)
        jax.block_until_ready((state, metrics))

    return Side(run, macs=count(problem)[1]).compiled(program)


def torch_iteration(
    peer: Peer, problem: Problem, *, compiled: bool = False
) -> Callable[[], object]:
    """One iteration of the PyTorch network per call."""
    from experiments.benchmarks.peers import torch_kws

    torch, on = peer.torch, peer.device
    model = torch_model(peer, problem.maps, compiled=compiled)
    torch.nn.init.constant_(model.head.bias, problem.model.controller.bias)
    optimizer = torch_kws.make_adam(model, LEARNING_RATE, WEIGHT_DECAY)
    stream, labels = (torch.from_numpy(x).to(on) for x in (problem.stream[..., 0], problem.labels))
    edge_costs = torch.from_numpy(problem.edge_costs).to(on)
    return lambda: torch_kws.train_step(model, optimizer, stream, labels, edge_costs, COST_WEIGHT)


def _optimizer() -> optax.GradientTransformation:
    return make_optimizer(LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def _budget() -> Budget:
    return Budget(jnp.float32(COST_WEIGHT), jnp.float32(0))


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return entry.run_with_batch(
        __doc__ or "", NAME, benchmark, argv, repeats=REPEATS, training=True
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
