"""A network's C file, compiled, in the place of `streaming.runtime.Runtime`.

A stream's memory is one array that C changes in place, laid out as `streaming.Memory`, so that what
one engine has saved the other goes on from.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from sanas_jax.data.features import Frontend
from sanas_jax.export.c.layout import layout_of
from sanas_jax.export.program import samples_of
from sanas_jax.rollout import Sanas
from sanas_jax.streaming import Memory, most_turns
from sanas_jax.streaming.runtime import Answer


class Library:
    """What was compiled, which any number of streams share."""

    name = "native"

    def __init__(self, path: str, name: str, model: Sanas, frontend: Frontend) -> None:
        """Load it.

        Args:
          path: of the shared library.
          name: that its functions' names begin with.
          model, frontend: of which it was written; its parameters are in it.
        """
        self.model, self.frontend = model, frontend
        self.first_frames = model.window - model.hop
        self.samples = samples_of(model, frontend)
        self.layout = layout_of(model)
        self.classes = int(np.prod(model.net.shapes[model.net.output]))
        loaded = ctypes.CDLL(path)
        self.start: Any = loaded[f"{name}_start"]
        self.tell: Any = loaded[f"{name}_tell"]
        self.begin: Any = loaded[f"{name}_begin"]
        self.decide: Any = loaded[f"{name}_decide"]
        for function in (self.start, self.tell):
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_float], None
        for function, count in ((self.begin, 2), (self.decide, 3)):
            function.argtypes, function.restype = [ctypes.c_void_p] * count, None

    def stream(self, cost_weight: float | None = None) -> NativeStream:
        """A stream before its first sample; λ for a conditioned controller."""
        return NativeStream(self, cost_weight)

    def heard(self, cost_weight: float | None) -> float:
        """The price that the controller hears; any if it hears none. ValueError if it lacks one."""
        if not self.layout.conditioned:
            return 1.0
        if cost_weight is None or not cost_weight > 0:
            raise ValueError(
                f"cost_weight: expected a price above 0 for the controller, got {cost_weight}"
            )
        return float(cost_weight)

    def close(self) -> None:
        """Nothing is going on in the background."""


class NativeStream:
    """A stream's state on the way through a `Library`: as `streaming.runtime.Stream`."""

    def __init__(self, library: Library, cost_weight: float | None = None) -> None:
        """Before the first frame; ValueError for a price that a controller needs and lacks."""
        price, layout = library.heard(cost_weight), library.layout
        self._library = library
        tape, state = layout.tape, layout.tape + layout.state
        self._numbers = np.zeros(state + layout.counts, np.float32)
        parts = self._numbers[:tape], self._numbers[tape:state], self._numbers[state:]
        self._parts = (*parts[:2], parts[2].view(np.int32))
        classes, edges = library.classes, len(library.model.net.edges)
        # The result's other fields, 24 bytes with a gap of 4, follow what is read here.
        self._result = np.zeros(classes + 2 * edges + 8, np.float32)
        self._ends = classes, classes + edges, classes + 2 * edges
        self._audio = np.zeros(max(library.samples.begin, library.samples.step), np.float32)
        self._at, self._to = self._numbers.ctypes.data, self._result.ctypes.data
        self._from = self._audio.ctypes.data
        library.start(self._at, price)

    @property
    def memory(self) -> Memory:
        """What there is to keep of the stream; may be set to that of another moment. A copy."""
        parts: Any = [part.copy() for part in self._parts]
        return Memory(*parts)

    @memory.setter
    def memory(self, memory: Memory) -> None:
        for here, part in zip(self._parts, memory, strict=True):
            here[:] = part
        counts, most = self._parts[2], most_turns(self._library.model)
        # What C takes for places on the tape.
        np.clip(counts[1:], 0, most, out=counts[1:])
        np.maximum(counts[:1], 0, out=counts[:1])

    def begin(self, x: np.ndarray) -> None:
        """The audio [n] of the first `window − hop` frames."""
        self._library.begin(self._at, self._copied(x, self._library.samples.begin))

    def step(self, x: np.ndarray) -> Answer:
        """The audio [n] of `hop` frames more."""
        self._library.decide(self._at, self._copied(x, self._library.samples.step), self._to)
        answer, (classes, live, gamma) = self._result.copy(), self._ends
        return Answer(answer[:classes], answer[classes:live], answer[live:gamma])

    def tell(self, cost_weight: float) -> None:
        """Another price λ from the next step on, for a conditioned controller."""
        self._library.tell(self._at, self._library.heard(cost_weight))

    def _copied(self, x: np.ndarray, count: int) -> int:
        """The address of a copy; of a step's samples to ask NumPy for their own takes longer."""
        if x.dtype != np.float32 or x.shape != (count,):
            raise ValueError(f"x: expected float32 [{count}], got {x.dtype} {x.shape}")
        self._audio[:count] = x
        return self._from
