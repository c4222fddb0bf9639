"""Arrays over many devices: the mesh (budget × data), and how values get onto it.

Budgets share no arithmetic, so each column of the mesh trains its part of them. Along "data" a
batch is split by its rows, parameters are copies, and XLA adds up what rows contribute: the program
is that of one device, whatever the mesh. It spans the devices of all processes, and all of them run
it; what it is given must have the same values in each.

A mesh of None stands for one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BUDGET, DATA = "budget", "data"


def mesh_shape(devices: int, budgets: int) -> tuple[int, int]:
    """How many of the devices share out the budgets, and how many the rows."""
    across = math.gcd(devices, budgets)
    return across, devices // across


def make_mesh(devices: Sequence[jax.Device], budgets: int, rows: int) -> Mesh | None:
    """A mesh of all `devices`: as many as can be share out the budgets, the others the rows.

    Args:
      devices: of all processes, `jax.devices()`.
      budgets: G, or a common divisor where programs have different G.
      rows: B, of a batch.

    Raises:
      ValueError if the rows cannot be shared out evenly.
    """
    if len(devices) == 1:
        return None
    across, along = mesh_shape(len(devices), budgets)
    if rows % along:
        raise ValueError(
            f"batch size: expected a multiple of {along}, for {len(devices)} devices and "
            f"{budgets} budgets at once, got {rows}"
        )
    # Neighbours, which are near each other, add up gradients.
    return Mesh(np.array(devices).reshape(across, along), (BUDGET, DATA))


def place(tree: Any, mesh: Mesh | None, *axes: str | None) -> Any:
    """Arrays, the same ones in every process, on the devices of the mesh.

    Args:
      tree: arrays of the host or of any devices; typed keys are arrays, too.
      mesh: where to.
      axes: of the mesh, along which the arrays' first axes are split; without any, each device has
        the whole.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, PartitionSpec(*axes))

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(leaf))
            return jax.jit(wrap, out_shardings=sharding)(np.asarray(jax.random.key_data(leaf)))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def jit_onto(function: Callable[..., Any], mesh: Mesh | None, *axes: Any, **options: Any) -> Any:
    """`jax.jit` of a function whose results lie on the mesh.

    Args:
      function: of arrays.
      mesh: where to.
      axes: as in `place`, of all results; or one tuple of axes for each of several results.
      options: of `jax.jit`.
    """
    if mesh is None:
        return jax.jit(function, **options)
    if axes and isinstance(axes[0], tuple):
        out: Any = tuple(NamedSharding(mesh, PartitionSpec(*own)) for own in axes)
    else:
        out = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.jit(function, out_shardings=out, **options)
