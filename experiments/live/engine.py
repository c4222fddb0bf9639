"""A trained model, compiled for streams: what listening and the live page run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.runs.detectors import chosen_detector
from experiments.runs.trained import TrainedModel
from sanas_jax import gates
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session


def runtime_of(model: TrainedModel, programs: int = 0) -> Runtime:
    """The model, compiled for a stream; `programs` as of `Runtime`."""
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
    model: TrainedModel, price: float | None, programs: int = 0, threshold: float | None = None
) -> Engine:
    """A model, compiled; arguments as of `Engine` and `Runtime`."""
    engine = Engine(model, runtime_of(model, programs), price, threshold)
    chosen_detector(model, price, threshold)  # read before anybody waits for it
    warm_up(Session(engine.runtime, cost_weight=price), engine.rate)
    return engine


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
    runtime: Runtime
    price: float | None
    threshold: float | None = None

    @property
    def rate(self) -> int:
        """Of the audio, in Hz."""
        return int(self.model.info.frontend.sample_rate)

    @property
    def step_samples(self) -> int:
        """Of one decision."""
        return int(self.model.sanas.hop * self.model.info.frontend.hop)
