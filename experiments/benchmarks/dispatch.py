"""What a call of a small program costs where jax hands it to another thread, and where not.

    python -m experiments.benchmarks.dispatch [--repeats 5] [--json out.json]

Three layers of 100 × 100 for one input: about what the cheapest decision on a stream computes. Each
call is waited for, as a stream waits. `jax_setup.prepare_streaming` turns the hand-over
off; jax looks at that when it makes its client, so here it makes one anew for each block of calls,
the two settings in turn. On a CPU only, with one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.backend import clear_backends
from tqdm import tqdm

from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, measure_limits, row
from experiments.benchmarks.harness.programs import Program, build
from experiments.benchmarks.harness.records import Result, result, table

__all__ = ["benchmark", "main", "table"]

NAME = "dispatch"
CALLS, QUICK_CALLS = 3000, 300
LAYERS, WIDTH = 3, 100
WAYS = {"in this thread": False, "handed over": True}
REPEATS = 5


def benchmark(settings: Settings) -> Result:
    """Median seconds of a call in each block."""
    if settings.device != "cpu":
        raise ValueError("--device: expected cpu, whose dispatch this is, got default")
    calls = QUICK_CALLS if settings.quick else CALLS
    before = jax.config.read("jax_cpu_enable_async_dispatch")
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    sides: dict[str, Side] = {}
    try:
        for _ in tqdm(range(settings.repeats), desc="rounds", unit="round", disable=None):
            for name, handed_over in WAYS.items():
                clear_backends()
                jax.config.update("jax_cpu_enable_async_dispatch", handed_over)
                program, found = time_calls(calls)
                seconds[name].append(statistics.median(found))
                moved = 4 * (LAYERS * WIDTH * WIDTH + 2 * WIDTH)
                side = Side(lambda: None, macs=LAYERS * WIDTH * WIDTH, moved=moved)
                sides.setdefault(name, side.compiled(program))
    finally:
        clear_backends()
        jax.config.update("jax_cpu_enable_async_dispatch", before)
    rates = measure_limits(settings.repeats)
    base = next(iter(WAYS))
    rows = {name: row(sides[name], seconds[name], seconds[base], base, rates) for name in WAYS}
    return result(
        f"a call of {LAYERS} layers of {WIDTH} × {WIDTH}, {settings.threads} threads, median of "
        f"{settings.repeats} blocks of {calls} in turn",
        settings.asked | {"calls": calls},
        {"rows": rows, "limits": rates},
    )


def time_calls(calls: int) -> tuple[Program, list[float]]:
    """The program, and seconds of each call after as many untimed ones as a tenth."""
    weights = jax.random.normal(jax.random.key(0), (LAYERS, WIDTH, WIDTH))
    x = jnp.zeros((1, WIDTH))

    def layers(weights: jax.Array, x: jax.Array) -> jax.Array:
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return x

    program = build(jax.jit(layers), weights, x)
    run = jax.jit(layers)
    seconds = []
    for _ in range(calls // 10 + calls):
        begin = time.perf_counter()
        jax.block_until_ready(run(weights, x))
        seconds.append(time.perf_counter() - begin)
    return program, seconds[calls // 10 :]


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return entry.main(__doc__ or "", NAME, benchmark, argv, repeats=REPEATS, threads=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
