"""Batched evaluation of kws_paper beside the same network in plain PyTorch.

    python -m experiments.benchmarks.evaluation [--batch 64] [--repeats 5] [--json out.json]

Streams of 3 s (11 steps) of random features, each step in the most probable architecture, nothing
kept for a gradient. PyTorch computes window after window, eagerly and with the network on a window
under `torch.compile`, in inference mode. Both sides are held to give the same logits in the same
architectures. Without PyTorch (pip install torch) ours is timed alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure, relative_error
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.benchmarks.harness.records import Result, result, table
from experiments.benchmarks.peers import pytorch
from experiments.benchmarks.peers.kws_paper import Problem, problem_of, torch_model
from experiments.benchmarks.peers.pytorch import Peer
from sanas_jax import costs
from sanas_jax import gates as gates_lib
from sanas_jax.rollout import init_carry, init_model, unroll

__all__ = ["benchmark", "main", "table"]

NAME = "evaluation"
TOLERANCE = 1e-4
REPEATS = 5


def benchmark(settings: Settings, batch: int | None = None) -> Result:
    """Time and count; `batch` streams in place of 64, or 8 where it is quick."""
    notes: list[str] = []
    problem = problem_of(settings, batch)
    model = problem.model
    params = init_model(model, jax.random.key(0))
    carry, key, stream = init_carry(model, len(problem.stream)), jax.random.key(1), problem.batch[0]

    def evaluate(params: Any, stream: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, outs = unroll(model, params, carry, stream, key, policy=gates_lib.mode)
        return outs.logits, outs.live

    program = build(jax.jit(evaluate), params, stream)
    logits, live = program.run(params, stream)
    ours = Side(
        program.on(params, stream),
        macs=costs.count_macs(evaluate, params, stream),
        moved=num_bytes((params, stream, logits, live)),
    )
    sides, agreement = {"ours": ours.compiled(program)}, {}
    peer = pytorch.import_torch(settings, notes)
    if peer:
        run = torch_evaluation(peer, problem, params)
        theirs, their_live = run()
        agreement = {
            "logits": relative_error(np.asarray(logits), theirs),
            "architectures": float(np.abs(np.asarray(live) - their_live).max()),
        }
        hold(agreement, TOLERANCE, "the two networks differ")
        macs = problem.macs_window_by_window
        sides[pytorch.EAGER] = Side(run, macs=macs)
        found = pytorch.compiled_side(
            settings, lambda: torch_evaluation(peer, problem, params, compiled=True), notes
        )
        sides |= {name: side._replace(macs=macs) for name, side in found.items()}
    return result(
        f"batched evaluation, {problem.describe(settings)}",
        settings.asked | problem.settings,
        measure(sides, settings.repeats),
        agreement=agreement,
        notes=notes,
    )


def torch_evaluation(
    peer: Peer, problem: Problem, params: Any, *, compiled: bool = False
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Logits [T, B, K] and live edges [T, B, E] of the PyTorch network per call."""
    torch = peer.torch
    model = torch_model(peer, problem.maps, params, compiled=compiled).eval()
    stream = torch.from_numpy(problem.stream[..., 0]).to(peer.device)

    def run() -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            outs = model(stream, draw=False)
            return outs.logits.cpu().numpy(), outs.live.cpu().numpy()

    return run


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return entry.run_with_batch(__doc__ or "", NAME, benchmark, argv, repeats=REPEATS)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
