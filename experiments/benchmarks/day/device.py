"""What there is to compute with: versions, devices, and what they can at most."""

from __future__ import annotations

from functools import partial
from importlib.metadata import PackageNotFoundError, version

import jax

from experiments.benchmarks.day.results import Line, Teller
from experiments.benchmarks.day.scale import Scale
from experiments.benchmarks.harness.machine import describe_machine, describe_versions
from experiments.benchmarks.harness.measure import measure_limits

PACKAGES = ("flax", "optax", "orbax-checkpoint", "scipy")


def machine(scale: Scale, tell: Teller) -> None:
    """Versions and devices; the rate of a product by precision, and of a pass over memory."""
    tell("devices", _describe)
    for precision in ("default", *scale.precisions):
        tell(precision, partial(_limits, scale.repeats, precision))


def _limits(repeats: int, precision: str) -> Line:
    return dict(measure_limits(repeats, precision))


def check_accelerator(toy: bool) -> None:
    """ValueError where jax finds a CPU only, unless that is enough."""
    if jax.default_backend() == "cpu" and not toy:
        raise ValueError(
            "expected an accelerator, got a CPU only: is the jax that is installed the one for "
            "it? --toy rehearses on a CPU"
        )


def _describe() -> Line:
    device = jax.devices()[0]
    versions = describe_versions()
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "text": f"{len(jax.devices())} × {device.device_kind}, jax {versions.get('jax')}",
        "machine": describe_machine(),
        "versions": versions,
        "platform": device.platform,
        "platform_version": device.client.platform_version,
        "memory": device.memory_stats(),
    }
