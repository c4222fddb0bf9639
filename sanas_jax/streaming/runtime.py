"""A model compiled for one stream at a time, faster where it has been before.

One program runs any architecture: what is off is skipped by branches and loops, and each of these
takes longer than a small edge. Few architectures make up most of a stream, and z_{t+1} tells the
next one before its audio comes. So those that occur most get programs of their own, compiled in the
background: straight lines of what is on. They differ from the one for all in float rounding only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Lock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax import gates as gates_lib
from sanas_jax.data.features import Frontend, extract
from sanas_jax.graph import prune
from sanas_jax.rollout import Policy, Sanas
from sanas_jax.streaming.step import (
    Memory,
    dead_answers,
    fill,
    init_memory,
    most_turns,
    plan,
    stream_step,
    tell,
)
from sanas_jax.streaming.weights import by_output

Program = Callable[[Memory, np.ndarray], tuple[Memory, jax.Array]]
# An architecture that came so often comes again.
OCCURRENCES = 3
# Transitions whose consequences are remembered: more than an architecture that is chosen, not
# drawn, ever goes through.
TRANSITIONS = 4096


class Answer(NamedTuple):
    """One step: posterior [K]; live [E], the edges that ran; gamma [E], their probabilities."""

    posterior: np.ndarray
    live: np.ndarray
    gamma: np.ndarray


class Runtime:
    """Compiled programs, which any number of streams share."""

    name = "xla"

    def __init__(
        self,
        model: Sanas,
        params: dict[str, Any],
        frontend: Frontend | None,
        *,
        policy: Policy = gates_lib.mode,
        key: jax.Array | None = None,
        programs: int = 0,
    ) -> None:
        """Weights become constants of the programs: to hand them over would cost more than a step.

        Args:
          model, params: as trained.
          frontend: of the model's features; None for a runtime that is given frames.
          policy: `gates.all_on` for a static network, `gates.sample` to draw.
          key: for a policy that draws.
          programs: how many architectures get one of their own.

        Raises ValueError for a model whose windows leave audio out.
        """
        if model.hop > model.window:
            raise ValueError(
                f"model: expected windows without gaps, hop ≤ {model.window}, got {model.hop}"
            )
        self.model, self.params = model, params = by_output(model, params)
        self.frontend = frontend
        self.first_frames = model.window - model.hop
        self._policy, self._key = policy, key
        self._most = most_turns(model)
        # One program, not one for each operation; what it gives are constants of the others.
        self._answers = jax.device_get(jax.jit(partial(dead_answers, model.net))(params))
        self.start = jax.jit(partial(init_memory, model))
        self.begin = jax.jit(self._begin)
        self.plan = jax.jit(self._plan)
        self.anything = jax.jit(self._step, donate_argnums=0)
        self.consequences = lru_cache(TRANSITIONS)(self._consequences)
        self._own: dict[bytes, Future[Program]] = {}
        self._seen: Counter[bytes] = Counter()
        self._programs = programs
        self._compiler = ThreadPoolExecutor(1) if programs else None
        self._lock = Lock()  # sessions may run in threads

    def stream(self, cost_weight: float | None = None) -> Stream:
        """A stream before its first frame; λ for a conditioned controller."""
        return Stream(self, cost_weight)

    def program(self, turns: bytes, x: np.ndarray) -> Program:
        """That for an architecture (`streaming.stream_step`) if there is one, or that for all.

        Args:
          turns: int16 [E].
          x: audio or frames of a step.
        """
        own = self._own.get(turns)
        if own is not None:
            return own.result() if own.done() and not own.cancelled() else self.anything
        if self._compiler and len(self._own) < self._programs:
            with self._lock:
                self._count(self._compiler, turns, x)
        return self.anything

    def _count(self, compiler: ThreadPoolExecutor, turns: bytes, x: np.ndarray) -> None:
        """One occurrence more; at `OCCURRENCES` its program is compiled."""
        if len(self._seen) >= TRANSITIONS:  # gates are drawn: what comes back will be counted again
            self._seen.clear()
        self._seen[turns] += 1
        is_new = turns not in self._own and len(self._own) < self._programs
        if is_new and self._seen[turns] >= OCCURRENCES:
            self._own[turns] = compiler.submit(self._compile, turns, np.zeros_like(x))

    def close(self) -> None:
        """Compile no more: what waits for it is given up, or the interpreter would wait at exit."""
        if self._compiler:
            self._compiler.shutdown(wait=False, cancel_futures=True)
            self._compiler = None

    def settle(self) -> int:
        """Wait for what is being compiled; how many architectures have a program of their own."""
        return len([own.result() for own in self._own.values()])

    def _compile(self, turns: bytes, x: np.ndarray) -> Program:
        numbers = tuple(int(n) for n in np.frombuffer(turns, np.int16))
        program = jax.jit(partial(self._step, turns=numbers), donate_argnums=0)
        jax.block_until_ready(program(self.start(1.0), x))
        return program

    def _consequences(self, coming: bytes, missed: bytes) -> tuple[np.ndarray, bytes, bytes]:
        """Of live float32 [E] with int16 [E] steps missed: live [E], turns, and steps missed."""
        live = np.frombuffer(coming, np.float32)
        behind = np.minimum(np.frombuffer(missed, np.int16) + 1, self._most)
        turns = np.where(live > 0, np.where(self._most > 0, behind, 1), 0)
        left = np.where(live > 0, 0, behind)
        return live, turns.astype(np.int16).tobytes(), left.astype(np.int16).tobytes()

    def _key_or_any(self) -> jax.Array:
        """The key; where there is none nothing is drawn, so one made inside a program will do."""
        return jax.random.key(0) if self._key is None else self._key

    def _frames(self, x: jax.Array) -> jax.Array:
        """Frames [n, ...] of audio [n], or as they are."""
        if self.frontend is None:
            return x
        return extract(self.frontend, x, centred=False)[..., None]

    def _begin(self, memory: Memory, x: jax.Array) -> Memory:
        return fill(self.model, memory, self._frames(x))

    def _plan(self, memory: Memory) -> jax.Array:
        """Of the step to come the live edges [E], and their probabilities [E], in one array."""
        gates, gamma = plan(
            self.model, self.params, memory, self._key_or_any(), policy=self._policy
        )
        return jnp.concatenate([prune(self.model.net, gates[None])[0], gamma])

    def _step(
        self, memory: Memory, x: jax.Array, turns: tuple[int, ...] | None = None
    ) -> tuple[Memory, jax.Array]:
        memory, out = stream_step(
            self.model,
            self.params,
            self._answers,
            memory,
            self._frames(x),
            self._key_or_any(),
            policy=self._policy,
            turns=turns,
        )
        # One array: to fetch three takes longer than a small network.
        return memory, jnp.concatenate([jax.nn.softmax(out.logits), self._plan(memory)])


class Stream:
    """A stream's state on the way through a `Runtime`."""

    def __init__(self, runtime: Runtime, cost_weight: float | None = None) -> None:
        """Before the first frame; λ for a conditioned controller."""
        self._runtime = runtime
        self._go_on_from(runtime.start(cost_weight))

    @property
    def memory(self) -> Memory:
        """What there is to keep of the stream, NumPy arrays; may be set to that of another moment.

        A copy, both ways: programs change the stream's own in place.
        """
        return jax.tree.map(np.array, self._memory)

    @memory.setter
    def memory(self, memory: Memory) -> None:
        self._go_on_from(Memory(*(jax.device_put(np.array(part)) for part in memory)))

    def _go_on_from(self, memory: Memory) -> None:
        self._memory = memory
        self._missed = np.asarray(memory.counts)[1:].astype(np.int16).tobytes()
        self._coming = np.asarray(self._runtime.plan(memory))

    def begin(self, x: np.ndarray) -> None:
        """The first `window − hop` frames, or their audio."""
        # Waited for: x may be the caller's to change, and jax reads it where it is.
        self._memory = jax.block_until_ready(self._runtime.begin(self._memory, x))

    def step(self, x: np.ndarray) -> Answer:
        """`hop` frames more, or their audio."""
        edges = len(self._runtime.model.net.edges)
        live, gamma = self._coming[:edges], self._coming[edges:]
        live, turns, self._missed = self._runtime.consequences(live.tobytes(), self._missed)
        self._memory, out = self._runtime.program(turns, x)(self._memory, x)
        answer = np.asarray(out)
        self._coming = answer[-2 * edges :]
        return Answer(answer[: -2 * edges], live, gamma)

    def tell(self, cost_weight: float) -> None:
        """Another price λ from the next step on, for a conditioned controller."""
        self._go_on_from(tell(self._runtime.model, self._memory, cost_weight))
