"""Mixing a batch of streams by the recipe of kws_modern, beside the same in plain NumPy.

    python -m experiments.benchmarks.augmentation [--repeats 20] [--json out.json]

64 streams of 3 s with two words of changed speed and amplitude, noise, labels, from clips of noise.
NumPy mixes item after item in one thread (`numpy_mix`), as a data loader's worker does. Both are
held to mix the same streams from the same random numbers; when they are timed each draws its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.benchmarks.harness.records import Result, result, table
from experiments.benchmarks.peers import numpy_mix
from experiments.benchmarks.peers.numpy_mix import Draws
from experiments.config import load_config
from experiments.config.build import build_training
from sanas_jax.data.choosing import MORE_WORDS, PERTURBATION
from sanas_jax.data.clips import Clips
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.mixing import AudioBatch, draw_batch

__all__ = ["benchmark", "main", "table"]

NAME = "augmentation"
CONFIG = Path(__file__).parents[1] / "configs" / "kws_modern.py"
NUM_CLASSES, NUM_CLIPS, SAMPLES, TRACKS = 12, 2400, 16_000, (960_000, 640_000, 40_000)
SIGNALS, QUICK_SIGNALS = 64, 8
TOLERANCE = 2e-3  # where a sample is read at changed speed, ours knows to a float32
REPEATS = 20


def benchmark(settings: Settings) -> Result:
    """Verify and time."""
    count = QUICK_SIGNALS if settings.quick else SIGNALS
    recipe, clips = kws_modern(), random_clips()
    key = jax.random.key(0)
    program = build(jax.jit(draw_batch, static_argnums=(1, 3)), clips, recipe, key, count)
    keys = iter(jax.random.split(key, settings.repeats + 2))
    batch = program.run(clips, next(keys))
    host = numpy_mix.host_clips(clips)
    agreement = compare_streams(host, recipe, key, count, program.run(clips, key))
    hold(agreement, TOLERANCE, "the two mix other streams")
    rng = np.random.default_rng(0)
    # Of the clips those that are mixed, twice two bytes a sample; of the noise as much as heard.
    read = 2 * count * (recipe.words_per_item * SAMPLES + recipe.max_samples)
    moved = read + num_bytes(batch)
    ours = Side(lambda: jax.block_until_ready(program.run(clips, next(keys))), moved=moved)
    sides = {
        "ours": ours.compiled(program),
        "NumPy": Side(lambda: numpy_mix.draw_batch(host, recipe, rng, count), moved=moved),
    }
    return result(
        f"augmentation: {count} streams of {recipe.max_seconds:g} s, kws_modern's recipe, "
        f"{settings.threads} threads, NumPy one, median of {settings.repeats} in turn",
        settings.asked | {"signals": count, "clips": NUM_CLIPS},
        measure(sides, settings.repeats),
        agreement=agreement,
    )


def kws_modern() -> MixSettings:
    """The recipe of the config, with the windows of its network."""
    config, hooks = load_config(str(CONFIG))
    recipe = build_training(config, NUM_CLASSES, hooks).settings
    assert isinstance(recipe, MixSettings)  # a config of audio
    numpy_mix.check(recipe)
    return recipe


def random_clips() -> Clips:
    """Clips of noise of a second or less, and tracks, one of them shorter than a stream."""
    rng = np.random.default_rng(0)
    return Clips.create(
        rng.integers(-8000, 8000, (NUM_CLIPS, SAMPLES), np.int16),
        rng.integers(SAMPLES // 2, SAMPLES + 1, NUM_CLIPS),
        np.arange(NUM_CLIPS) % (NUM_CLASSES - 1) + 1,
        rng.integers(-8000, 8000, sum(TRACKS), np.int16),
        np.cumsum([0, *TRACKS]),
    )


def compare_streams(
    host: numpy_mix.HostClips, recipe: MixSettings, key: jax.Array, count: int, ours: AudioBatch
) -> dict[str, float]:
    """Errors of a batch of ours against NumPy's from the same numbers.

    Returns:
      {"signals": largest difference of signals, "labels": share of labels and weights that differ}.
    """
    items = [
        numpy_mix.mix_item(host, recipe, draws_of(jax.random.fold_in(key, i), recipe))
        for i in range(count)
    ]
    signals, labels, weights = (np.stack(part) for part in zip(*items, strict=True))
    other = (labels != np.asarray(ours.labels).T) | (weights != np.asarray(ours.weight).T)
    return {
        "signals": float(np.abs(signals - np.asarray(ours.signal)).max()),
        "labels": float(other.mean()),
    }


def draws_of(key: jax.Array, recipe: MixSettings) -> Draws:
    """The numbers that `draw_batch` draws for an item with this key."""
    words = recipe.words_per_item
    uniform = np.asarray(jax.random.uniform(key, (9,)))
    more = np.asarray(jax.random.uniform(jax.random.fold_in(key, MORE_WORDS), (words - 1, 4)))
    varied = np.asarray(jax.random.uniform(jax.random.fold_in(key, PERTURBATION), (2, words)))
    return Draws(
        choices=np.concatenate([uniform[None, :3], more[:, :3]]),
        places=np.concatenate([uniform[4:5], more[:, 3]]),
        noise=uniform[5:9],
        words=varied,
    )


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return entry.main(__doc__ or "", NAME, benchmark, argv, repeats=REPEATS)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
