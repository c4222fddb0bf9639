"""PyTorch as a peer: imported here alone, and done without where it is not installed."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side

EAGER, COMPILED = "PyTorch", "PyTorch, compiled"


class Peer(NamedTuple):
    """The module `torch`, and the device that its side computes on."""

    torch: Any
    device: str


def import_torch(settings: Settings, notes: list[str]) -> Peer | None:
    """PyTorch with as many threads as ours; None and a note where there is none to compare with."""
    # Its idle threads spin by default: beside any other load on the CPUs that slows it 50-fold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # How long it compiles is a result.
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        notes.append("PyTorch, which is not installed: pip install torch")
        return None
    torch.set_num_threads(settings.threads)
    if settings.device == "cpu":
        return Peer(torch, "cpu")
    if not torch.cuda.is_available():
        notes.append("PyTorch, which finds no CUDA device: --device=cpu compares on the CPU")
        return None
    return Peer(torch, "cuda")


def compiled_side(
    settings: Settings, make: Callable[[], Callable[[], object]], notes: list[str]
) -> dict[str, Side]:
    """{COMPILED: side} of a run that uses `torch.compile`; {} and a note where that fails.

    Its compile time is that of the first run less that of the second. A quick run does without.
    """
    if settings.quick:
        notes.append("torch.compile, in a quick run")
        return {}
    try:
        # It warns that it keeps nothing from run to run, as it is told.
        warnings.filterwarnings("ignore", message="dynamo_pgo")
        run = make()
        begin = time.perf_counter()
        run()
        first = time.perf_counter()
        run()
        seconds = max(0.0, first - begin - (time.perf_counter() - first))
    except Exception as error:  # the compilers it calls raise anything
        reason = str(error).strip().splitlines()[:1] or [""]
        notes.append(f"torch.compile, which failed: {type(error).__name__}: {reason[0][:200]}")
        return {}
    return {COMPILED: Side(run, compile_seconds=seconds)}
