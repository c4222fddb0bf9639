"""From a cache folder to arrays on the device: clips, features, class weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.cache import Cache, open_cache
from experiments.config import DataConfig
from sanas_jax.augment import AudioBatch, Clips, MixSettings, draw_batch
from sanas_jax.features import Frontend, fit_normaliser, mfcc
from sanas_jax.objectives import class_weights
from sanas_jax.training import Batch

STATISTICS_BATCHES, STATISTICS_SIZE = 8, 64


class Data(NamedTuple):
    """A prepared data set: its classes and fingerprint, clips of two splits on the device."""

    classes: tuple[str, ...]
    sha256: str
    training: Clips
    validation: Clips
    cache: Cache


def load(config: DataConfig) -> Data:
    """Open `config.cache` and put its training and validation clips on the device."""
    cache = open_cache(config.cache)
    provenance = json.loads((Path(config.cache) / "provenance.json").read_text())
    return Data(
        tuple(cache.classes),
        str(provenance["sha256"]),
        split_clips(cache, "training"),
        split_clips(cache, "validation"),
        cache,
    )


def split_clips(cache: Cache, split: str) -> Clips:
    """The clips of one split, with the noise tracks."""
    chosen = cache.indices(split)
    if not len(chosen):
        raise ValueError(f"expected {split} clips in the cache {cache.path}, got none")
    return Clips.create(
        np.asarray(cache.samples[chosen]),
        np.asarray(cache.lengths[chosen]),
        np.asarray(cache.labels[chosen]),
        np.asarray(cache.noise),
        np.asarray(cache.noise_bounds),
    )


def features(frontend: Frontend, audio: AudioBatch) -> Batch:
    """A batch of signals as the network takes it: [B, frames, 40, 1]."""
    return Batch(mfcc(frontend, audio.signal)[..., None], audio.labels, audio.mask)


def fit_frontend(
    config: DataConfig, data: Data, mix: MixSettings, key: jax.Array
) -> tuple[Frontend, jax.Array]:
    """Frontend and class weights, from a few training batches drawn with a key of their own."""
    spec = data.cache.frontend
    plain = Frontend.create(
        np.asarray(data.cache.mel),
        n_fft=spec["n_fft"],
        hop=spec["hop"],
        sample_rate=spec["sample_rate"],
        padding=config.padding,
    )

    @jax.jit
    def draw(clips: Clips, key: jax.Array) -> Batch:
        return features(plain, draw_batch(clips, mix, key, STATISTICS_SIZE))

    keys = jax.random.split(key, STATISTICS_BATCHES)
    batches = [draw(data.training, k) for k in keys]
    labels = jnp.concatenate([b.labels[b.mask] for b in batches])
    counts = jnp.bincount(labels, length=len(data.classes))
    if not config.normalize:
        return plain, class_weights(counts)
    values = jnp.concatenate([b.features[..., 0] for b in batches])
    heard = jnp.concatenate([_frame_mask(b, mix) for b in batches])
    mean, std = fit_normaliser(values, heard)
    return dataclasses.replace(plain, mean=mean, std=std), class_weights(counts)


def _frame_mask(batch: Batch, mix: MixSettings) -> jax.Array:
    """Frames [B, frames] that lie in a valid window."""
    steps = batch.mask.sum(0)[:, None]
    ends = jnp.where(steps > 0, (steps - 1) * mix.hop_frames + mix.window, 0)
    return jnp.arange(batch.features.shape[1]) < ends
