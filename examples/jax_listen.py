"""Load and run what `experiments.export` wrote for jax: needs jax and numpy, not the model's code.

    exported = load(folder)
    heard = run(exported, samples)             # posteriors, live edges, gammas of all steps

or step by step, as audio comes:

    memory = exported.begin(exported.memory, samples[:begin_samples])
    memory, posterior, live, gamma = exported.step(memory, next step_samples)

`description` says how many samples these are and by how many they advance (`experiments.export`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

Memory = dict[str, Any]


class Exported(NamedTuple):
    """An exported model.

    Fields:
      description: of description.json.
      memory: that of a new stream, by name; the price λ that was asked for is told.
      begin: `(memory, samples) → memory`, once at the beginning of a stream.
      step: `(memory, samples) → memory, posterior [K], live [E], gamma [E]`; takes the memory over.
    """

    description: dict[str, Any]
    memory: Memory
    begin: Callable[[Memory, Any], Memory]
    step: Callable[[Memory, Any], tuple[Memory, jax.Array, jax.Array, jax.Array]]


class Heard(NamedTuple):
    """All steps: posteriors [T, K], live [T, E] (the edges that ran), gammas [T, E]."""

    posteriors: np.ndarray
    live: np.ndarray
    gammas: np.ndarray


def load(folder: str | Path) -> Exported:
    """Read an export; compiled for the present device at the first call.

    Raises ValueError for a folder that holds none for jax.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / "description.json").read_text(encoding="utf-8"))
        with np.load(folder / "jax" / "memory.npz") as file:
            memory = dict(file)
        begin, step = (
            export.deserialize(bytearray((folder / "jax" / f"{name}.bin").read_bytes()))
            for name in ("begin", "step")
        )
    except Exception as error:  # damaged files fail in any way
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{folder}: expected an export with --format jax, got {cause}") from error
    return Exported(
        description,
        memory,
        jax.jit(begin.call),
        jax.jit(step.call, donate_argnums=0),
    )


def tell(exported: Exported, memory: Memory, cost_weight: float) -> Memory:
    """The memory with another price λ, heard from the next step on.

    Raises ValueError for a network that is not told a price.
    """
    place = exported.description["formats"]["jax"]["log_price"]
    if place is None:
        raise ValueError("cost_weight: expected a conditioned network, got one that is not")
    changed = np.array(memory[place["array"]])
    changed.flat[place["index"]] = np.log(cost_weight)
    return memory | {place["array"]: changed}


def run(exported: Exported, samples: np.ndarray) -> Heard:
    """All steps of a recording [n], float32 in [-1, 1] at the model's rate."""
    d = exported.description
    padded = np.pad(np.asarray(samples, np.float32), d["pad_samples"], mode=d["padding"])
    empty = [np.zeros((0, len(d[name]))) for name in ("classes", "edges", "edges")]
    memory, heard = exported.memory, []
    if len(padded) >= d["begin_samples"]:
        memory = exported.begin(memory, padded[: d["begin_samples"]])
    last = len(padded) - d["step_samples"]
    for at in range(d["begin_advance"], last + 1, d["step_advance"]):
        memory, *answer = exported.step(memory, padded[at : at + d["step_samples"]])
        heard.append(list(map(np.asarray, answer)))
    return Heard(*(map(np.stack, zip(*heard, strict=True)) if heard else empty))
