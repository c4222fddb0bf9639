"""Training steps on data sets of growing size, on the device and sent from the host.

    python -m experiments.benchmarks.loading [--clips 1000,10000,100000] [--json out.json]

Caches of noise are written to a temporary folder (3.2 GB for 100,000 clips of a second). A run is
ten steps of kws_modern with everything on, batches drawn as in training: from clips on the device,
or from clips that stay in the mapped file and are sent ahead of each step. Both draw the same
batches. Notes say how long a cache takes to open, and its clips to reach the device.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from data_prep.speech.cache import (
    CLIP_SAMPLES,
    MEL_SHAPE,
    SPLITS,
    CacheRow,
    open_cache,
    write_cache,
)
from experiments.benchmarks.day.loop_steps import first_batch, make_dispatches
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure
from experiments.benchmarks.harness.records import Result, result, table
from experiments.config import Config, DataConfig, load_config, override
from experiments.config.build import Training, build_training
from experiments.datasets.speech import AudioSource
from sanas_jax.data.mix_settings import MixSettings

__all__ = ["benchmark", "main", "table"]

NAME = "loading"
CONFIG = Path(__file__).parents[1] / "configs" / "kws_modern.py"
CLASSES = ("_silence_", "_unknown_", "yes", "no")
CLIPS, QUICK_CLIPS = (1_000, 10_000, 100_000), (100, 200)
STEPS, QUICK_STEPS = 10, 1
REPEATS = 3


def benchmark(settings: Settings, clips: Sequence[int]) -> Result:
    """Seconds of so many steps, for each size and place of the clips."""
    config, hooks = load_config(str(CONFIG))
    if settings.quick:
        config = override(config, ["train.batch_size=8"])
    built = build_training(config, len(CLASSES), hooks)
    recipe = built.settings
    assert isinstance(recipe, MixSettings)  # a config of audio
    steps = QUICK_STEPS if settings.quick else STEPS
    sides: dict[str, Side] = {}
    agreement: dict[str, float] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sanas-jax-") as folder:
        for count in clips:
            cache = Path(folder) / f"cache_{count}"
            write_noise(cache, count)
            begin = time.perf_counter()
            open_cache(cache)
            opened = time.perf_counter()
            here, there = (
                AudioSource(DataConfig(cache=str(cache)), limit=limit) for limit in (None, 0)
            )
            notes.append(
                f"{count:,} clips: the cache opens in {opened - begin:.3f} s; both sources, one "
                f"with the clips on the device, in {time.perf_counter() - opened:.2f} s"
            )
            frontend, _ = here.fit(recipe, jax.random.key(0))
            ways = {"on the device": here, "from the host": there}
            drawn = [first_batch(config, built, source, frontend) for source in ways.values()]
            agreement[f"batches of {count:,} clips"] = max(
                float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max())
                for a, b in zip(*map(jax.tree.leaves, drawn), strict=True)
            )
            sides |= {
                f"{count:,} clips {where}": Side(_waited(config, built, source, frontend, steps))
                for where, source in ways.items()
            }
        hold(agreement, 0.0, "clips on the device and from the host give other batches")
        measured = measure(sides, settings.repeats)
    found = result(
        f"{steps} steps of kws_modern, everything on, batch {config.train.batch_size}, "
        f"{settings.threads} threads, median of {settings.repeats} in turn",
        settings.asked | {"steps": steps},
        measured,
        agreement=agreement,
    )
    return found | {"read": notes}


def write_noise(folder: Path, count: int) -> None:
    """A cache of `count` clips of noise, one in ten for validation."""
    rng = np.random.default_rng(0)
    stock = rng.integers(-8000, 8000, (100, CLIP_SAMPLES), np.int16)

    def rows() -> Iterator[CacheRow]:
        for i in tqdm(range(count), desc=f"writing {count:,} clips", unit="clip", disable=None):
            label = i % (len(CLASSES) - 1) + 1
            split = SPLITS.index("validation" if i % 10 > 8 else "training")
            yield CacheRow(stock[i % len(stock)], label, label - 1, split)

    write_cache(
        folder,
        rows(),
        noise=[rng.integers(-8000, 8000, 960_000, np.int16)],
        mel=rng.random(MEL_SHAPE, np.float32),
        classes=CLASSES,
        all_words=("other", "yes", "no"),
        provenance={"sha256": "0" * 64},
    )


def _waited(
    config: Config, built: Training, source: AudioSource, frontend: Any, steps: int
) -> Callable[[], object]:
    """So many steps of a run per call, one in a program, waited for."""
    dispatch = make_dispatches(config, built, source, frontend)
    return lambda: jax.block_until_ready(dispatch(steps))


def shown(found: Result) -> str:
    """The result as text, with what was noted of reading."""
    return "\n".join([table(found), *found["read"]])


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS)
    flags.DEFINE_list("clips", [], "Sizes of the data set, in clips.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    clips: tuple[int, ...] = QUICK_CLIPS if settings.quick else CLIPS
    if values.clips:
        words = command.word_list(values.clips)
        if not all(word.isdigit() and int(word) >= 20 for word in words):
            raise ValueError(f"--clips: expected numbers of at least 20, got {values.clips}")
        clips = tuple(map(int, words))
    entry.run_one(NAME, values, settings, partial(benchmark, settings, clips), shown, training=True)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
