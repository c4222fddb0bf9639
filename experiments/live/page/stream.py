"""One stream of the live page: audio in, what the page draws out. Nothing here waits or sends."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.live.decisions import Spending, event
from experiments.live.engine import Engine
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.data.features import POWER_FLOOR, Frontend, mel_power
from sanas_jax.streaming.session import Heard, Session

Message = dict[str, Any]
# Steps (0.2 s each) whose times the 99th percentile is of: what is kept must not grow.
KEPT_TIMES = 5000
# Natural logarithms of a mel band's power that are drawn darkest and brightest.
LOG_POWER_RANGE = (float(np.log(POWER_FLOOR)) + 2, 6.0)


class LiveStream:
    """A session and its running totals; not to be used by two threads at a time."""

    def __init__(self, engine: Engine, price: float | None) -> None:
        """Before the first sample, told λ = `price`."""
        self._engine, self._price = engine, price
        detector = engine.detectors.at(price)
        self._session = Session(engine.runtime, cost_weight=price, detector=detector)
        self._spending = Spending(engine.model, engine.runtime.name)
        model = engine.model
        macs, self._controller = model.edge_macs, model.controller_macs
        self._macs = np.array([macs[edge.name] for edge in model.sanas.net.edges], float)
        self._picture = Picture(model.info.frontend, engine.step_samples)
        self._words, self._steps, self._ms_sum = 0, 0, 0.0
        self._times: deque[float] = deque(maxlen=KEPT_TIMES)

    @property
    def seconds(self) -> float:
        """Length of the audio so far."""
        return self._session.seconds

    def advance(self, samples: np.ndarray, price: float | None) -> Message:
        """Hear float32 [n] at the model's rate; what the page is to be told.

        Raises ValueError for samples that are no audio.
        """
        if price != self._price:
            assert price is not None
            self._tell(price)
        size, steps = self._engine.step_samples, []
        for at in range(0, len(samples), size):
            steps += self._timed(partial(self._session.push, samples[at : at + size]))
        return self._message(steps, self._picture.add(samples))

    def finish(self) -> Message:
        """The audio ends."""
        return self._message(self._timed(self._session.finish), self._picture.add(np.zeros(0)))

    def _tell(self, price: float) -> None:
        """Another price, and the detector that was calibrated for it."""
        self._session.tell(price, self._engine.detectors.at(price))
        self._price = price

    def _timed(self, run: Callable[[], list[Heard]]) -> list[Message]:
        begin = time.perf_counter()
        heard = run()
        took = 1000 * (time.perf_counter() - begin)
        return [self._step(one, took / len(heard)) for one in heard]

    def _step(self, heard: Heard, ms: float) -> Message:
        """A decision as `listen` prints it, with the edges that ran and their MACs, whole."""
        if not np.isfinite(heard.posterior).all():
            raise ValueError("samples: expected audio within [-1, 1], got values that overflow")
        is_word = heard.detection is not None and heard.detection.label >= FIRST_WORD
        computed = self._spending.add(heard.live)
        self._words += is_word
        self._steps += 1
        self._ms_sum += ms
        self._times.append(ms)
        live = np.flatnonzero(heard.live > 0)
        whole = float(self._macs[live].sum()) + self._controller
        shown = heard if is_word else heard._replace(detection=None)
        told = event(shown, self._engine.model, computed, ms)
        return told | {"fired": is_word, "live": live.tolist(), "whole_macs": round(whole)}

    def _message(self, steps: list[Message], picture: Message) -> Message:
        totals: Message = {"words": self._words, "seconds": round(self.seconds, 3)}
        if self._steps:
            spent = self._spending.summary()
            front = spent["frontend_macs"]
            whole = spent["macs_per_frame"] + spent["controller_macs"] + front
            totals |= {
                "ms_per_frame": self._ms_sum / self._steps,
                "ms_per_frame_p99": float(np.percentile(self._times, 99)),
                "macs_per_frame": whole,
                "frontend_macs": front,
                "macs_saved": 1 - whole / (spent["full_macs_per_frame"] + front),
            }
        return {"type": "heard", "steps": steps, "totals": totals} | picture


class Picture:
    """What is drawn of the audio itself, a column per frame: its extremes and log-mel bands."""

    def __init__(self, frontend: Frontend, size: int) -> None:
        """`size`: samples of a step, a whole number of frames."""
        self._frontend, self._size = replace(frontend, raw=False), size
        self._covered = self._frontend.span(size // frontend.hop)
        self._pending = np.zeros(frontend.n_fft // 2, np.float32)

    def add(self, samples: np.ndarray) -> Message:
        """Columns of the steps that float32 [n] completes, as base64 of bytes.

        wave: int8 [columns, 2], least and largest sample, full scale is 127.
        mel: uint8 [columns, bands], over `LOG_POWER_RANGE`.
        """
        self._pending = np.concatenate([self._pending, samples.astype(np.float32)])
        waves, mels = [], []
        while len(self._pending) >= self._covered:
            block = self._pending[: self._covered]
            self._pending = self._pending[self._size :]
            middle = self._frontend.n_fft // 2
            frames = block[middle : middle + self._size].reshape(-1, self._frontend.hop)
            ends = np.stack([frames.min(1), frames.max(1)], 1)
            waves.append((127 * ends.clip(-1, 1)).round().astype(np.int8))
            low, high = LOG_POWER_RANGE
            share = (np.asarray(_log_mel(self._frontend, block)) - low) / (high - low)
            mels.append((255 * share.clip(0, 1)).astype(np.uint8))
        return {"wave": _base64(waves), "mel": _base64(mels)}


@jax.jit
def _log_mel(frontend: Frontend, samples: jax.Array) -> jax.Array:
    """[frames, bands] of the frames that lie in the samples."""
    return jnp.log(mel_power(frontend, samples, centred=False) + POWER_FLOOR)


def _base64(arrays: list[np.ndarray]) -> str:
    return base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode("ascii")
