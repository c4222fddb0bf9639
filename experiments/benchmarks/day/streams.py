"""Evaluation: many prices over hours of streams, in one pass."""

from __future__ import annotations

import time

import jax
import numpy as np

from data_prep.speech.cache import FRONTEND, MEL_SHAPE
from experiments.benchmarks.day.results import Line, Teller
from experiments.benchmarks.day.scale import Scale
from experiments.benchmarks.day.steps import PAPER
from experiments.benchmarks.day.training_step import NUM_CLASSES
from experiments.benchmarks.harness.programs import device_peak_bytes
from experiments.config import load_config, override
from experiments.config.model import build_model, prices_of
from experiments.evaluation.stream_inference import run_group
from sanas_jax.data.features import Frontend
from sanas_jax.rollout import init_model

HOUR = 3600.0


def evaluation(scale: Scale, tell: Teller) -> None:
    """kws_paper, told its price, over noise: all prices share the trunk."""
    hours = scale.streams * scale.stream_seconds / HOUR
    config, hooks = load_config(str(PAPER))
    config = override(config, [*scale.changes, "model.conditioned=true"])
    prices = prices_of(config)

    def find() -> Line:
        model = build_model(config, NUM_CLASSES, hooks)
        rng = np.random.default_rng(0)
        rate = FRONTEND["sample_rate"]
        own = (
            init_model(model, jax.random.key(0)),
            Frontend.create(rng.random(MEL_SHAPE, np.float32), sample_rate=rate),
        )
        # A minute of noise again and again: what is computed does not depend on it.
        minute = rng.uniform(-0.5, 0.5, int(60 * rate)).astype(np.float32)
        signals = [np.resize(minute, int(scale.stream_seconds * rate))] * scale.streams
        begin = time.perf_counter()
        out = run_group(model, False, [own], prices, signals)
        whole = time.perf_counter() - begin
        frames = sum(len(posteriors) for posteriors in out.posteriors[0][0])
        seconds = out.ms_per_frame * frames * len(prices) / 1000
        return {
            "seconds": seconds,
            "compile_seconds": whole - seconds,
            "hours_per_second": hours / seconds,
            "seconds_for_5_hours": whole - seconds + seconds * 5 / hours,
            "ms_per_frame": out.ms_per_frame,
            "device_peak_bytes": device_peak_bytes(),
        }

    tell(f"{len(prices)} prices, {hours:.3g} h", find)
