"""A network's C file on a Cortex-M4F, which QEMU plays: what it takes, whether it hears the same.

    python -m tests.helpers.cortex_m --stream s.wav [--model pretrained:kws] [--cost_weights 0.1,1]

Prints flash, RAM and instructions a decision, on ten seconds of a stream, for weights of float32
and of int8: with all gates off and all on, whatever the controller says, and at a price. Needs
arm-none-eabi-gcc with newlib, and qemu-system-arm. QEMU counts instructions, not cycles: memories
and the pipeline of a chip come on top.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from experiments.live.decisions import Spending
from experiments.live.native import library_of, source_of
from experiments.machine.compiler import FLAGS, compiled
from experiments.runs.detectors import chosen_detector
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.export.c.text import WEIGHTS
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Heard, Session
from tests.helpers.places import ROOT

BOARD = ROOT / "examples" / "cortex_m4"
COMPILER, EMULATOR = "arm-none-eabi-gcc", "qemu-system-arm"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror")
INSTRUCTIONS = 40  # of 1 ns, a tick of the board's timer
SECONDS = 10
PATHS = ("all gates off", "all gates on")


class Played(NamedTuple):
    """Bytes of flash and RAM (data, stack), and all decisions [T] with their instructions."""

    flash: int
    data: int
    stack: int
    decisions: np.ndarray
    instructions: np.ndarray


def missing() -> str:
    """What is not on this machine; "" if all is."""
    return ", ".join(tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None)


def play(source: str, price: float, samples: np.ndarray, folder: Path) -> Played:
    """Run a network, whose names begin with `network`, on int16 samples."""
    (folder / "network.c").write_text(source, encoding="ascii")
    samples.astype("<i2").tofile(folder / "audio.raw")
    call = [COMPILER, *CPU, *FLAGS, *WARNINGS, "-DLANES=1", '-DNETWORK="network.c"', "-I."]
    call += [f"-DPRICE={price!r}f", *(str(BOARD / name) for name in ("start.c", "main.c"))]
    call += ["-T", str(BOARD / "link.ld"), "-nostartfiles", "--specs=nano.specs", "-lm"]
    _run([*call, "-o", "network.elf"], folder)
    sizes = _run(["arm-none-eabi-size", "network.elf"], folder).splitlines()[1].split()
    text, data, bss = map(int, sizes[:3])
    call = [EMULATOR, "-M", "mps2-an386", "-nographic", "-icount", "shift=0"]
    call += ["-semihosting-config", "enable=on,target=native", "-kernel", "network.elf"]
    _run(call, folder)
    found = np.fromfile(folder / "decisions.bin", _layout(source))
    ticks = found["ticks"].astype(np.int64)
    stack = int(found["stack"].max(initial=0))
    return Played(text + data, data + bss, stack, found["result"], INSTRUCTIONS * ticks)


def _run(call: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        call, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise ValueError(f"{call[0]}: {done.stderr.strip()[:2000] or done.returncode}")
    return done.stdout


def _layout(source: str) -> np.dtype[Any]:
    """That of main.c's `out`."""
    classes, edges = (
        int(source.partition(f"#define NETWORK_{name} ")[2].split()[0])
        for name in ("CLASSES", "EDGES")
    )
    result = np.dtype(
        [
            ("posterior", "<f4", classes),
            ("live", "<f4", edges),
            ("gamma", "<f4", edges),
            ("score", "<f4"),
            ("word", "<i4"),
            ("step", "<i4"),
            ("time_ms", "<f8"),
        ],
        align=True,
    )
    return np.dtype([("result", result), ("ticks", "<u4"), ("stack", "<u4")], align=True)


def heard_here(
    source: str, model: TrainedModel, price: float, samples: np.ndarray, detector: Detector
) -> list[Heard]:
    """What the same file says on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = compiled(source, Path(folder))
        session = Session(library_of(model, path), cost_weight=price, detector=detector)
        return session.push(samples)


def differences(decisions: np.ndarray, heard: Sequence[Heard]) -> tuple[int, float]:
    """Decisions that differ in words, edges or time, and the most that a posterior does."""
    different = abs(len(decisions) - len(heard))
    furthest = 0.0
    for one, other in zip(decisions, heard, strict=False):
        word = -1 if other.detection is None else other.detection.label
        same = one["word"] == word and one["time_ms"] == other.time_ms
        different += not (same and np.array_equal(one["live"], other.live))
        furthest = max(furthest, float(np.abs(one["posterior"] - other.posterior).max()))
    return different, furthest


def all_gates(params: dict[str, Any], on: bool) -> dict[str, Any]:
    """Parameters of a controller that always says the same."""
    changed = copy.deepcopy(params)
    head = changed["controller"]["head"]
    head["kernel"] = 0 * np.asarray(head["kernel"])
    head["bias"] = np.full_like(np.asarray(head["bias"]), 50.0 if on else -50.0)
    return changed


def table(
    model: TrainedModel, prices: Sequence[float], samples: np.ndarray
) -> tuple[list[str], int]:
    """Lines of the table, and how many decisions differ from this machine's."""
    told = {f"λ = {price:g}": (price, model.params) for price in prices}
    if not model.static:
        always = {name: all_gates(model.params, name == PATHS[1]) for name in PATHS}
        told |= {name: (prices[0], params) for name, params in always.items()}
    lines, wrong = [], 0
    for weights in WEIGHTS:
        for path, (price, params) in told.items():
            detector = chosen_detector(model, price if model.conditioned else None, None)
            source = source_of(replace(model, params=params), detector, weights=weights)
            heard = heard_here(source, model, price, samples, detector)
            with tempfile.TemporaryDirectory() as folder:
                played = play(source, price, samples, Path(folder))
            different, furthest = differences(played.decisions, heard)
            wrong += different
            spending = Spending(model)
            # The first decision computes a whole window.
            macs = np.mean([spending.add(one["live"]) for one in played.decisions][1:])
            count = np.mean(played.instructions[1:])
            lines.append(
                f"{weights:8} {path:13} flash {played.flash / 1000:6.0f} kB, RAM "
                f"{(played.data + played.stack) / 1000:.0f} kB (stack {played.stack / 1000:.1f}); "
                f"{macs / 1e6:.3f}M MACs, {count / 1e6:.2f}M instructions a decision, the most "
                f"{played.instructions.max() / 1e6:.2f}M; {different} of {len(heard)} decisions "
                f"differ, posteriors by {furthest:.0e}"
            )
    return lines, wrong


def main() -> int:
    """The command; status 1 if a decision differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pretrained:kws")
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--cost_weights", default="0.1")
    asked = parser.parse_args()
    if missing():
        print(f"not here: {missing()}", file=sys.stderr)
        return 1
    model = read_model(asked.model)
    rate = model.info.frontend.sample_rate
    samples, found = soundfile.read(asked.stream, dtype="int16", frames=SECONDS * rate)
    if found != rate or samples.ndim != 1:
        raise ValueError(
            f"--stream: expected one channel at {rate} Hz, got {samples.shape}, {found}"
        )
    prices = [float(word) for word in asked.cost_weights.split(",")]
    lines, wrong = table(model, prices, samples)
    print("\n".join(lines))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
