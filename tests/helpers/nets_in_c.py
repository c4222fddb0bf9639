"""Small networks of which C files are written in tests, and what they hear."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.blocks import Dense
from sanas_jax.blocks.audio import LogMel, normalised
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.data.features import Frontend
from sanas_jax.export.c.source import c_source
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.spaces import separable
from sanas_jax.streaming.detector import Detector
from tests.helpers.nets import random_like

RATE = 2000
DETECTOR = Detector(threshold=0.4, window_ms=300, suppression_ms=300, min_count=2)
CLASSES = ("_silence_", 'a "quoted" word', "größer?")


def frontend(padding: str = "constant", n_fft: int = 60, hop: int = 20, bands: int = 6) -> Frontend:
    """Features of a short frame."""
    mel = np.abs(np.random.default_rng(0).standard_normal((bands, n_fft // 2 + 1)))
    mel[1, :5] = mel[2] = 0  # bands that leave out the first bins, or all
    return Frontend.create(
        mel,
        n_fft=n_fft,
        hop=hop,
        sample_rate=RATE,
        padding=padding,
        mean=[1.0] * bands,
        std=[2.0] * bands,
        cepstral=False,
    )


def front_of(net: Net, padding: str = "constant") -> Frontend:
    """What a network hears: features, or the samples of which it makes bands."""
    if "mel" not in net.index:
        return frontend(padding)
    front, block = frontend(padding), net.edges[net.index["mel"]].block
    bands = block.frontend(front.hop, np.full(6, -4, np.float32), np.full(6, 4, np.float32))
    return dataclasses.replace(bands, padding=padding, raw=True)


def chain() -> Net:
    """Of the shipped networks' family: rows, exits, a last answer that is used again, skips."""
    return separable(
        num_classes=3,
        wide=((9, 5, 2), (6, 9, 1), (6, 3, 1)),
        slim=((3, 9, 5),),
        exits=(1,),
        skips=(2,),
        features=8,
        input_shape=(51, 6, 1),
    )


def gated() -> Net:
    """A network that hears samples: bands of them are computed where an edge needs them."""
    return separable(
        num_classes=3,
        wide=((9, 5, 2), (6, 9, 1), (6, 3, 1)),
        slim=((3, 9, 5),),
        exits=(1,),
        features=8,
        log_mel=LogMel(6, RATE, 60, 20.0, 900.0),
        onset=(4, 9, 5),
        input_shape=(53, 20, 1),
    )


def dead_ends() -> Net:
    """An edge without a gate below a gated one answers although nothing reaches it."""
    layers = (Layer("x"), Layer("h", nn.relu), Layer("d", nn.relu), Layer("f"), Layer("y"))
    edges = (
        Edge("block", "x", "h", Separable(6, 5, 2)),
        Edge("crop", "x", "h", Separable(6, 5, 2, residual=False)),
        Edge("dense", "h", "d", Dense(5), gated=False),
        Edge("pass", "d", "f", Dense(4), gated=False),
        Edge("glance", "x", "f", Exit(4)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    return Net((51, 6, 1), layers, edges, "y", "f")


def glances(*makers: tuple[str, nn.Module]) -> Net:
    """A network whose edges from the input, each with an exit, make bands or energies."""
    layers, edges = [Layer("x")], []
    for name, block in makers:
        layers.append(Layer(f"of_{name}"))
        edges += [
            Edge(name, "x", f"of_{name}", block),
            Edge(f"exit_{name}", f"of_{name}", "y", Exit(3), gated=False),
        ]
    return Net((53, 20, 1), (*layers, Layer("y")), tuple(edges), "y", "y")


NETS = {"chain": chain, "dead ends": dead_ends, "gated": gated}


def model_of(
    net: Net, hop: int = 10, state: int = 4, conditioned: bool = True
) -> tuple[Sanas, dict[str, Any]]:
    """A model whose gates move, with statistics as if there had been data."""
    model = Sanas(net, Controller(nn.GRUCell(state), 0.0, conditioned), hop=hop)
    params = random_like(init_model(model, jax.random.key(0)), 4)
    # Of a network that hears samples bands are left out for a window and more, and come back. Its
    # statistics are such that rounding, of which logs make more, is not made much of.
    hears_samples = "mel" in net.index
    params["stats"] = jax.tree.map(lambda x: jnp.abs(x) + hears_samples, params.get("stats", {}))
    params = normalised(net, params, front_of(net))
    head = params["controller"]["head"]
    head |= {"kernel": 2 * head["kernel"], "bias": head["bias"] - 4 * hears_samples}
    return model, params


def source_of(
    model: Sanas,
    params: dict[str, Any],
    front: Frontend,
    static: bool = False,
    detector: Detector = DETECTOR,
    weights: str = "float32",
) -> str:
    """It as C, whose names begin with `small`."""
    return c_source(
        "small", model, params, front, CLASSES, detector, static=static, weights=weights
    )


def noise(seconds: float = 9.13, seed: int = 1) -> np.ndarray:
    """int16 audio whose loudness comes and goes."""
    rng = np.random.default_rng(seed)
    size = int(RATE * seconds)
    loud = np.repeat(rng.uniform(0, 0.3, 23) * (rng.random(23) < 0.7), -(-size // 23))[:size]
    return np.round(32768 * (loud * rng.standard_normal(size)).clip(-1, 0.99)).astype(np.int16)
