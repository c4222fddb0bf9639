"""BC-ResNet (Kim, Chang, Lee & Sung, Interspeech 2021, arXiv:2106.04140), at any width τ.

    input ─head→ stem ─block_0_0→ 0_0 ─…─block_3_3→ 3_3 ─tail→ tail ─mean→ features ─out→ logits

Four stages of 2, 2, 4 and 4 blocks with 8τ, 12τ, 16τ and 20τ channels; over time the dilation is 1,
2, 4, 8; the second and third stage halve the frequencies: 20, 20, 10, 5 of the 40 at the input.

Parameters are the paper's (table 3), for 12 classes: 9,232 (9.2k), 17,154 (17.2k), 27,284 (27.3k),
54,168 (54.2k), 187,812 (188k) and 321,068 (321k) for τ = 1, 1.5, 2, 3, 6 and 8.

MACs are those of its convolutions, on 101 frames: 2.48M, 4.61M, 7.32M, 14.52M, 50.28M, 85.92M. The
paper gives 3.1M, 5.5M, 8.5M, 16.2M, 53.1M, 89.1M. It has 98 frames (30 ms every 10 ms of 1 s, no
padding; ours: 2.41M, …, 83.37M), and must count more than convolutions: the rest is 0.71M·τ at
every τ, as much as two operations for each value that BatchNorm gives, one for each that ReLU gives
and one for each that the last mean reads. With these all six figures come out to their last digit.
"""

from __future__ import annotations

import flax.linen as nn

from sanas_jax.blocks import Dense, GlobalMean
from sanas_jax.blocks.bc_resnet import BcHead, BcResidual, BcTail
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.spaces.kws import WINDOW_SHAPE

BLOCKS = (2, 2, 4, 4)
STRIDES = (1, 2, 2, 1)
WIDTHS = (1, 1.5, 2, 2.5)


def bc_resnet(
    tau: float = 1,
    *,
    num_classes: int = 12,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
) -> Net:
    """BC-ResNet-τ, a chain whose every block has a gate.

    Args:
      tau: τ ≥ 0.25; channels are multiples of 8τ, rounded down.
      num_classes: K.
      input_shape: (time, log-mel bands, 1) of one window; the bands a multiple of 40.

    Raises ValueError for other arguments.
    """
    base = int(8 * tau)
    if base < 2:
        raise ValueError(f"tau: expected at least 0.25, got {tau}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    if input_shape[1] % 40:
        raise ValueError(f"input_shape: expected a multiple of 40 bands, got {input_shape}")
    layers = [Layer("input"), Layer("stem", nn.relu)]
    edges = [Edge("head", "input", "stem", BcHead(2 * base))]
    for stage, (blocks, stride, width) in enumerate(zip(BLOCKS, STRIDES, WIDTHS, strict=True)):
        for i in range(blocks):
            name = f"{stage}_{i}"
            block = BcResidual(int(width * base), 2**stage, 1 if i else stride)
            edges.append(Edge(f"block_{name}", layers[-1].name, name, block))
            layers.append(Layer(name, nn.relu))
    edges += [
        Edge("tail", layers[-1].name, "tail", BcTail(4 * base)),
        Edge("mean", "tail", "features", GlobalMean(), gated=False),
        Edge("out", "features", "logits", Dense(num_classes, 0.01), gated=False),
    ]
    layers += [Layer("tail", nn.relu), Layer("features"), Layer("logits")]
    return Net(input_shape, tuple(layers), tuple(edges), output="logits", features="features")
