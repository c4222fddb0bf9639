"""Images in the train loop: no streams, so that Γ is a parameter (BSN)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_prep.images.cache import digits_cache, open_image_cache
from experiments.config import DataConfig
from experiments.datasets.source import Teacher
from sanas_jax.data.images import Images, ImageSettings, Pixels, draw_image_rows, take_images
from sanas_jax.sharding import place
from sanas_jax.training import Batch
from sanas_jax.training.terms import class_weights

DIGITS = "digits"


class ImageSource:
    """Images with their labels, or with labels of their pixels (`data.Source`)."""

    input_shape: tuple[int, ...] | None

    streams = False

    def __init__(self, config: DataConfig, mesh: Mesh | None = None) -> None:
        """Open `config.cache` and put its training images on the devices of the mesh."""
        self._mesh = mesh
        cache = digits_cache() if config.cache == DIGITS else open_image_cache(config.cache)
        self.cache = cache
        self.classes = tuple(cache.classes)
        self.sha256 = cache.sha256
        self.input_shape = tuple(cache.images.shape[1:])
        self.training = self.split("training")
        taught = set(np.unique(cache.labels[cache.indices("training")]))
        self.untaught = tuple(c for i, c in enumerate(self.classes) if i not in taught)

    def split(self, name: str) -> Images:
        """The images of "training", "validation" or "testing"."""
        chosen = self.cache.indices(name)
        if not len(chosen):
            raise ValueError(f"expected {name} images in the cache {self.cache.path}, got none")
        arrays = (
            np.asarray(self.cache.images[chosen]),
            np.asarray(self.cache.labels[chosen]),
            self.cache.mean,
            self.cache.std,
        )
        return Images(*(place(array, self._mesh) for array in arrays))

    def fit(self, settings: ImageSettings, key: jax.Array) -> tuple[Pixels, jax.Array]:
        """Normalisation and class weights of the training images."""
        del settings, key
        labels = jnp.asarray(jax.device_get(self.training.labels)).reshape(-1)
        counts = jnp.bincount(labels[labels >= 0], length=len(self.classes))
        return Pixels(self.training.mean, self.training.std), class_weights(counts)

    @staticmethod
    def draw(
        examples: Images,
        frontend: Pixels,
        settings: ImageSettings,
        key: jax.Array,
        rows: jax.Array,
        sent: jax.Array | None = None,
        teacher: Teacher | None = None,
    ) -> Batch:
        """Random images, cropped and flipped."""
        del sent, teacher
        images = dataclasses.replace(examples, mean=frontend.mean, std=frontend.std)
        drawn = draw_image_rows(images, settings, key, rows)
        return Batch(drawn.images, drawn.labels, jnp.ones(len(rows), bool))

    def feed(self, settings: ImageSettings, keys: jax.Array, size: int) -> None:
        """Nothing: all images are on the device."""

    def validation(
        self, frontend: Pixels, settings: ImageSettings, key: jax.Array, size: int, count: int
    ) -> list[Batch]:
        """All validation images, whatever `count`."""
        del settings, key, count
        return self.batches("validation", frontend, size)

    def batches(self, split: str, frontend: Pixels, size: int) -> list[Batch]:
        """A whole split in order, unvaried; the last batch is filled up with masked images."""
        images = dataclasses.replace(self.split(split), mean=frontend.mean, std=frontend.std)
        number, take = len(images.labels), jax.jit(take_images)
        out = []
        for start in range(0, number, size):
            index = np.arange(start, start + size)
            taken = take(images, np.minimum(index, number - 1))
            mask = place(index < number, self._mesh)
            out.append(Batch(taken.images, taken.labels, mask))
        return out
