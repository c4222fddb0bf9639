"""Many hours of audio through one session: does its memory grow, do its steps come late?

    python -m tests.helpers.soak --hours 12 [--engine xla] [--model pretrained:kws]

The audio is noise whose loudness rises and falls like talk, so that all parts of a network run. A
line an hour; at the end the memory's slope, from the second hour on, and the steps that took longer
than the audio between two of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np


def resident() -> int:
    """Bytes that this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def minute(rng: np.random.Generator, rate: int) -> np.ndarray:
    """int16 [60 s]: noise in syllables of a fifth of a second, from near silence to loud."""
    loudness = 10 ** rng.uniform(-4, -1, 300)
    return (
        (rng.normal(size=60 * rate) * np.repeat(loudness, rate // 5) * 32767)
        .clip(-32768, 32767)
        .astype(np.int16)
    )


def main() -> int:
    """The command; status 1 if memory grows by a MiB an hour or more, or a step is late."""
    from experiments.live.engine import runtime_of
    from experiments.machine.jax_setup import prepare_streaming
    from experiments.runs.trained import read_model
    from sanas_jax.streaming.session import Session

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=12)
    parser.add_argument("--engine", choices=["native", "xla"], default="native")
    parser.add_argument("--model", default="pretrained:kws")
    asked = parser.parse_args()
    prepare_streaming()
    model = read_model(asked.model)
    rate, hop = model.info.frontend.sample_rate, model.sanas.hop * model.info.frontend.hop
    session = Session(runtime_of(model, engine=asked.engine), cost_weight=0.1)
    rng = np.random.default_rng(0)
    memory, steps, late = [], 0, 0
    for hour in range(asked.hours):
        times = []
        for _ in range(60):
            samples = minute(rng, rate)
            for at in range(0, len(samples), hop):
                begin = time.perf_counter()
                steps += len(session.push(samples[at : at + hop]))
                times.append(time.perf_counter() - begin)
        late += sum(took > hop / rate for took in times)
        memory.append(resident())
        print(
            f"hour {hour + 1}: {memory[-1] / 2**20:.1f} MiB, {1e6 * np.mean(times):.0f} µs a step, "
            f"99 % {1e6 * np.percentile(times, 99):.0f}, longest {1e3 * max(times):.1f} ms",
            flush=True,
        )
    slope = np.polyfit(range(len(memory) - 1), memory[1:], 1)[0] if len(memory) > 2 else 0.0
    print(f"{steps} steps, {late} late; memory {slope / 1024:+.1f} KiB an hour")
    return int(late > 0 or slope >= 2**20)


if __name__ == "__main__":
    sys.exit(main())
