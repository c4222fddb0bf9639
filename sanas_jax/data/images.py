"""Batches of images, cropped and flipped on the device: a pure function of (images, key).

The recipe is the usual one of CIFAR: zeros around an image, a random crop of its size out of that,
and a mirror image half of the time. Pixels that have labels take them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

VOID = -1  # label of a pixel that belongs to no class


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Images:
    """The images of one split.

    images: [N, H, W, C] uint8
    labels: [N] int32, or [N, H, W] of pixels, where VOID is none of the classes
    mean, std: [C] float32, what pixels are normalised with, where white is 1
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array


@dataclass(frozen=True)
class ImageSettings:
    """How images are varied.

    pad: black pixels added on each side, out of which a crop of the image's own size is taken
    flip: whether half of the images are mirrored, left for right
    """

    pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad: expected 0 or more, got {self.pad}")


class ImageBatch(NamedTuple):
    """Normalised images [B, H, W, C] float32, and their labels [B] or [B, H, W] int32."""

    images: jax.Array
    labels: jax.Array


def draw_images(images: Images, settings: ImageSettings, key: jax.Array, size: int) -> ImageBatch:
    """Draw `size` images, uniformly with replacement, each with a crop and flip of its own.

    Row i depends on (images, settings, key, i) alone, not on `size`. Padding is zeros before
    normalisation, so black, with the label VOID.
    """
    if size < 1:
        raise ValueError(f"size: expected 1 or more, got {size}")
    return draw_image_rows(images, settings, key, jnp.arange(size))


def draw_image_rows(
    images: Images, settings: ImageSettings, key: jax.Array, rows_of_batch: jax.Array
) -> ImageBatch:
    """Some rows [B] of a batch, as `draw_images` draws them."""
    _check(images)
    height, width = images.images.shape[1:3]
    if settings.pad >= min(height, width):
        raise ValueError(f"pad: expected less than {height} × {width}, got {settings.pad}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(
            f"key: expected one typed key (jax.random.key), got {key.dtype} {key.shape}"
        )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows_of_batch)
    # A remainder of 32 bits favours no image by more than N / 2^32.
    bits = jax.vmap(lambda k: jax.random.bits(k, (4,)))(keys)
    index, top, left, mirrored = (
        (bits[:, i] % n).astype(jnp.int32)
        for i, n in enumerate(
            (images.images.shape[0], 2 * settings.pad + 1, 2 * settings.pad + 1, 2)
        )
    )
    rows = jnp.arange(height) + (top - settings.pad)[:, None]
    columns = jnp.arange(width)
    if settings.flip:
        columns = jnp.where(mirrored[:, None] == 1, columns[::-1], columns)
    columns = columns + (left - settings.pad)[:, None]
    pixels = _crop(images.images, index, rows, columns, 0)
    labels = images.labels
    labels = labels[index] if labels.ndim == 1 else _crop(labels, index, rows, columns, VOID)
    return ImageBatch(_normalise(pixels, images), labels)


def take_images(images: Images, indices: jax.Array) -> ImageBatch:
    """The images of indices [B], normalised and unvaried."""
    _check(images)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(f"indices: expected integers [B], got {indices.dtype} {indices.shape}")
    return ImageBatch(_normalise(images.images[indices], images), images.labels[indices])


def _crop(
    array: jax.Array, index: jax.Array, rows: jax.Array, columns: jax.Array, fill: int
) -> jax.Array:
    """Rows [B, H] and columns [B, W] of items [B] of an array [N, H, W, ...], `fill` beyond them.

    One gather out of all items: as fast as slices of padded ones, which it need not make.
    """
    at = array.at[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return at.get(mode="fill", fill_value=fill, wrap_negative_indices=False)


def _normalise(pixels: jax.Array, images: Images) -> jax.Array:
    """uint8 to float32 of mean 0 and deviation 1."""
    return (pixels.astype(jnp.float32) / 255 - images.mean) / images.std


def _check(images: Images) -> None:
    """ValueError unless images, labels and statistics belong together."""
    shape = images.images.shape
    if len(shape) != 4 or not shape[0] or images.images.dtype != jnp.uint8:
        raise ValueError(f"images: expected uint8 [N, H, W, C], got {images.images.dtype} {shape}")
    labels = images.labels
    if labels.shape not in (shape[:1], shape[:3]) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integers {shape[:1]} or {shape[:3]}, "
            f"got {labels.dtype} {labels.shape}"
        )
    for name, value in (("mean", images.mean), ("std", images.std)):
        if value.shape != shape[3:]:
            raise ValueError(f"{name}: expected {shape[3:]}, one per channel, got {value.shape}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pixels:
    """What pixels are normalised with, per channel: in [0, 1] units, [C]."""

    mean: jax.Array
    std: jax.Array
