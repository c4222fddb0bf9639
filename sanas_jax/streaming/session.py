"""Audio in, decisions out: a trained model listening to one stream, chunk by chunk.

    runtime = Runtime(model, params, frontend)          # compiled once
    session = Session(runtime, cost_weight=0.1, detector=Detector(threshold=0.5))
    for chunk in microphone:                            # of any sizes
        for heard in session.push(chunk):
            ...
    session.finish()                                    # the steps that still lie in the audio

What is heard does not depend on how the audio is cut into chunks, and equals `rollout.unroll` and
`detector.detect` on the whole of it. Frames are computed once, edges only where they are live
(`streaming`); memory does not grow.
"""

from __future__ import annotations

import operator
from dataclasses import asdict
from math import isfinite
from typing import Any, NamedTuple, Protocol

import numpy as np
from flax import serialization

from sanas_jax.data.features import Frontend
from sanas_jax.rollout import Sanas
from sanas_jax.streaming.detector import (
    Detection,
    Detector,
    DetectorState,
    detector_init,
    detector_step,
)
from sanas_jax.streaming.runtime import Answer
from sanas_jax.streaming.step import Memory
from sanas_jax.streaming.waiting import Waiting

STEPS_AT_ONCE = 4  # whose audio is taken together from a long chunk


class Steps(Protocol):
    """One stream's state on its way through an engine: `runtime.Stream` is one."""

    memory: Memory

    def begin(self, x: np.ndarray) -> None:
        """The audio [n] of the first `window − hop` frames; it may change afterwards."""

    def step(self, x: np.ndarray) -> Answer:
        """The audio [n] of `hop` frames more; it may change afterwards."""

    def tell(self, cost_weight: float) -> None:
        """Another price λ from the next step on."""


class StreamEngine(Protocol):
    """What runs a model, for any number of streams: `runtime.Runtime` is one."""

    @property
    def name(self) -> str:
        """A word for it."""

    @property
    def model(self) -> Sanas:
        """Of which it was made."""

    @property
    def frontend(self) -> Frontend | None:
        """Of the model's features."""

    @property
    def first_frames(self) -> int:
        """Those before the first step's, `window − hop`."""

    def stream(self, cost_weight: float | None = None) -> Steps:
        """A stream before its first sample; λ for a conditioned controller."""

    def close(self) -> None:
        """End what is going on in the background."""


class Heard(NamedTuple):
    """One step.

    Fields:
      step: its number, from 0.
      time_ms: where its window begins.
      posterior: [K].
      live: [E], the edges that ran.
      gamma: [E], their probabilities before.
      detection: the word that fired, or None.
    """

    step: int
    time_ms: float
    posterior: np.ndarray
    live: np.ndarray
    gamma: np.ndarray
    detection: Detection | None


class Session:
    """One stream: `push` audio, `finish`, and `reset` for the next. `save` and `load` its state."""

    def __init__(
        self,
        runtime: StreamEngine,
        *,
        cost_weight: float | None = None,
        detector: Detector | None = None,
    ) -> None:
        """Ready for the first sample.

        Args:
          runtime: the compiled model.
          cost_weight: λ, which a conditioned controller is told; `tell` changes it.
          detector: settings of the detector.
        """
        if runtime.frontend is None:
            raise ValueError("runtime: expected one that is given audio, got one for frames")
        self._runtime, self._frontend, self._price = runtime, runtime.frontend, cost_weight
        self._detector = Detector() if detector is None else detector
        hop, frontend = runtime.model.hop, runtime.frontend
        self._advance, self._needed = hop * frontend.hop, frontend.span(hop)
        self._begins = frontend.span(runtime.first_frames)
        self._step_ms = 1000 * self._advance / frontend.sample_rate
        self._half = frontend.n_fft // 2
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        runtime = self._runtime
        self._stream = runtime.stream(self._price)
        self._detection_state = detector_init(self._detector)
        self._steps, self._samples = 0, 0
        self._is_filled, self._is_finished = runtime.first_frames == 0, False
        # Samples from the first of the next frame on, which begins half a frame before its centre;
        # of what is gone a reflection at the end needs half a frame.
        most = max(self._needed, self._begins) + 2 * self._half
        self._waiting = Waiting(most, self._half + 1, STEPS_AT_ONCE * self._advance)
        self._is_padded = self._frontend.padding == "constant"
        if self._is_padded:
            self._waiting.set(np.zeros(self._half, np.float32))

    @property
    def engine(self) -> str:
        """The word for what runs the model."""
        return self._runtime.name

    @property
    def seconds(self) -> float:
        """Length of the audio so far."""
        return self._samples / self._frontend.sample_rate

    def tell(self, cost_weight: float, detector: Detector | None = None) -> None:
        """Another price λ from the next step on, and the detector that goes with it, if another."""
        if not self._runtime.model.controller.conditioned:
            raise ValueError("cost_weight: expected a conditioned controller, got one that is not")
        self._price = cost_weight
        self._stream.tell(cost_weight)
        if detector is not None:
            self._detector = detector

    def push(self, samples: np.ndarray) -> list[Heard]:
        """Hear samples [n], int16 or float in [-1, 1]; the steps that they complete."""
        if self._is_finished:
            raise ValueError("push: expected a session that is not finished; reset it first")
        chunk = np.asarray(samples)
        if (
            chunk.ndim != 1
            or chunk.dtype.kind not in "fi"
            or (chunk.dtype.kind == "i" and chunk.dtype != np.int16)
        ):
            raise ValueError(
                f"samples: expected [n] int16 or float, got {chunk.dtype} {chunk.shape}"
            )
        # A finite sum of squares has finite terms, and is found faster.
        is_suspect = chunk.dtype.kind == "f" and not isfinite(np.dot(chunk, chunk))
        if is_suspect and not np.isfinite(chunk).all():
            raise ValueError("samples: expected finite numbers")
        self._samples += len(chunk)
        heard, waiting = [], self._waiting
        for at in range(0, len(chunk), waiting.room):
            waiting.add(chunk[at : at + waiting.room])
            if not self._is_padded:
                if len(waiting) <= self._half:
                    continue
                begun = waiting.first(len(waiting))
                waiting.set(np.concatenate([begun[self._half : 0 : -1], begun]))
                self._is_padded = True
            heard += self._run()
        return heard

    def finish(self) -> list[Heard]:
        """The audio ends: the steps whose last frame reaches beyond it."""
        if self._is_finished:
            return []
        self._is_finished = True
        if not self._is_padded:
            return []
        end = np.zeros(self._half, np.float32)
        if self._frontend.padding == "reflect":
            end = self._waiting.latest()[-2::-1]
        for at in range(0, len(end), self._waiting.room):
            self._waiting.add(end[at : at + self._waiting.room])
        return self._run()

    def save(self) -> bytes:
        """The state of the stream; `load` goes on from it, in this process or another."""
        state = {
            "memory": list(self._stream.memory),
            "pending": self._waiting.first(len(self._waiting)).copy(),
            "tail": self._waiting.latest(),
            "steps": self._steps,
            "samples": self._samples,
            "flags": [self._is_filled, self._is_finished, self._is_padded],
            "price": self._price,
            "detector": asdict(self._detector) | {"thresholds": list(self._detector.thresholds)},
            "fired_label": self._detection_state.fired_label,
            "fired_ms": float(self._detection_state.fired_ms),
            "talk": float(self._detection_state.talk),
            "results": [[float(ms), scores] for ms, scores in self._detection_state.results],
        }
        return serialization.msgpack_serialize(state)

    def load(self, saved: bytes) -> None:
        """Take over a state of `save`; ValueError for one of another model."""
        # All is looked at before anything is taken over.
        try:
            state = serialization.msgpack_restore(saved)
            leaves: Any = [np.asarray(leaf) for leaf in state["memory"]]
            pending, tail = (_signal(state[name]) for name in ("pending", "tail"))
            price = None if state["price"] is None else float(state["price"])
            steps, samples = (operator.index(state[name]) for name in ("steps", "samples"))
            is_filled, is_finished, is_padded = (flag is True for flag in state["flags"])
            detector = Detector(**state["detector"])
            results = tuple((float(ms), _signal(scores)) for ms, scores in state["results"])
            fired = operator.index(state["fired_label"]), float(state["fired_ms"])
            talk = float(state.get("talk", 0.0))  # states of before it was heard have none
            if not isfinite(talk):
                raise ValueError(f"talk {talk}")
        except Exception as error:  # msgpack raises many kinds, and of damaged bytes all may come
            cause = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"saved: expected bytes of Session.save, got {cause}") from error
        here = self._runtime.stream(price).memory
        if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(o.shape, o.dtype) for o in here]:
            raise ValueError("saved: expected the state of this model, got one of another")
        try:
            self._waiting.set(pending, tail)
        except ValueError as error:
            raise ValueError(f"saved: expected bytes of Session.save, got {error}") from error
        self._stream.memory = Memory(*leaves)
        self._price = price
        self._steps, self._samples = steps, samples
        self._is_filled, self._is_finished, self._is_padded = is_filled, is_finished, is_padded
        self._detector, self._detection_state = detector, DetectorState(results, *fired, talk)

    def _run(self) -> list[Heard]:
        """All the steps that the pending samples complete."""
        waiting, heard = self._waiting, []
        if not self._is_filled:
            if len(waiting) < self._begins:
                return []
            self._stream.begin(waiting.first(self._begins))
            waiting.drop(self._runtime.first_frames * self._frontend.hop)
            self._is_filled = True
        while len(waiting) >= self._needed:
            heard.append(self._step(waiting.first(self._needed)))
            waiting.drop(self._advance)
        return heard

    def _step(self, samples: np.ndarray) -> Heard:
        posterior, live, gamma = self._stream.step(samples)
        time_ms = round(self._steps * self._step_ms)
        self._detection_state, found = detector_step(
            self._detector, self._detection_state, posterior, time_ms
        )
        detection = None
        if found.fired and found.label != self._detector.silence_label:
            detection = Detection(found.label, time_ms, found.score)
        self._steps += 1
        return Heard(self._steps - 1, time_ms, posterior, live, gamma, detection)


def _signal(value: Any) -> np.ndarray:
    """Finite numbers [n] of a saved state; ValueError for anything else."""
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError(f"{array.dtype} {array.shape}, no signal")
    return array
