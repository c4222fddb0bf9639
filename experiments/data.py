"""From a cache folder to arrays on the device, and to the batches that a network takes.

A `Source` hides what kind of data a run has: clips of speech, mixed into streams on the device, or
images, each a stream of one step.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.cache import Cache, open_cache
from experiments.config import DataConfig, choose
from sanas_jax.augment import AudioBatch, draw_batch
from sanas_jax.clips import Clips
from sanas_jax.features import Frontend, extract, fit_normaliser
from sanas_jax.mix_settings import MixSettings
from sanas_jax.objectives import class_weights
from sanas_jax.spec_augment import spec_augment
from sanas_jax.training import Batch

STATISTICS_BATCHES, STATISTICS_SIZE = 8, 64
# Folded into the key of a batch for its masks; rows of the batch have the numbers from 0 on.
MASKS = 2**32 - 1


class Source(Protocol):
    """A prepared data set.

    Fields:
      classes: their names.
      sha256: fingerprint of the examples.
      training: what training batches are drawn from, on the device.
    """

    classes: tuple[str, ...]
    sha256: str
    training: Any

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one image; None for audio, whose windows the network chooses."""
        ...

    def fit(self, settings: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        """What signals become features with, and class weights [K]."""
        ...

    @staticmethod
    def draw(examples: Any, frontend: Any, settings: Any, key: jax.Array, size: int) -> Batch:
        """A random training batch; a pure function of arrays and static `settings`, `size`."""
        ...

    def validation(
        self, frontend: Any, settings: Any, key: jax.Array, size: int, count: int
    ) -> list[Batch]:
        """The batches of every validation."""
        ...


class AudioSource:
    """Clips of speech; their batches are streams (`Source`)."""

    input_shape: tuple[int, ...] | None = None

    def __init__(self, config: DataConfig) -> None:
        """Open `config.cache` and put its training clips on the device."""
        self._config = config
        self.cache = open_cache(config.cache)
        self.classes = tuple(self.cache.classes)
        provenance = json.loads((Path(config.cache) / "provenance.json").read_text())
        self.sha256 = str(provenance["sha256"])
        self.training = split_clips(self.cache, "training")
        self._validation = split_clips(self.cache, "validation")

    @staticmethod
    def draw(
        examples: Clips, frontend: Frontend, settings: MixSettings, key: jax.Array, size: int
    ) -> Batch:
        """Streams mixed from random clips and noise, masked where `settings` ask for it."""
        batch = features(frontend, draw_batch(examples, settings, key, size))
        masked = spec_augment(
            batch.features,
            jax.random.fold_in(key, MASKS),
            time_masks=settings.time_masks,
            time_mask_frames=settings.time_mask_frames,
            frequency_masks=settings.frequency_masks,
            frequency_mask_bins=settings.frequency_mask_bins,
        )
        return batch._replace(features=masked)

    def validation(
        self, frontend: Frontend, settings: MixSettings, key: jax.Array, size: int, count: int
    ) -> list[Batch]:
        """`count` batches of streams mixed from the validation clips, as they are."""
        settings = settings.unperturbed()
        draw = jax.jit(lambda clips, own, k: self.draw(clips, own, settings, k, size))
        return [draw(self._validation, frontend, k) for k in jax.random.split(key, count)]

    def fit(self, settings: MixSettings, key: jax.Array) -> tuple[Frontend, jax.Array]:
        """Frontend and class weights, from a few training batches drawn with a key of their own.

        Their clips are not perturbed, since these are the statistics of what is listened to later.
        """
        settings = settings.unperturbed()
        spec = self.cache.frontend
        plain = Frontend.create(
            np.asarray(self.cache.mel),
            n_fft=spec["n_fft"],
            hop=spec["hop"],
            sample_rate=spec["sample_rate"],
            padding=self._config.padding,
            cepstral=is_cepstral(self._config),
        )

        @jax.jit
        def draw(clips: Clips, key: jax.Array) -> Batch:
            return self.draw(clips, plain, settings, key, STATISTICS_SIZE)

        keys = jax.random.split(key, STATISTICS_BATCHES)
        batches = [draw(self.training, k) for k in keys]
        labels = jnp.concatenate([b.labels[b.mask] for b in batches])
        counts = jnp.bincount(labels, length=len(self.classes))
        if not self._config.normalize:
            return plain, class_weights(counts)
        values = jnp.concatenate([b.features[..., 0] for b in batches])
        heard = jnp.concatenate([_frame_mask(b, settings) for b in batches])
        mean, std = fit_normaliser(values, heard)
        return dataclasses.replace(plain, mean=mean, std=std), class_weights(counts)


def is_cepstral(config: DataConfig) -> bool:
    """Whether the features that a config names are MFCC."""
    return choose("data.features", config.features, {"mfcc": True, "log-mel": False})


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
    values = extract(frontend, audio.signal)[..., None]
    return Batch(values, audio.labels, audio.mask, audio.weight)


def _frame_mask(batch: Batch, mix: MixSettings) -> jax.Array:
    """Frames [B, frames] that lie in a valid window."""
    steps = batch.mask.sum(0)[:, None]
    ends = jnp.where(steps > 0, (steps - 1) * mix.hop_frames + mix.window, 0)
    return jnp.arange(batch.features.shape[1]) < ends
