"""The machine that a benchmark runs on: its description, and how much of it is used."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from experiments.machine.host import num_cores, processor
from experiments.machine.jax_setup import keep_memory

PACKAGES = ("jax", "jaxlib", "numpy", "torch", "librosa")


def prepare(device: str, threads: int, *, training: bool = False) -> None:
    """Choose where jax computes; before its first array, which is when it looks.

    Programs kept on disk are not used either: how long one takes to compile is a result.

    Args:
      device: "cpu", or "default" for what jax finds.
      threads: of XLA on the CPU.
      training: steps of training are timed, where malloc keeps memory.
    """
    if training:
        keep_memory()
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    os.environ["NPROC"] = str(threads)
    jax.config.update("jax_enable_compilation_cache", False)


def describe_machine() -> dict[str, Any]:
    """Processor, CPUs that this process may use, jax's device, load of the last minute, system."""
    return {
        "processor": processor(),
        "cpus": num_cores(),
        "device": jax.devices()[0].device_kind,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Python's version and those of `PACKAGES` that are installed; imports none of them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
