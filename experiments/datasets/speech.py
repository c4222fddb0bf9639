"""From a cache folder to arrays on the device, and to the batches that a network takes.

A `Source` hides what kind of data a run has: clips of speech, mixed into streams on the device, or
images, each a stream of one step. Clips that are too many for the device stay on disk, mapped into
memory; those of a batch are sent when it is drawn, and the batch is the same but for rounding.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_prep.speech.cache import Cache, fingerprint, open_cache
from data_prep.speech.dealt import dealt
from experiments.config import DataConfig, features_of
from experiments.datasets.negatives import open_tracks
from experiments.datasets.source import Teacher
from experiments.machine.execution import on_cpu
from sanas_jax.data.clips import SILENCE, UNKNOWN, Clips
from sanas_jax.data.features import Frontend, extract, fit_normaliser
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.data.mixing import AudioBatch, chosen_clips, draw_rows
from sanas_jax.data.recipe import Recipe
from sanas_jax.data.variation import spec_augment
from sanas_jax.sharding import DATA, place
from sanas_jax.training import Batch
from sanas_jax.training.terms import class_weights

STATISTICS_BATCHES, STATISTICS_SIZE = 8, 64
# Folded into the key of a batch for its masks; rows of the batch have the numbers from 0 on.
MASKS = 2**32 - 1


class Split(NamedTuple):
    """Clips of one split.

    Fields:
      clips: on the device; without samples if these stay on the host.
      cache: of all splits.
      rows: of the cache [N].
      on_host: those clips, for what is chosen on the host; None if nothing is.
    """

    clips: Clips
    cache: Cache
    rows: np.ndarray
    on_host: Clips | None


class AudioSource:
    """Clips of speech; their batches are streams (`Source`)."""

    input_shape: tuple[int, ...] | None = None

    def __init__(
        self, config: DataConfig, mesh: Mesh | None = None, limit: float | None = None
    ) -> None:
        """Open `config.cache` and put its training clips on the device.

        Args:
          config: of the data.
          mesh: where the clips go.
          limit: bytes for training and validation clips on a device; beyond, they stay on the host.
        """
        self._config = config
        self._mesh = mesh
        self.cache = open_cache(config.cache)
        self.classes = tuple(self.cache.classes)
        files = fingerprint(Path(config.cache))
        if not files:
            raise ValueError(
                f"{config.cache}: expected provenance.json with the fingerprint of the clips, got "
                "none: prepare it again"
            )
        self.sha256 = f"{files}-{dealt(self.cache)}"
        clip_bytes = self.cache.samples.dtype.itemsize * self.cache.samples.shape[1]
        needed = clip_bytes * sum(
            len(self.cache.indices(name)) for name in ("training", "validation")
        )
        self.streams = limit is not None and needed > limit
        self._training, self._validation = (
            open_split(self.cache, name, mesh, on_host=self.streams, recipe=config)
            for name in ("training", "validation")
        )
        self.training = self._training.clips
        taught = {SILENCE, *np.unique(self.cache.labels[self._training.rows])}
        if config.negative_speech and config.negative_label == "unknown":
            taught.add(UNKNOWN)
        self.untaught = tuple(c for i, c in enumerate(self.classes) if i not in taught)

    @staticmethod
    def draw(
        examples: Clips,
        frontend: Frontend,
        settings: MixSettings,
        key: jax.Array,
        rows: jax.Array,
        sent: jax.Array | None = None,
        teacher: Teacher | None = None,
    ) -> Batch:
        """Streams mixed from random clips and noise, masked where `settings` ask for it.

        A teacher hears them without masks.
        """
        audio = draw_rows(examples, settings, key, rows, sent)
        batch = features(frontend, audio)
        masked = spec_augment(
            batch.features,
            jax.random.fold_in(key, MASKS),
            time_masks=settings.time_masks,
            time_mask_frames=settings.time_mask_frames,
            frequency_masks=settings.frequency_masks,
            frequency_mask_bins=settings.frequency_mask_bins,
            rows=rows,
        )
        taught = None if teacher is None else teacher(audio.signal)
        return batch._replace(features=masked, taught=taught)

    def feed(self, settings: MixSettings, keys: jax.Array, size: int) -> jax.Array | None:
        """int16 [K, size, words, S]: each process reads what its own devices are to have."""
        return send(self._training, settings, keys, size, self._mesh, DATA)

    def validation(
        self, frontend: Frontend, settings: MixSettings, key: jax.Array, size: int, count: int
    ) -> list[Batch]:
        """`count` batches of streams mixed from the validation clips, as they are."""
        keys = jax.random.split(key, count)
        return self._draw_all(self._validation, frontend, settings.unperturbed(), keys, size)

    def _draw_all(
        self, split: Split, frontend: Frontend, settings: MixSettings, keys: jax.Array, size: int
    ) -> list[Batch]:
        """The batches of keys [K], each drawn whole."""

        @jax.jit
        def draw(clips: Clips, frontend: Frontend, key: jax.Array, sent: jax.Array | None) -> Batch:
            one = None if sent is None else sent[0]
            return self.draw(clips, frontend, settings, key, jnp.arange(size), one)

        frontend = place(frontend, self._mesh)
        out = []
        for key in keys:
            sent = send(split, settings, key[None], size, self._mesh)
            out.append(draw(split.clips, frontend, place(key, self._mesh), sent))
        return out

    def fit(self, settings: MixSettings, key: jax.Array) -> tuple[Frontend, jax.Array]:
        """Frontend and class weights, from a few training batches drawn with a key of their own.

        Their clips are not perturbed, since these are the statistics of what is listened to later.
        """
        settings = settings.unperturbed()
        spec, kind = self.cache.frontend, features_of(self._config)
        plain = Frontend.create(
            np.asarray(self.cache.mel),
            n_fft=spec["n_fft"],
            hop=spec["hop"],
            sample_rate=spec["sample_rate"],
            padding=self._config.padding,
            cepstral=kind["cepstral"],
        )

        keys = jax.random.split(key, STATISTICS_BATCHES)
        batches = self._draw_all(self._training, plain, settings, keys, STATISTICS_SIZE)
        batches = jax.tree.map(jnp.asarray, jax.device_get(batches))
        labels = jnp.concatenate([b.labels[b.mask] for b in batches])
        counts = jnp.bincount(labels, length=len(self.classes))
        if not self._config.normalize:
            return dataclasses.replace(plain, raw=kind["raw"]), class_weights(counts)
        values = jnp.concatenate([b.features[..., 0] for b in batches])
        heard = jnp.concatenate([_frame_mask(b, settings) for b in batches])
        mean, std = fit_normaliser(values, heard)
        fitted = dataclasses.replace(plain, mean=mean, std=std, raw=kind["raw"])
        return fitted, class_weights(counts)


def open_split(
    cache: Cache,
    name: str,
    mesh: Mesh | None = None,
    *,
    on_host: bool = False,
    recipe: Recipe | None = None,
) -> Split:
    """The clips of one split, with noise tracks and the negatives that a recipe draws from.

    Raises ValueError if there are no clips, or not those negatives.
    """
    rows = cache.indices(name)
    if not len(rows):
        raise ValueError(f"expected {name} clips in the cache {cache.path}, got none")
    if len(cache.noise) >= 2**31:  # places in it are drawn in 32 bits
        raise ValueError(
            f"expected less than 2^31 samples (37 h) of noise in {cache.path}, got "
            f"{len(cache.noise):,}"
        )
    shape = (len(rows), cache.samples.shape[1])
    # Samples that stay where they are need not be read now.
    samples = np.broadcast_to(np.int16(0), shape) if on_host else np.asarray(cache.samples[rows])
    make = partial(
        Clips.create,
        samples,
        np.asarray(cache.lengths[rows]),
        np.asarray(cache.labels[rows]),
        with_samples=not on_host,
    )
    put = partial(place, mesh=mesh)
    noise = np.asarray(cache.noise), np.asarray(cache.noise_bounds)
    negatives = None if recipe is None else open_tracks(cache, name, recipe, mesh)
    clips = make(*noise, negatives=negatives, put=put)
    return Split(clips, cache, rows, make(put=np.asarray) if on_host else None)


def send(
    split: Split,
    settings: MixSettings,
    keys: jax.Array,
    size: int,
    mesh: Mesh | None,
    axis: str | None = None,
) -> jax.Array | None:
    """The clips of batches on their way to the device: int16 [K, size, words, S].

    Args:
      split: what is drawn from; None is sent of one that is on the device.
      settings: how batches are drawn.
      keys: of the batches [K].
      size: rows of a batch.
      mesh: of the devices.
      axis: of the mesh, along which rows are split; None: every device gets all.
    """
    if split.on_host is None:
        return None
    with on_cpu():
        words = np.asarray(_choose(split.on_host, settings, keys, size))
    numbers = split.rows[words]
    samples = split.cache.samples

    @lru_cache  # devices that have the same rows ask one after the other
    def read_rows(start: int, stop: int) -> np.ndarray:
        return np.asarray(samples[numbers[:, start:stop]])

    def read(index: Any) -> np.ndarray:
        return read_rows(*index[1].indices(size)[:2])

    if mesh is None:
        return jnp.asarray(read_rows(0, size))
    sharding = NamedSharding(mesh, PartitionSpec(None, axis))
    return jax.make_array_from_callback((*numbers.shape, samples.shape[1]), sharding, read)


@partial(jax.jit, static_argnums=(1, 3))
def _choose(index: Clips, settings: MixSettings, keys: jax.Array, size: int) -> jax.Array:
    """Numbers of clips [K, size, words] in batches of keys [K]."""
    choose = partial(chosen_clips, index, settings)
    return jax.vmap(lambda key: choose(key, jnp.arange(size)))(keys)


def features(frontend: Frontend, audio: AudioBatch) -> Batch:
    """A batch of signals as the network takes it: [B, frames, 40, 1], or rows of samples."""
    values = extract(frontend, audio.signal)[..., None]
    return Batch(values, audio.labels, audio.mask, audio.weight)


def _frame_mask(batch: Batch, mix: MixSettings) -> jax.Array:
    """Frames [B, frames] that lie in a valid window."""
    steps = batch.mask.sum(0)[:, None]
    ends = jnp.where(steps > 0, (steps - 1) * mix.hop_frames + mix.window, 0)
    return jnp.arange(batch.features.shape[1]) < ends
