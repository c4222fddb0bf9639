"""BatchNorm as all blocks use it: statistics of the rows that count, and of no others."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5  # added to variances


def batch_norm(
    x: jax.Array,
    train: bool,
    live: jax.Array | None = None,
    *,
    momentum: float = 0.9,
    axis: int | tuple[int, ...] = -1,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> jax.Array:
    """A BatchNorm of x [B, ...], as a submodule of the module that calls.

    Args:
      x: values; statistics are over all axes but `axis`.
      train: normalise with the batch and update the running statistics, else with these.
      live: rows [B], or rows and positions in time [B, rows], that enter the statistics; None: all.
        Where none does the statistics are those of all, which `forward` then does not keep.
      momentum: of the running statistics.
      axis: that have statistics of their own.
      scale_init: of the scale.
    """
    mask = None
    if train and live is not None:
        counted = jnp.where(live.any(), live, True)  # of nothing, statistics would be nan
        mask = jnp.broadcast_to(counted.reshape(live.shape + (1,) * (x.ndim - live.ndim)), x.shape)
    # flax takes several axes, though its annotation says one. The fast variance loses digits where
    # the mean is large.
    norm = nn.BatchNorm(
        not train,
        axis=axis,  # type: ignore[arg-type]
        momentum=momentum,
        epsilon=EPSILON,
        use_fast_variance=False,
        scale_init=scale_init,
    )
    return norm(x, mask=mask)
