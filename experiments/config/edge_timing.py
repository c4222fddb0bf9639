"""Seconds that each edge of a network takes on this machine, measured and kept in a file.

What `costs.table` needs to charge time. The file says which device and which network it is of; for
any other it is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from data_prep.command.atomic import write_json
from data_prep.command.progress import counted
from experiments.machine.host import num_cores, processor, user_cache
from sanas_jax.costs import per_edge
from sanas_jax.graph import Net
from sanas_jax.running import Params

SECONDS_PER_EDGE = 0.03
FEWEST_CALLS = 5


def edge_times(
    net: Net, params: Params, path: Path | None = None, *, batch: int = 1
) -> dict[str, float]:
    """Seconds of each edge's block, from the file if it is of this device and network.

    Args:
      net: static description.
      params: {edge: params}.
      path: JSON file; None: one of the device's and the network's own in the user's cache.
      batch: inputs per call.
    """
    subject = describe(net, batch)
    if path is None:
        path = user_cache() / f"edge_times_{_digest(subject)[:16]}.json"
    times = _read(path, net, subject)
    if times is None:
        times = measure_edges(net, params, batch=batch)
        write_json(path, subject | {"seconds": times})
    return times


def measure_edges(net: Net, params: Params, *, batch: int = 1) -> dict[str, float]:
    """Median seconds of a call of each edge's block, compiled alone, the call itself included.

    Args:
      net: static description.
      params: {edge: params}.
      batch: inputs per call, drawn at random.

    Raises:
      ValueError for a batch without inputs, or parameters that are not those of the edges.
    """
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    if set(params) != set(net.index):
        raise ValueError(f"params: expected those of {sorted(net.index)}, got {sorted(params)}")
    # Equal blocks share a compiled program.
    compiled = {edge.block: jax.jit(edge.block.apply) for edge in net.edges}
    times = {}
    for edge in counted(net.edges, "edge", "timing", keep=False):
        x = jax.random.normal(jax.random.key(0), (batch, *net.shapes[edge.source]))
        # Beside the parameters, whatever else the block keeps.
        variables = {**edge.block.init(jax.random.key(0), x), "params": params[edge.name]}
        times[edge.name] = _median_seconds(compiled[edge.block], variables, x)
    return times


def describe(net: Net, batch: int) -> dict[str, Any]:
    """What measured times are of: device, network, inputs per call."""
    # Functions inside a block's fields are shown with an address, another one in every process.
    blocks = [
        [edge.name, net.shapes[edge.source], re.sub(r" at 0x[0-9a-f]+", "", repr(edge.block))]
        for edge in net.edges
    ]
    return {"device": _device(), "net": _digest(blocks), "batch": batch}


def _median_seconds(fn: Callable[..., Any], *args: Any) -> float:
    """Of calls that follow a first one, which compiles, and a second one, which warms up."""
    for _ in range(2):
        jax.block_until_ready(fn(*args))
    seconds: list[float] = []
    deadline = time.perf_counter() + SECONDS_PER_EDGE
    while len(seconds) < FEWEST_CALLS or time.perf_counter() < deadline:
        start = time.perf_counter()
        jax.block_until_ready(fn(*args))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _read(path: Path, net: Net, subject: dict[str, Any]) -> dict[str, float] | None:
    """Times in the file; None unless it is whole and of this subject."""
    try:
        record = json.loads(path.read_text())
        if any(record[name] != value for name, value in subject.items()):
            return None
        per_edge(net, record["seconds"])
        return {edge.name: record["seconds"][edge.name] for edge in net.edges}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _device() -> dict[str, Any]:
    """The device that jax computes on, and what of its surroundings changes its speed."""
    device = jax.devices()[0]
    described = {
        "platform": device.platform,
        "kind": device.device_kind,
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    if device.platform == "cpu":
        described |= {"processor": processor(), "cores": num_cores()}
    return described


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
