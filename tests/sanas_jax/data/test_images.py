"""Drawing of images: against a loop in NumPy, and the laws of the draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.data.images import VOID, Images, ImageSettings, draw_images, take_images

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
N, H, W, C = 5, 4, 6, 3
PIXELS = RNG.integers(1, 256, (N, H, W, C)).astype(np.uint8)  # 0 is padding
draw = jax.jit(draw_images, static_argnums=(1, 3))


@pytest.fixture(scope="module")
def images():
    """Images whose labels are their numbers; black is 0 after normalisation by these."""
    labels = jnp.arange(N, dtype=jnp.int32)
    return Images(jnp.asarray(PIXELS), labels, jnp.zeros(C), jnp.ones(C))


@pytest.fixture(scope="module")
def parts(images):
    """The same with labels of pixels that tell where each comes from."""
    return replace(images, labels=jnp.arange(N * H * W, dtype=jnp.int32).reshape(N, H, W))


def crops(pad, flip):
    """All that can be drawn, {(image, top, left, mirrored): uint8 [H, W, C]}."""
    padded = np.pad(PIXELS, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    out = {}
    for i in range(N):
        for top in range(2 * pad + 1):
            for left in range(2 * pad + 1):
                crop = padded[i, top : top + H, left : left + W]
                out[i, top, left, False] = crop
                if flip:
                    out[i, top, left, True] = crop[:, ::-1]
    return out


@pytest.mark.parametrize(("pad", "flip"), [(0, False), (0, True), (2, False), (1, True)])
def test_draw_images_draws_every_crop_and_flip_as_often(images, pad, flip):
    possible = crops(pad, flip)
    size = 100 * len(possible)
    batch = draw(images, ImageSettings(pad, flip), KEY, size)
    assert batch.images.dtype == jnp.float32
    assert batch.images.shape == (size, H, W, C)
    seen = dict.fromkeys(possible, 0)
    name = {crop.tobytes(): key for key, crop in possible.items()}
    assert len(name) == len(possible)
    drawn = np.rint(np.asarray(batch.images) * 255).astype(np.uint8)
    for crop, label in zip(drawn, np.asarray(batch.labels), strict=True):
        key = name[crop.tobytes()]
        assert key[0] == label
        seen[key] += 1
    counts = np.array(list(seen.values()))
    # 100 expected of each: six deviations of a binomial.
    assert abs(counts - 100).max() < 60
    # Pearson's statistic has mean n and deviation √2n.
    chi2, freedom = ((counts - 100) ** 2 / 100).sum(), len(counts) - 1
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)


def test_draw_images_moves_labels_of_pixels_along(parts):
    batch = draw(parts, ImageSettings(2, True), KEY, 500)
    drawn = np.rint(np.asarray(batch.images) * 255).astype(np.uint8)
    labels = np.asarray(batch.labels)
    assert labels.shape == (500, H, W)
    assert labels.dtype == np.int32
    inside = labels >= 0
    assert (labels[~inside] == VOID).all()
    assert not drawn[~inside].any()
    np.testing.assert_array_equal(drawn[inside], PIXELS.reshape(-1, C)[labels[inside]])
    steps = np.diff(labels, axis=2)[inside[..., 1:] & inside[..., :-1]]
    assert set(steps.tolist()) == {-1, 1}


def test_draw_images_normalises_after_padding():
    mean, std = jnp.array([0.5, 0.2, 0.1]), jnp.array([0.25, 2.0, 1.0])
    images = Images(jnp.full((1, 3, 3, 3), 255, jnp.uint8), jnp.zeros(1, jnp.int32), mean, std)
    batch = draw(images, ImageSettings(pad=1), KEY, 50)
    white, black = (1 - mean) / std, -mean / std
    is_white = np.isclose(batch.images, white).all(-1)
    is_black = np.isclose(batch.images, black).all(-1)
    assert (is_white ^ is_black).all()
    assert is_white.any()
    assert is_black.any()


def test_draw_images_is_a_function_of_the_key_and_the_row(images):
    settings = ImageSettings(2, True)
    batch = draw(images, settings, KEY, 40)
    again = draw_images(images, settings, KEY, 40)
    fewer = draw(images, settings, KEY, 7)
    other = draw(images, settings, jax.random.key(4), 40)
    np.testing.assert_allclose(batch.images, again.images, atol=1e-7)
    np.testing.assert_array_equal(batch.labels, again.labels)
    np.testing.assert_allclose(batch.images[:7], fewer.images, atol=1e-7)
    assert (batch.labels != other.labels).any()


def test_draw_images_vmaps_over_keys_and_images(images):
    settings = ImageSettings(1, True)
    keys = jax.random.split(KEY, 3)
    batched = jax.jit(jax.vmap(lambda k: draw_images(images, settings, k, 8)))(keys)
    for i, key in enumerate(keys):
        single = draw(images, settings, key, 8)
        np.testing.assert_allclose(batched.images[i], single.images, atol=1e-7)
        np.testing.assert_array_equal(batched.labels[i], single.labels)
    two = jax.tree.map(lambda a, b: jnp.stack([a, b]), images, replace(images, mean=images.std))
    both = jax.vmap(lambda one: draw_images(one, settings, KEY, 8))(two)
    np.testing.assert_allclose(both.images[1], both.images[0] - 1, atol=1e-6)


def test_take_images_are_unvaried(images, parts):
    index = jnp.array([4, 0, 4])
    for source in (images, parts):
        batch = jax.jit(take_images)(source, index)
        np.testing.assert_allclose(batch.images, PIXELS[index] / 255, atol=1e-6)
        np.testing.assert_array_equal(batch.labels, source.labels[index])


def test_bad_input_raises(images):
    with pytest.raises(ValueError, match="pad: expected 0 or more, got -1"):
        ImageSettings(-1)
    plain = ImageSettings()
    for changed, settings, key, size, message in [
        (images, plain, KEY, 0, "size: expected 1 or more"),
        (images, ImageSettings(4), KEY, 1, "pad: expected less than 4 × 6, got 4"),
        (images, plain, jax.random.split(KEY), 1, "key: expected one typed key"),
        (images, plain, jnp.zeros(2, jnp.uint32), 1, "key: expected one typed key"),
        (replace(images, images=images.images / 255), plain, KEY, 1, "images: expected uint8"),
        (replace(images, images=images.images[:0]), plain, KEY, 1, "images: expected uint8"),
        (replace(images, labels=images.labels[1:]), plain, KEY, 1, "labels: expected integers"),
        (replace(images, labels=images.labels * 1.0), plain, KEY, 1, "labels: expected integers"),
        (replace(images, mean=jnp.zeros(1)), plain, KEY, 1, "mean: expected"),
        (replace(images, std=jnp.ones(())), plain, KEY, 1, "std: expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            draw_images(changed, settings, key, size)
    for index in (jnp.zeros(()), jnp.zeros(2), jnp.zeros((1, 1), jnp.int32)):
        with pytest.raises(ValueError, match="indices: expected integers"):
            take_images(images, index)
