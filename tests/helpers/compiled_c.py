"""Networks of `nets_in_c` as compiled C, and what they are to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.machine.compiler import NoCompilerError, compiled, find_compiler
from sanas_jax import gates
from sanas_jax.data.features import Frontend, extract
from sanas_jax.export.c.library import Library
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.streaming.session import Heard
from tests.helpers.nets_in_c import source_of


def skip_without_compiler() -> None:
    """The module's tests, where C cannot be compiled."""
    try:
        find_compiler()
    except NoCompilerError as missing:
        pytest.skip(str(missing), allow_module_level=True)


def library_of(
    model: Sanas,
    params: dict[str, Any],
    front: Frontend,
    static: bool = False,
    folder: Path | None = None,
    **options: Any,
) -> Library:
    """Options as of `source_of`."""
    source = source_of(model, params, front, static, **options)
    return Library(str(compiled(source, folder)), "small", model, front)


def whole(
    model: Sanas, params: dict[str, Any], front: Frontend, samples: np.ndarray, price: float
) -> tuple[np.ndarray, np.ndarray]:
    """What `unroll` says of the whole recording: posteriors, live."""
    signal = samples.astype(np.float32) / 32768
    frames = extract(front, jnp.asarray(signal))[None, ..., None]
    carry = init_carry(model, 1, price, params["stats"])
    _, out = unroll(model, params, carry, frames, jax.random.key(0), policy=gates.mode)
    return np.asarray(jax.nn.softmax(out.logits[:, 0])), np.asarray(out.live[:, 0])


def fired(heard: list[Heard]) -> list[tuple[int, float] | None]:
    """Of every step the word that fired and when, or None."""
    return [h.detection and (h.detection.label, h.detection.time_ms) for h in heard]
