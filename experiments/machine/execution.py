"""How a run is executed, as far as its results do not depend on it: devices, data, programs.

What changes the results (`train.precision` among it) is part of the config instead.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.machine import multihost
from sanas_jax.sharding import make_mesh, mesh_shape

# Steps of a program where neither the user nor the device says otherwise.
STEPS_PER_DISPATCH = 10


@dataclass(frozen=True)
class Execution:
    """Choices of the user; None: as fits the device.

    Fields:
      budgets_per_step: runs in one program; all, but on a CPU one per device.
      steps_per_dispatch: optimiser steps in one program, so that the host need not keep up; on a
        CPU 1, since the gradient of a convolution is slow inside a loop there (jax issue 12868).
      data_megabytes: for examples on a device; half of its memory.
      profile_steps: steps that the profiler records; 0: none.
      budgets_in_turn: those of one program one after the other (`over_budgets`).
    """

    budgets_per_step: int | None = None
    steps_per_dispatch: int | None = None
    data_megabytes: float | None = None
    profile_steps: int = 0
    budgets_in_turn: bool = False

    def group_size(self, runs: int) -> int:
        """How many of `runs` share a program.

        One run keeps a CPU's cores busy, and a vmap over convolutions with weights of their own
        makes them no faster there.
        """
        default = jax.device_count() if jax.default_backend() == "cpu" else runs
        return min(self.budgets_per_step or default, runs)

    def mesh(self, runs: int, batch_size: int) -> Mesh | None:
        """The devices of all processes, for programs of `runs` in groups; None for one device.

        A process by itself leaves out devices that cannot share the batch, and says so.
        """
        size = self.group_size(runs)
        budgets, devices = math.gcd(size, runs % size or size), jax.devices()
        if jax.process_count() == 1:
            counts = range(1, len(devices) + 1)
            count = max(n for n in counts if batch_size % mesh_shape(n, budgets)[1] == 0)
            if count < len(devices):
                print(f"using {count} of {len(devices)} devices: they share {batch_size} streams")
            devices = devices[:count]
        return make_mesh(devices, budgets, batch_size)

    def steps_at_once(self, log_every: int) -> int:
        """Steps of one program: a divisor of the steps between two lines of metrics."""
        asked = self.steps_per_dispatch
        if asked is None:
            most = 1 if jax.default_backend() == "cpu" else STEPS_PER_DISPATCH
            return max(k for k in range(1, most + 1) if log_every % k == 0)
        if log_every % asked:
            raise ValueError(
                f"--steps_per_dispatch: expected a divisor of train.log_every={log_every}, "
                f"got {asked}"
            )
        return asked

    def data_limit(self) -> float:
        """Bytes for examples on one device, the same for all processes."""
        if self.data_megabytes is not None:
            return self.data_megabytes * 2**20
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        if not memory:  # a CPU: its memory is the machine's
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            memory = total / jax.local_device_count()
        return multihost.least(memory / 2)


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Compute on the CPU: an accelerator is busy with the steps before, and takes all in turn.

    Where jax was told to leave the CPU alone, on what there is.
    """
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()
