"""What all benchmarks share: sides timed in turn, beside what the machine can do at most.

A round runs each side once, A B C A B C …, so that other load hits all alike. Two of the sides are
the machine's limits, measured by jax on the device and the threads that are used: multiplications
of a large float32 matrix product, at jax's default precision as the networks' own are unless
another is asked for, and bytes of a pass over an array larger than the caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

from experiments.benchmarks.harness.programs import Program
from sanas_jax.training import PRECISIONS

MATMUL, MEMORY = "limit: matmul", "limit: memory"
PROBES = 5


class Side(NamedTuple):
    """Something to time.

    run: does it once and waits until it is done.
    macs: multiply-accumulates of a run, as far as they are counted.
    moved: bytes that a run must read and write at the least: what it takes and gives, each once.
    compile_seconds, memory_bytes: as in `Program`.
    base: name of the side that its time is compared with; None: the first.
    """

    run: Callable[[], object]
    macs: int | None = None
    moved: int | None = None
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    base: str | None = None

    def compiled(self, program: Program) -> Side:
        """The same with what is known of its program."""
        return self._replace(
            compile_seconds=program.compile_seconds, memory_bytes=program.memory_bytes
        )


class Times(NamedTuple):
    """Seconds of each round by name: of the clock, and of CPU time summed over threads."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]


def time_in_turn(runs: Mapping[str, Callable[[], object]], repeats: int) -> Times:
    """Time each run `repeats` times, in turn, after an untimed round."""
    times = Times({name: [] for name in runs}, {name: [] for name in runs})
    for repeat in tqdm(range(repeats + 1), desc="rounds", unit="round", disable=None):
        for name, run in runs.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            run()
            if repeat:
                times.wall[name].append(time.perf_counter() - begin)
                times.cpu[name].append(time.process_time() - begin_cpu)
    return times


def measure(sides: Mapping[str, Side], repeats: int, precision: str = "default") -> dict[str, Any]:
    """Time sides and the machine's limits in turn.

    Args:
      sides: by name.
      repeats: rounds.
      precision: of the matrix product, as of `limits`.

    Returns:
      {"rows": {name: as of `row`}, "limits": {"macs_per_second", "bytes_per_second"}}.
    """
    probes = limits(precision)
    runs = {name: side.run for name, side in sides.items()} | _probe_runs(probes)
    times = time_in_turn(runs, repeats)
    rates = rates_of(probes, times.wall)
    first = next(iter(sides))
    rows = {
        name: row(side, times.wall[name], times.wall[side.base or first], side.base or first, rates)
        | {"cpu_seconds": statistics.median(times.cpu[name])}
        for name, side in sides.items()
    }
    return {"rows": rows, "limits": rates}


def row(
    side: Side,
    seconds: Sequence[float],
    base_seconds: Sequence[float],
    base: str,
    rates: Mapping[str, float],
) -> dict[str, Any]:
    """What is known of a side: medians, ratios to its base, rates, shares of the limits.

    Args:
      side: that was timed.
      seconds: of each round.
      base_seconds: of its base, in the same rounds.
      base: the name of that.
      rates: of `rates_of`.
    """
    median = statistics.median(seconds)
    pairs = [own / other for own, other in zip(seconds, base_seconds, strict=True)]
    found: dict[str, Any] = {
        "seconds": median,
        "all_seconds": list(seconds),
        "base": base,
        "ratio": median / statistics.median(base_seconds),
        "ratio_range": [min(pairs), max(pairs)],
    }
    if side.macs is not None:
        rate = side.macs / median
        found |= {"macs": side.macs, "macs_per_second": rate}
        found["share_of_matmul"] = rate / rates["macs_per_second"]
    if side.moved is not None:
        rate = side.moved / median
        found |= {"moved_bytes": side.moved, "bytes_per_second": rate}
        found["share_of_memory"] = rate / rates["bytes_per_second"]
    for name in ("compile_seconds", "memory_bytes"):
        if getattr(side, name) is not None:
            found[name] = getattr(side, name)
    return found


def limits(precision: str = "default") -> dict[str, Side]:
    """A matrix product and a pass over memory, compiled.

    Args:
      precision: of the product, a name of `training.PRECISIONS`; of bfloat16 its factors are.
    """
    on_cpu = jax.default_backend() == "cpu"
    size, length = (1024, 2**26) if on_cpu else (8192, 2**28)  # 256 MB; 1 GB
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    square = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=PRECISIONS[precision]))
    # In place: on a CPU most of the time would else go into fetching fresh pages.
    scale = jax.jit(lambda x: 0.999 * x + 0.001, donate_argnums=0)
    array = jnp.ones(length)
    jax.block_until_ready(product(square))

    def touch() -> None:
        nonlocal array
        array = jax.block_until_ready(scale(array))

    return {
        MATMUL: Side(lambda: jax.block_until_ready(product(square)), macs=size**3),
        MEMORY: Side(touch, moved=2 * array.nbytes),
    }


def rates_of(probes: Mapping[str, Side], wall: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """MACs/s and bytes/s of the limits where they were fastest: what the machine can, not does."""
    macs, moved = probes[MATMUL].macs, probes[MEMORY].moved
    assert macs is not None
    assert moved is not None

    def fastest(limit: str) -> float:
        return min(min(seconds) for name, seconds in wall.items() if name.startswith(limit))

    return {
        "macs_per_second": macs / fastest(MATMUL),
        "bytes_per_second": moved / fastest(MEMORY),
    }


def measure_limits(repeats: int, precision: str = "default") -> dict[str, float]:
    """The limits alone, for what is timed in another way."""
    probes = limits(precision)
    return rates_of(probes, time_in_turn(_probe_runs(probes), repeats).wall)


def _probe_runs(probes: Mapping[str, Side]) -> dict[str, Callable[[], object]]:
    """Each limit a few times per round, for the fastest counts."""
    return {f"{name} {i}": side.run for i in range(PROBES) for name, side in probes.items()}


def relative_error(got: Any, expected: Any) -> float:
    """Largest difference relative to the largest entry; the difference itself beside zeros."""
    difference = float(abs(got - expected).max())
    scale = float(abs(expected).max())
    return difference / scale if scale else difference


def hold(agreement: Mapping[str, float], tolerance: float, what: str) -> None:
    """ValueError where one of these errors is above the tolerance, or no number."""
    for name, error in agreement.items():
        if not error <= tolerance:
            raise ValueError(f"{what}: expected {name} within {tolerance:g}, got {error:.2g}")
