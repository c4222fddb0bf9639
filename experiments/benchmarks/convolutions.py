"""The convolutions of kws_paper and their gradients, beside PyTorch's.

    python -m experiments.benchmarks.convolutions [--threads 2] [--repeats 5] [--json out.json]

Over whole streams, as the trunk runs them: forward, gradient of the kernel, gradient of the input
(not of the first, whose input is audio), and where the block transforms (`kernels.spectral`) the
same by XLA's convolution. Each counts as many multiply-accumulates, those as written, so that rates
compare with each other and with a matrix product; transforms make fewer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure, relative_error
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.benchmarks.harness.records import Result, result, table
from experiments.benchmarks.peers import pytorch
from experiments.benchmarks.peers.kws_paper import FRAMES, PAPER_BATCH, QUICK_BATCH
from sanas_jax import costs
from sanas_jax.kernels.convolution import conv, transforms_pay

__all__ = ["benchmark", "main", "table"]

NAME = "convolutions"
# Name → frequency bands and maps of the input, frames that earlier layers cut off, kernel.
LAYERS = {
    "conv_0": (40, 1, 0, (20, 8, 1, 64)),
    "conv_1": (11, 64, 19, (10, 4, 64, 64)),
}
AXES = ("NHWC", "HWIO", "NHWC")
AS_WRITTEN = "as written"
TOLERANCE = 1e-3  # a kernel's gradient sums millions of products, in another order
REPEATS = 5


def benchmark(settings: Settings) -> Result:
    """Verify, time and count every product of both layers."""
    notes: list[str] = []
    batch = QUICK_BATCH if settings.quick else PAPER_BATCH
    peer = pytorch.import_torch(settings, notes)
    sides: dict[str, Side] = {}
    agreement: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for layer, (bands, maps, cut, kernel_shape) in LAYERS.items():
        x = rng.standard_normal((batch, FRAMES - cut, bands, maps)).astype(np.float32)
        kernel = rng.standard_normal(kernel_shape).astype(np.float32)
        upstream = np.asarray(as_written(x, kernel))
        first = layer == "conv_0"
        pays = transforms_pay(x.shape, kernel.shape)
        forms = products(conv_of_block, first=first)
        plain = products(as_written, first=first)
        theirs = torch_products(peer, x, kernel, upstream) if peer else {}
        for product, form in forms.items():
            name = f"{layer}, {product}"
            args = jax.device_put((x, kernel, upstream))
            found = {}
            ways = {name: form}
            if pays:
                ways[f"{name}, {AS_WRITTEN}"] = plain[product]
            for way, function in ways.items():
                program = build(jax.jit(function), *args)
                found[way] = np.asarray(program.run(*args))
                side = Side(
                    program.on(*args),
                    macs=costs.count_macs(as_written, x, kernel),
                    moved=num_bytes((x, kernel, upstream)),
                    base=name,
                )
                sides[way] = side.compiled(program)
                agreement[way] = relative_error(found[way], found[name])
            if peer:
                agreement[name] = relative_error(found[name], theirs[product]())
                sides[f"{name}, {pytorch.EAGER}"] = Side(
                    theirs[product], macs=side.macs, moved=side.moved, base=name
                )
    hold(agreement, TOLERANCE, "the two give other values")
    return result(
        f"convolutions of kws_paper over {batch} streams of 3 s, {settings.threads} threads, "
        f"median of {settings.repeats} in turn",
        settings.asked | {"batch": batch},
        measure(sides, settings.repeats),
        agreement=agreement,
        notes=notes,
    )


def products(
    convolve: Callable[..., jax.Array], *, first: bool
) -> dict[str, Callable[..., jax.Array]]:
    """Name → (x, kernel, gradient of the output) → array, of a convolution."""

    def kernel_gradient(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: convolve(x, kernel), kernel)[1](upstream)[0]

    def input_gradient(x: jax.Array, kernel: jax.Array, upstream: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: convolve(x, kernel), x)[1](upstream)[0]

    found = {
        "forward": lambda x, kernel, upstream: convolve(x, kernel),
        "kernel gradient": kernel_gradient,
    }
    return found if first else found | {"input gradient": input_gradient}


def torch_products(
    peer: pytorch.Peer, x: np.ndarray, kernel: np.ndarray, upstream: np.ndarray
) -> dict[str, Callable[[], np.ndarray]]:
    """The same of PyTorch, in our layouts; theirs is [batch, maps, frames, bands]."""
    torch = peer.torch

    def theirs(array: np.ndarray, *axes: int) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array.transpose(axes))).to(peer.device)

    a, w, g = theirs(x, 0, 3, 1, 2), theirs(kernel, 3, 2, 0, 1), theirs(upstream, 0, 3, 1, 2)
    grad = torch.nn.grad

    def ours(run: Callable[[], Any], *axes: int) -> Callable[[], np.ndarray]:
        # A transposed array is a view: nothing is copied but from an accelerator.
        return lambda: run().cpu().numpy().transpose(axes)

    return {
        "forward": ours(lambda: torch.nn.functional.conv2d(a, w), 0, 2, 3, 1),
        "kernel gradient": ours(lambda: grad.conv2d_weight(a, w.shape, g), 2, 3, 1, 0),
        "input gradient": ours(lambda: grad.conv2d_input(a.shape, w, g), 0, 2, 3, 1),
    }


def as_written(x: Any, kernel: Any) -> jax.Array:
    """XLA's convolution: [B, frames, bands, maps], valid."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=AXES)


def conv_of_block(x: Any, kernel: Any) -> jax.Array:
    """The convolution of the network's blocks."""
    numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, AXES)
    return conv(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return entry.main(__doc__ or "", NAME, benchmark, argv, repeats=REPEATS)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
