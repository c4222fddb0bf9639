"""Some steps of training as recorded by the profiler, for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

# The first programs are compiled, and caches are cold.
SKIPPED_PROGRAMS = 2


class Profile:
    """Records `steps` steps into a run's folder, where TensorBoard's profile plugin looks.

    `pip install tensorboard-plugin-profile`, then `tensorboard --logdir` with the run's folder.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        """Nothing is recorded for 0 steps."""
        self._folder, self._left = folder, steps
        self._programs, self._running = 0, False

    def before(self, steps: np.ndarray) -> None:
        """A program for steps [K] is about to be called."""
        self._programs += 1
        if self._left > 0 and not self._running and self._programs > SKIPPED_PROGRAMS:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, steps: np.ndarray, result: Any) -> None:
        """It was called; `result` is what it is computing."""
        if not self._running:
            return
        self._left -= len(steps)
        if self._left <= 0:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Write what was recorded, if anything."""
        if self._running:
            self._running = False
            self._left = 0
            jax.profiler.stop_trace()
            tqdm.write(f"profile: {self._folder / 'plugins' / 'profile'}")
