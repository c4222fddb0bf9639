"""A compiled program, how long it took to compile, and the memory that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Program(NamedTuple):
    """What `build` makes.

    run: takes what it was built for.
    compile_seconds: tracing, lowering and compiling, once.
    memory_bytes: its arguments, results and intermediate values, buffers that are reused counted
        once (`compiled.memory_analysis()`); None where the device does not say. What the process or
        the device holds besides is not in it.
    """

    run: Callable[..., Any]
    compile_seconds: float
    memory_bytes: int | None

    def on(self, *args: Any) -> Callable[[], Any]:
        """A run on these arguments that waits for the result."""
        return lambda: jax.block_until_ready(self.run(*args))


def build(jitted: Any, *args: Any) -> Program:
    """Compile what `jax.jit` returned for these arguments."""
    begin = time.perf_counter()
    compiled = jitted.lower(*args).compile()
    seconds = time.perf_counter() - begin
    sizes = compiled.memory_analysis()
    memory = None
    if sizes is not None:
        memory = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
        memory += sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
    return Program(compiled, seconds, memory)


def device_peak_bytes() -> int | None:
    """Most memory that this process has held on jax's device so far; None where it is not counted.

    CPUs do not count it.
    """
    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if found is None else int(found)


def num_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
