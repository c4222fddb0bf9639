"""Google's speech embedding, trained on for one's own words: a teacher for smaller networks.

A config file whose network is of its own: a front end and convolutions that begin with published
weights (Lin et al., ICASSP 2020, arXiv:2002.01322; Apache 2.0), and a head that begins anew. The
weights come in the wheel of openwakeword 0.4.0, of which nothing else is needed:

    pip install '.[onnx]' && pip install --no-deps openwakeword==0.4.0
    python -m experiments.launch --config examples/speech_embedding.py --data cache \
        --workdir runs/teacher
    python -m experiments.launch --config experiments/configs/kws_modern.py --data cache --trust \
        --set train.teacher=runs/teacher --workdir runs/taught

86M MACs a window, a third of them for the bands: 37 times those of what it teaches. Windows are not
shared along a stream (its rows are 80 ms apart, decisions 200 ms), so it is trained on items of
little more than one. Whoever uses a network of this file needs the wheel, and the file (`--trust`).
"""

import dataclasses
import hashlib
import importlib.util
from functools import lru_cache, partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import sanas_jax as sj
from experiments.config import Config, ModelConfig
from experiments.configs import kws_modern

# Rows of samples in a window, as other networks on samples have them, and samples of a frame.
ROWS, HOP, FRAME = 103, 160, 512
# After the first convolution: channels, convolutions, and how many rows are pooled into one.
STAGES = ((24, 2, 2), (48, 4, 1), (72, 4, 2), (96, 4, 1), (96, 4, 2))
FROZEN = 2  # stages that stay as published: half of their arithmetic, without gradients
# Of the files, which are part of every network that begins with them.
SHA256 = {
    "melspectrogram": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model": "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
}
SIZE, WIDTH = 96, 256


@lru_cache
def published(file: str) -> list[list[np.ndarray]]:
    """Weights of a file's operators that have some, in order."""
    import onnx

    package = importlib.util.find_spec("openwakeword")
    places = package.submodule_search_locations if package else None
    path = Path(places[0] if places else "openwakeword") / f"resources/models/{file}.onnx"
    if not path.is_file():
        raise ValueError(
            f"{path}: expected the package openwakeword 0.4.0, whose wheel has its models, got none"
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[file]:
        raise ValueError(f"{path}: expected that of openwakeword 0.4.0, got another ({found})")
    graph = onnx.load_from_string(content).graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    kinds = ("Conv", "BatchNormalization", "MatMul")
    nodes = [node for node in graph.node if node.op_type in kinds]
    return [[arrays[name] for name in node.input if name in arrays] for node in nodes]


exact = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def decibels(rows: jax.Array) -> jax.Array:
    """Mel bands [B, frames, 32] of samples [B, rows, HOP], as the embedding was trained on."""
    (real,), (imaginary,), (mel,) = published("melspectrogram")
    bins = len(real)
    basis = np.concatenate([real, imaginary])[:, 0].T
    basis = np.pad(basis, ((0, -FRAME % HOP), (0, 0))).reshape(-1, HOP, 2 * bins)
    frames = rows.shape[1] - len(basis) + 1
    parts = [exact(rows[:, i : i + frames], part) for i, part in enumerate(basis)]
    spectrum = jnp.stack(parts).sum(0) * 2.0**15
    power = exact(spectrum[..., :bins] ** 2 + spectrum[..., bins:] ** 2, mel)
    bands = 10 / np.log(10) * jnp.log(jnp.maximum(power, 1e-10))
    return jnp.maximum(bands, bands.max((1, 2), keepdims=True) - 80)


class SpeechEmbedding(nn.Module):
    """Rows of samples [B, 103, 160, 1] → embeddings [B, 4, 96], one every 80 ms."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Begins as published; the first stages stay so."""
        (first,), (scale, shift, mean, var), *convolutions = published("embedding_model")

        def active(h: jax.Array) -> jax.Array:
            return jnp.maximum(nn.leaky_relu(h, 0.2), -0.4)

        def convolved(h: jax.Array, i: int) -> jax.Array:
            kernel, *bias = convolutions[i]
            begin = jnp.asarray(kernel.transpose(2, 3, 1, 0))
            h = convolve(h, self.param(f"kernel_{i}", lambda _: begin))
            for array in bias:
                h += self.param(f"bias_{i}", lambda _, array=array: jnp.asarray(array))
            return h

        h = decibels(x.reshape(*x.shape[:2], -1))[..., None] / 10 + 2
        h = nn.relu(convolve(h, jnp.asarray(first.transpose(2, 3, 1, 0))))
        h = active((h - mean) / np.sqrt(var + 1e-3) * scale + shift)
        done = 0
        for stage, (_, count, rows) in enumerate(STAGES):
            for i in range(done, done + count):
                h = active(convolved(h, i))
            done += count
            h = nn.max_pool(h, (rows, 2), (rows, 2))
            if stage + 1 == FROZEN:
                h = jax.lax.stop_gradient(h)
        return convolved(h, done)[:, :, 0]

    @nn.nowrap
    def macs(self, shape: tuple[int, ...]) -> int:
        """Of an input [rows, HOP, 1], front end included."""
        frames, bins = shape[0] - FRAME // HOP, FRAME // 2 + 1
        rows, bands, before = frames - 2, 32, 24
        total = frames * bins * (2 * FRAME + bands) + 9 * before * rows * bands
        for channels, count, pooled in STAGES:
            for i in range(count):
                rows -= 2 * (i % 2)  # along bands and along time in turn
                total += 3 * before * channels * rows * bands
                before = channels
            rows, bands = rows // pooled, bands // 2
        return total + 3 * before * SIZE * (rows - 2)


def convolve(h: jax.Array, kernel: jax.Array) -> jax.Array:
    """Valid along time, [B, rows, bands, C]; along bands of the same size."""
    sides = kernel.shape[1] // 2
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        h, kernel, (1, 1), ((0, 0), (sides, sides)), dimension_numbers=axes
    )


class Head(nn.Module):
    """Embeddings [B, 4, 96] → [B, 256]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """A dense layer over all of them."""
        return nn.Dense(WIDTH)(nn.LayerNorm()(x).reshape(len(x), -1))


def build_net(model: ModelConfig, num_classes: int) -> sj.Net:
    """A chain; its one gate, of the head, is on."""
    del model
    layers = ("input", "embeddings", "features", "logits")
    return sj.Net(
        (ROWS, HOP, 1),
        tuple(sj.Layer(name, *((nn.relu,) if name == "features" else ())) for name in layers),
        (
            sj.Edge("embed", "input", "embeddings", SpeechEmbedding(), gated=False),
            sj.Edge("head", "embeddings", "features", Head()),
            sj.Edge("out", "features", "logits", sj.blocks.Dense(num_classes, 0.1), gated=False),
        ),
        output="logits",
        features="features",
    )


def get_config() -> Config:
    """One word an item, in noise; small steps, and no weights drawn to zero."""
    base = kws_modern.get_config()
    data = dataclasses.replace(
        base.data,
        features="samples",
        min_seconds=1.2,
        max_seconds=1.2,
        words_per_item=1,
        cut_words=False,
        snr_range_db=(0.0, 45.0),
        speed_range=(0.9, 1.1),
        time_masks=0,
        frequency_masks=0,
    )
    train = dataclasses.replace(
        base.train,
        steps=2500,
        learning_rate=7e-4,
        warmup_steps=300,
        weight_decay=0.0,
        label_smoothing=0.0,
        average_decay=0.995,
    )
    return dataclasses.replace(base, description="speech embedding", data=data, train=train)
