"""What a model spends along a stream, step by step, on the host."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from experiments.runs.trained import TrainedModel
from sanas_jax.costs.incremental import fresh_macs
from sanas_jax.data.features import by_fft
from sanas_jax.streaming.session import Heard, StreamEngine

TIMED = 50  # runs of the front end, whose median counts


class Spending:
    """MACs of the live edges, and of those rows only that a step computes anew.

    The latter is `incremental.incremental_macs`, one step at a time.
    """

    def __init__(self, model: TrainedModel, engine: str = "native") -> None:
        """Nothing spent; every edge has missed all. `engine`: the name, for the front end."""
        in_jax = "fft" if by_fft(model.sanas.hop) else "convolution"
        self._form = "native" if engine == "native" else in_jax
        self._frontend = model.frontend_macs(self._form)
        net, hop = model.sanas.net, model.sanas.hop
        macs, self._controller = model.edge_macs, model.controller_macs
        fresh = fresh_macs(net, hop)
        self._whole = np.array([macs[edge.name] for edge in net.edges], np.float64)
        self._fresh = np.array([fresh[edge.name] for edge in net.edges], np.float64)
        self._missed = np.full(len(net.edges), np.inf)
        self._steps, self._sum, self._new = 0, 0.0, 0.0

    def turns(self, live: np.ndarray) -> np.ndarray:
        """How many steps' rows each edge [E] computes if these live edges [E] are the next: what
        it missed, at most all that it reads; 0 where it is off."""
        on = np.asarray(live) > 0
        steps = np.where(self._fresh > 0, self._missed, 1.0)
        most = np.divide(self._whole, self._fresh, out=np.ones(len(on)), where=self._fresh > 0)
        return np.where(on, np.minimum(steps, most), 0.0)

    def add(self, live: np.ndarray) -> float:
        """Count one step's live edges [E]; the MACs that it computed, controller included."""
        on = np.asarray(live) > 0
        new = float((self.turns(live) * np.where(self._fresh > 0, self._fresh, self._whole)).sum())
        self._missed = np.where(on, 1.0, self._missed + 1)
        self._steps += 1
        self._sum += float(self._whole[on].sum())
        self._new += new
        return new + self._controller

    def summary(self) -> dict[str, float]:
        """Means per frame so far, as `evaluate` names them."""
        steps = max(self._steps, 1)
        return {
            "macs_per_frame": self._sum / steps,
            "macs_per_frame_incremental": self._new / steps,
            "full_macs_per_frame": float(self._whole.sum()),
            "controller_macs": self._controller,
            "frontend_macs": self._frontend,
        }


def frontend_ms(engine: StreamEngine) -> float | None:
    """Milliseconds that the features of a step take; None where they are not computed alone.

    Measured where they are nearly all that is done, before the first step, per step's frames.
    """
    frontend, first = engine.frontend, engine.first_frames
    if not first or frontend is None or frontend.raw:
        return None
    stream, rng = engine.stream(1.0), np.random.default_rng(0)
    audio = rng.uniform(-0.1, 0.1, frontend.span(first)).astype(np.float32)
    stream.begin(audio)
    times = []
    for _ in range(TIMED):
        begin = time.perf_counter()
        stream.begin(audio)
        times.append(time.perf_counter() - begin)
    return 1000 * float(np.median(times)) * engine.model.hop / first


def event(heard: Heard, model: TrainedModel, macs: float, ms: float) -> dict[str, Any]:
    """A decision as a line of output shows it."""
    found = heard.detection
    label = int(heard.posterior.argmax()) if found is None else found.label
    score = float(heard.posterior[label]) if found is None else found.score
    event = {
        "time_ms": int(heard.time_ms),
        "word": model.info.classes[label],
        "score": round(score, 4),
        "macs": round(macs),
        "ms": round(ms, 3),
    }
    return event if found else event | {"fired": False}
