"""A trained model, compiled for streams: what listening and the live page run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.live.native import native_runtime
from experiments.machine.compiler import NoCompilerError
from experiments.runs.detectors import ChosenDetectors, chosen_detectors
from experiments.runs.trained import TrainedModel
from sanas_jax import gates
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session, StreamEngine


def runtime_of(model: TrainedModel, programs: int = 0, engine: str = "xla") -> StreamEngine:
    """The model, compiled for a stream.

    Args:
      model: on audio.
      programs: as of `Runtime`; more than none is for XLA.
      engine: "native": one C file, compiled here (`export.c`); "xla"; "auto": native where a C
        compiler is found and the network has a form in C, else XLA and a line that says why.

    Raises ValueError for "native" where that cannot be.
    """
    if engine == "native" and programs:
        raise ValueError("--programs: expected --engine xla, whose programs these are")
    if engine == "native" or (engine == "auto" and not programs):
        try:
            return native_runtime(model)
        except (NoCompilerError, ValueError) as error:
            if engine == "native":
                raise ValueError(f"--engine native: {error}") from error
            print(f"engine xla, not native: {error}", file=sys.stderr)
    policy = gates.all_on if model.info.config.model.static else gates.mode
    return Runtime(
        model.sanas,
        model.params,
        model.info.frontend,
        policy=policy,
        programs=programs,
    )


def warm_up(session: Session, rate: int) -> None:
    """Compile, on silence, so that the first word is not late."""
    session.push(np.zeros(2 * rate, np.float32))
    session.reset()


def make_engine(
    model: TrainedModel,
    price: float | None,
    programs: int = 0,
    threshold: float | None = None,
    engine: str = "xla",
) -> Engine:
    """A model, compiled; arguments as of `Engine` and `runtime_of`."""
    made = Engine(model, runtime_of(model, programs, engine), price, threshold)
    made.detectors.at(price)  # read before anybody waits for it
    warm_up(Session(made.runtime, cost_weight=price), made.rate)
    return made


@dataclass(frozen=True)
class Engine:
    """What all streams of a server share.

    Fields:
      model: on audio.
      runtime: it, compiled.
      price: λ that a stream is told until its client says another; None if it hears none.
      threshold: of the detector; None for the calibrated one.
    """

    model: TrainedModel
    runtime: StreamEngine
    price: float | None
    threshold: float | None = None

    @cached_property
    def detectors(self) -> ChosenDetectors:
        """Of all prices, read once: what `calibrate` writes meanwhile is for the next start."""
        return chosen_detectors(self.model, self.threshold)

    @property
    def rate(self) -> int:
        """Of the audio, in Hz."""
        return int(self.model.info.frontend.sample_rate)

    @property
    def step_samples(self) -> int:
        """Of one decision."""
        return int(self.model.sanas.hop * self.model.info.frontend.hop)
