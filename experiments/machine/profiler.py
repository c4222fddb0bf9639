"""Some steps of training as recorded by the profiler, for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from data_prep.command.progress import print_above


class Profile:
    """Records `steps` steps into a run's folder, where TensorBoard's profile plugin looks.

    The first program is left out: it is compiled when it is called. `pip install
    tensorboard-plugin-profile`, then `tensorboard --logdir` with the run's folder.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        """Nothing is recorded for 0 steps."""
        self._folder, self._asked, self._left = folder, steps, steps
        self._compiled, self._running = False, False

    def before(self, state: Any) -> None:
        """A program is about to be called; `state` is what those before it are computing."""
        if self._compiled and self._left > 0 and not self._running:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        self._compiled = True

    def after(self, steps: int, result: Any) -> None:
        """It was called, for so many steps; `result` is what it is computing."""
        if self._running:
            self._left -= steps
            if self._left <= 0:
                jax.block_until_ready(result)
                self._stop()

    def close(self) -> None:
        """Write what was recorded, and say what was not."""
        if self._running:
            self._stop()
        if self._left > 0:
            recorded = self._asked - self._left
            print_above(
                f"profile: recorded {recorded} of {self._asked} steps, for no more were made"
            )

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        print_above(f"profile: {self._folder / 'plugins' / 'profile'}")
