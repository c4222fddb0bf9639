"""Whether a flax module can be a block: on an edge, in a trunk, in training."""

from __future__ import annotations

import inspect
from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError

from sanas_jax.graph.tracing import Traced, traced


def check_block(block: nn.Module, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a block that a network would not run as it is written.

    For a test of one's own: it runs the block, where building a `Net` only traces it.

    Args:
      block: that an edge would carry.
      shape: of the layer that it reads, without the batch axis.
    """
    found = look_at(block, shape)
    stride = getattr(block, "time_stride", None)
    if not stride:
        return
    key = jax.random.key(0)
    x = jax.random.normal(key, (1, shape[0] + stride, *shape[1:]))
    variables = block.init(key, x[:, : shape[0]])
    early, late, both = (
        np.asarray(block.apply(variables, part)) for part in (x[:, : shape[0]], x[:, stride:], x)
    )
    rows = found.shape[0]
    moved = both.shape[1] == rows + 1 and np.allclose(both[:, :rows], early, atol=1e-4)
    if not moved or not np.allclose(both[:, 1:], late, atol=1e-4):
        raise ValueError(
            f"time_stride: expected its output to move by one row where the input moves by "
            f"{stride}, as a valid convolution's does; it does not"
        )


def look_at(block: nn.Module, shape: tuple[int, ...]) -> Traced:
    """What a block makes of an input shape; ValueError for one that is no block."""
    try:
        hash(block)
    except TypeError:
        raise ValueError(
            "expected fields that can be compared (numbers, strings, tuples), got "
            f"{_unhashable(block)}"
        ) from None
    try:
        found = traced(block, shape)
    except Exception as error:  # the user's own block, which may raise anything
        raise ValueError(str(error).splitlines()[0] or type(error).__name__) from error
    extra = sorted(set(found.variables) - {"params", "batch_stats"})
    if extra:
        raise ValueError(
            "expected a block with parameters and batch statistics only, got the variable "
            f"collections {extra}"
        )
    if 0 in found.shape:
        raise ValueError(
            f"it gives an empty value {found.shape}: is its kernel larger than its input?"
        )
    if not type(block).__module__.startswith("sanas_jax."):  # ours are checked by the tests
        _check_call(block, shape)
    return found


@lru_cache(maxsize=4096)
def _check_call(block: nn.Module, shape: tuple[int, ...]) -> None:
    """ValueError for a block that is not told what it needs, in training or out of it."""
    found = traced(block, shape)
    takes = {"train", "live"} & set(inspect.signature(type(block).__call__).parameters)
    if found.with_stats and takes != {"train", "live"}:
        raise ValueError(
            "it keeps batch statistics; expected its __call__ to take the keywords `train` and "
            f"`live` (sanas_jax.blocks.common), got {sorted(takes)}"
        )
    if takes and not found.with_stats:
        raise ValueError(
            f"it keeps no batch statistics, so nobody would pass it {sorted(takes)}; expected a "
            "block that does the same in training and out of it"
        )
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        jax.eval_shape(block.apply, found.variables, x)
    except InvalidRngError:
        raise ValueError(
            "it draws random numbers when it is run (dropout?); expected a function of its input"
        ) from None


def _unhashable(block: nn.Module) -> str:
    """Fields that can't be compared, by name."""
    names = []
    for name in block.__dataclass_fields__:
        try:
            hash(getattr(block, name, None))
        except TypeError:
            names.append(f"{name} of type {type(getattr(block, name)).__name__}")
    return ", ".join(names) or type(block).__name__
