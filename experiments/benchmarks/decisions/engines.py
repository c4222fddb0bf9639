"""Engines for a session: ours, and to be timed beside them onnxruntime, and PyTorch by windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.decisions.subjects import Decide
from experiments.live.engine import runtime_of
from experiments.live.native import native_runtime
from experiments.machine.compiler import NoCompilerError
from experiments.runs.trained import TrainedModel
from sanas_jax.data.features import extract
from sanas_jax.export.c.library import Library
from sanas_jax.export.program import samples_of
from sanas_jax.streaming import Memory
from sanas_jax.streaming.runtime import Answer
from sanas_jax.streaming.session import Heard, StreamEngine


def our_engines(model: TrainedModel) -> tuple[StreamEngine, Library]:
    """XLA's and the native one; ValueError where no C compiler is found."""
    try:
        native = native_runtime(model)
    except NoCompilerError as error:
        raise ValueError(f"expected a C compiler to compare with, got {error}") from error
    return runtime_of(model), native


def difference(found: Sequence[Answer | Heard], expected: Sequence[Answer | Heard]) -> float:
    """Largest of posteriors, decision by decision; infinite where other edges ran."""
    if not np.array_equal([f.live for f in found], [e.live for e in expected]):
        return float("inf")
    posteriors = ([each.posterior for each in side] for side in (found, expected))
    one, other = map(np.stack, posteriors)
    return float(np.abs(one - other).max())


class OtherEngine:
    """What all of them have of what a session asks for; each adds `name` and `stream`."""

    def __init__(self, model: TrainedModel) -> None:
        """Of a trained model, on audio."""
        self.model, self.frontend = model.sanas, model.info.frontend
        self.first_frames = self.model.window - self.model.hop

    def close(self) -> None:
        """Nothing is going on in the background."""


class OtherStream(ABC):
    """Steps of a stream that is neither saved nor told another price."""

    memory: Memory

    @abstractmethod
    def begin(self, x: np.ndarray) -> None:
        """The audio [n] of the first frames."""

    @abstractmethod
    def step(self, x: np.ndarray) -> Answer:
        """The audio [n] of a step."""

    def tell(self, cost_weight: float) -> None:
        """Refused: prices stay in a benchmark."""
        raise ValueError(f"cost_weight: expected the one of the stream's start, got {cost_weight}")


class OnnxEngine(OtherEngine):
    """The exported graphs under onnxruntime, a thread each; ImportError without the extra."""

    name = "onnxruntime"

    def __init__(self, model: TrainedModel, threads: int) -> None:
        """Write and load both graphs."""
        super().__init__(model)
        import onnxruntime

        from sanas_jax.export import onnx_graph

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        count, static = samples_of(self.model, self.frontend), model.static
        self.begin, self.step = (
            onnxruntime.InferenceSession(graph.SerializeToString(), options)
            for graph in (
                onnx_graph.begin_model(self.model, self.frontend, count.begin),
                onnx_graph.step_model(
                    self.model, model.params, self.frontend, count.step, static=static
                ),
            )
        )

    def stream(self, cost_weight: float | None = None) -> OtherStream:
        """A stream before its first sample, told λ."""
        return _OnnxStream(self, cost_weight)


class _OnnxStream(OtherStream):
    def __init__(self, engine: OnnxEngine, price: float | None) -> None:
        from sanas_jax.export import onnx_memory

        self._engine = engine
        self._memory = onnx_memory.initial_memory(engine.model, price)
        self._names = [output.name for output in engine.step.get_outputs()]

    def begin(self, x: np.ndarray) -> None:
        given = {"samples": x, "frames": self._memory["frames"]}
        (self._memory["frames"],) = self._engine.begin.run(None, given)

    def step(self, x: np.ndarray) -> Answer:
        found = self._engine.step.run(self._names, {**self._memory, "samples": x})
        answer: dict[str, Any] = dict(zip(self._names, found, strict=True))
        self._memory = {name: answer[f"next_{name}"] for name in self._memory}
        return Answer(answer["posterior"], answer["live"], answer["gamma"])


class WindowEngine(OtherEngine):
    """A network that computes each window whole, in PyTorch; features of new frames by XLA."""

    def __init__(self, model: TrainedModel, name: str, logits_of: Decide) -> None:
        """`logits_of`: window, live edges → logits."""
        super().__init__(model)
        self.name, self.logits_of = name, logits_of
        self.frames = jax.jit(lambda x: extract(self.frontend, x, centred=False)[..., None])

    def stream(self, cost_weight: float | None = None) -> OtherStream:
        """A stream before its first sample; everything is on, whatever λ."""
        return _WindowStream(self)


class _WindowStream(OtherStream):
    def __init__(self, engine: WindowEngine) -> None:
        self._engine = engine
        net = engine.model.net
        self._live = np.ones(len(net.edges), np.float32)
        self._live[[net.index[edge.name] for edge in net.reuse.values()]] = 0  # as `all_on` has it

    def begin(self, x: np.ndarray) -> None:
        self._frames = np.array(self._engine.frames(x))

    def step(self, x: np.ndarray) -> Answer:
        engine = self._engine
        window = np.concatenate([self._frames, np.asarray(engine.frames(x))])
        self._frames = window[engine.model.hop :]
        logits = engine.logits_of(window, self._live)
        powers = np.exp(logits - logits.max())
        return Answer(powers / powers.sum(), self._live, self._live)
