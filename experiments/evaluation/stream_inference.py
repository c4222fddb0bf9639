"""Models over streams: many runs, prices and streams in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.machine.execution import Execution
from sanas_jax import gates as gates_lib
from sanas_jax.data.features import Frontend, extract, num_frames
from sanas_jax.rollout import Carry, Sanas, init_carry, unroll
from sanas_jax.sharding import BUDGET, make_mesh, place
from sanas_jax.training.budgets import over_budgets

CHUNK_STEPS = 128
# Frames computed beyond each end of a chunk: a frame reaches n_fft/2 = 1.5 hops to either side.
_MARGIN = 2

Own = tuple[Any, Frontend]  # params of a run, and its features


class Passed(NamedTuple):
    """What came out of a pass, one row per step, and its time.

    Fields:
      posteriors: [T, K] for each run, price and stream: `posteriors[g][p][s]`.
      live: [T, E], likewise.
      ms_per_frame: of one model on one stream, compilation not counted.
    """

    posteriors: list[list[list[np.ndarray]]]
    live: list[list[list[np.ndarray]]]
    ms_per_frame: float


def run_streams(
    model: Sanas,
    static: bool,
    runs: Sequence[Own],
    prices: Sequence[float],
    signals: Sequence[np.ndarray],
    budgets_per_step: int | None = None,
) -> Passed:
    """Every run at every price on every stream, each step in its most probable architecture.

    Streams go through side by side, in chunks of steps that hand on the controller's state, so
    that memory does not grow with their length. Prices share the trunk.

    Args:
      model: static description that all runs share.
      static: all gates on.
      runs: G parameters and features, of one structure.
      prices: P values of λ that a conditioned controller is told; one, of any value, for others.
      signals: S mono signals [n] at the features' rate.
      budgets_per_step: runs per program, as in the train loop.
    """
    hop = model.hop * runs[0][1].hop
    totals = [model.num_steps(num_frames(len(s), runs[0][1].hop)) for s in signals]
    if min(totals) < 1:
        seconds = model.window * runs[0][1].hop / runs[0][1].sample_rate
        raise ValueError(f"--stream: expected at least {seconds:.2f} s of audio, got less")
    steps = max(16, CHUNK_STEPS // len(signals))
    num_chunks = -(-max(totals) // steps)
    margin = _MARGIN * runs[0][1].hop
    length = ((steps - 1) * model.hop + model.window - 1) * runs[0][1].hop + 2 * margin
    padded = np.zeros((len(signals), num_chunks * steps * hop + length), np.float32)
    for row, signal in zip(padded, signals, strict=True):
        row[margin : margin + len(signal)] = signal

    size = Execution(budgets_per_step).group_size(len(runs))
    groups = [runs[i : i + size] for i in range(0, len(runs), size)]
    bar = tqdm(total=len(groups) * num_chunks, unit="chunk", desc="streams", mininterval=1.0)
    outs, seconds = [], 0.0
    with bar:
        for group in groups:
            devices = jax.local_devices()[: math.gcd(len(group), jax.local_device_count())]
            mesh = make_mesh(devices, len(group), 1)
            run_chunk = jax.jit(over_budgets(_make_chunk(model, static), (2,), mesh))
            own = place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *group), mesh, BUDGET)
            carry = _start(model, len(group), prices, len(signals))
            jax.block_until_ready(run_chunk(own, carry, padded[:, :length]))  # compile
            parts, begin = [], time.perf_counter()
            for i in range(num_chunks):
                chunk = padded[:, i * steps * hop :][:, :length]
                carry, part = run_chunk(own, carry, chunk)
                parts.append(jax.device_get(part))
                bar.update()
            seconds += time.perf_counter() - begin
            outs.append([np.concatenate(p, axis=2) for p in zip(*parts, strict=True)])
    posteriors, live = (np.concatenate(p) for p in zip(*outs, strict=True))

    def split(array: np.ndarray) -> list[list[list[np.ndarray]]]:
        """[G, P, T, S, …] → [g][p][s], each as long as its stream."""
        return [[[at[:n, s] for s, n in enumerate(totals)] for at in run] for run in array]

    frames = len(runs) * len(prices) * sum(totals)
    return Passed(split(posteriors), split(live), 1000 * seconds / frames)


def _make_chunk(model: Sanas, static: bool) -> Any:
    policy = gates_lib.all_on if static else gates_lib.mode

    def chunk(own: Own, carry: Carry, samples: jax.Array) -> Any:
        params, frontend = own
        # The first and last frames of a chunk see its ends instead of the audio around it.
        frames = extract(frontend, samples)[:, _MARGIN:-_MARGIN, :, None]

        def at_price(carry: Carry) -> Any:
            carry = carry._replace(stats=params.get("stats"))
            carry, outs = unroll(model, params, carry, frames, jax.random.key(0), policy=policy)
            return carry._replace(stats=None), (jax.nn.softmax(outs.logits), outs.live)

        return jax.vmap(at_price)(carry)

    return chunk


def _start(model: Sanas, runs: int, prices: Sequence[float], streams: int) -> Carry:
    """Carries [G, P, ...] at the start of every stream."""
    carries = [init_carry(model, streams, price) for price in prices]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * runs), stacked)
