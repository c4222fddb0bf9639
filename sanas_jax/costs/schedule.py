"""Operations that wait for each other, on a few identical workers: how long they take together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class _State(NamedTuple):
    """Where a schedule stands.

    Fields:
      free: [W], when each worker is free.
      ready: [N], when what an operation waits for has ended, as far as that is scheduled.
      missing: [N], how many operations that it waits for are not scheduled.
      left: [N], whether it is itself still to be scheduled.
    """

    free: jax.Array
    ready: jax.Array
    missing: jax.Array
    left: jax.Array


def makespan(
    before: np.ndarray, durations: np.ndarray, workers: int
) -> Callable[[jax.Array], jax.Array]:
    """When the last operation has ended, by list scheduling (Graham, 1966), in N² steps.

    Whenever a worker is free and operations are ready, the first of these in the list starts. An
    operation of duration 0 waits for a free worker like any other, and frees it at once.

    Args:
      before: [N, N] bool; before[i, j] says that operation i waits until operation j has ended.
      durations: [N] ≥ 0. Whole numbers give exact results up to 2²⁴.
      workers: how many operations may run at the same time.

    Returns:
      Function of [N] bool, the operations that are run (nothing waits for the others), giving [].

    Raises:
      ValueError for fewer than one worker, or an operation that waits for a later one in the list.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers: expected a whole number ≥ 1, got {workers!r}")
    if np.triu(before).any():
        raise ValueError("before: expected operations that wait only for earlier ones in the list")
    size = len(durations)

    def time(on: jax.Array) -> jax.Array:
        lengths, after = jnp.asarray(durations, jnp.float32), jnp.asarray(before.T)

        def schedule_next(_: int, state: _State) -> _State:
            worker = state.free.argmin()
            startable = state.left & (state.missing == 0)
            earliest = jnp.maximum(state.ready, state.free[worker])
            start = jnp.where(startable, earliest, jnp.inf)
            op = start.argmin()  # of equal ones the first
            end = earliest[op] + lengths[op]
            found = startable[op]  # else nothing is left, and nothing changes
            released = after[op] & found
            return _State(
                jnp.where(found, state.free.at[worker].set(end), state.free),
                jnp.where(released, jnp.maximum(state.ready, end), state.ready),
                state.missing - released,
                state.left.at[op].set(False),
            )

        missing = jnp.sum(jnp.asarray(before) & on[None], axis=1, dtype=jnp.int32)
        zeros = jnp.zeros(size, jnp.float32)
        state = _State(zeros[: min(workers, size)], zeros, missing, on)
        # A fixed number of rounds: no device has to tell its host whether anything is left.
        return jax.lax.fori_loop(0, size, schedule_next, state).free.max()

    return time
