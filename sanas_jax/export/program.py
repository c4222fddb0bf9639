"""A stream's first samples and its step as functions of plain arrays, to be run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax import gates
from sanas_jax.data.features import Frontend, extract
from sanas_jax.rollout import Sanas
from sanas_jax.streaming import Memory, dead_answers, fill, init_memory, stream_step
from sanas_jax.streaming.weights import by_output

Arrays = dict[str, Any]
Params = dict[str, Any]


class Samples(NamedTuple):
    """How many `begin` and `step` take, and how far they advance."""

    begin: int
    begin_advance: int
    step: int
    step_advance: int


def samples_of(model: Sanas, frontend: Frontend) -> Samples:
    """Of `begin` and `step`; `begin` takes none where windows do not overlap.

    Raises ValueError for windows that leave audio out.
    """
    first = model.window - model.hop
    if first < 0:
        raise ValueError(
            f"model: expected windows without gaps, hop ≤ {model.window}, got {model.hop}"
        )
    hop, begin, step = frontend.hop, frontend.span(first), frontend.span(model.hop)
    return Samples(begin, first * hop, step, model.hop * hop)


def functions(
    model: Sanas, params: Params, frontend: Frontend, static: bool
) -> tuple[Callable[..., Arrays], Callable[..., tuple[Any, ...]]]:
    """`begin` and `step` on plain dicts of arrays, which need no code to be read back.

    Gates are at their mode; all on if `static`.
    """
    stream, params = by_output(model, params)
    policy = gates.all_on if static else gates.mode
    answers, key = dead_answers(stream.net, params), jax.random.key(0)

    def begin(memory: Arrays, samples: jax.Array) -> Arrays:
        if not samples.size:
            return memory
        frames = extract(frontend, samples, centred=False)[..., None]
        return fill(stream, Memory(**memory), frames)._asdict()

    def step(memory: Arrays, samples: jax.Array) -> tuple[Any, ...]:
        frames = extract(frontend, samples, centred=False)[..., None]
        after, out = stream_step(
            stream, params, answers, Memory(**memory), frames, key, policy=policy
        )
        return after._asdict(), jax.nn.softmax(out.logits), out.live, out.gamma

    return begin, step


def initial(model: Sanas, price: float | None) -> Arrays:
    """The memory before the first sample."""
    memory = init_memory(model, price)
    return {name: np.asarray(array) for name, array in memory._asdict().items()}


def shapes(memory: Arrays) -> dict[str, Any]:
    """Of the arrays of a memory, for people."""
    return {
        name: {"shape": list(array.shape), "dtype": str(array.dtype)}
        for name, array in memory.items()
    }


def shape_like(array: np.ndarray) -> jax.ShapeDtypeStruct:
    """The shape of an array, and its dtype as jax has it."""
    dtype = jnp.float32 if array.dtype == np.float64 else array.dtype
    return jax.ShapeDtypeStruct(array.shape, dtype)


def difference(one: Arrays, other: Arrays) -> dict[str, Any]:
    """The only number in which two memories differ."""
    places = [
        {"array": name, "index": int(index)}
        for name in one
        for index in np.flatnonzero(one[name] != other[name])
    ]
    assert len(places) == 1, places
    return places[0]
