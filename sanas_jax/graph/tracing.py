"""What a block is, by abstract evaluation: nothing is drawn, and nothing computed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Traced(NamedTuple):
    """What a block makes of an input shape.

    Fields:
      shape: of its value, without the batch axis.
      variables: by collection, their shapes and dtypes.
    """

    shape: tuple[int, ...]
    variables: dict[str, Any]

    @property
    def with_stats(self) -> bool:
        """Whether it keeps batch statistics."""
        return "batch_stats" in self.variables


# Equal blocks on equal shapes are traced once: a large fabric has hundreds.
@lru_cache(maxsize=4096)
def traced(block: nn.Module, source_shape: tuple[int, ...]) -> Traced:
    """Abstract evaluation of a block on one input, float32."""
    key = jax.eval_shape(jax.random.key, 0)
    x = jax.ShapeDtypeStruct((1, *source_shape), jnp.float32)
    y, variables = jax.eval_shape(block.init_with_output, key, x)
    return Traced(tuple(y.shape[1:]), dict(variables))
