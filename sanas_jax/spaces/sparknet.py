"""SparkNet (Svirsky, Shaham & Lindenbaum, Interspeech 2024, arXiv:2406.06634), at any width.

    input ─block_0→ h0 ─block_1→ h1 ─…─block_3→ h3 ─gates→ gates ─mean→ features ─out→ logits

Kernels of 11, 15, 19 and 29 frames, C channels; as many gates a frame as the input has
coefficients. Kernels, strides and ways around are those of the authors' configuration of C=16.

Figures of its repository, for 12 classes and 101 frames of 32 MFCC. Parameters are ours to the last
one; its MACs count four operations for each value that BatchNorm gives:

            published         parameters   MACs on 101×32   with those   MACs on 101×40   parameters
    C=16    4,636   454.5K         4,636          396,304      454,480          431,144        5,100
    C=32   11,500     1.2M        11,500        1,066,944    1,170,368        1,127,640       12,220

Its smaller ones have fewer parameters (C=8: 2,292, C=4: 1,416) than this rule gives (2,356, 1,504);
there is no configuration of theirs to see why.

What differs: training has no noise on the gates but its mean (`blocks.sparknet.SparkGates`), and no
penalty for open gates, whose weight there is a hundredth of the cross-entropy's. What is computed
in use is the paper's.
"""

from __future__ import annotations

import flax.linen as nn

from sanas_jax.blocks import Dense, GlobalMean
from sanas_jax.blocks.sparknet import SparkBlock, SparkGates
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.spaces.kws import WINDOW_SHAPE

KERNELS = (11, 15, 19, 29)


def sparknet(
    width: int = 16,
    *,
    num_classes: int = 12,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
) -> Net:
    """SparkNet, a chain whose every block has a gate.

    Args:
      width: C, channels of every block.
      num_classes: K.
      input_shape: (time, MFCC or log-mel bands, 1) of one window.

    Raises ValueError for other arguments.
    """
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    layers, edges = [Layer("input")], []
    for i, kernel in enumerate(KERNELS):
        block = SparkBlock(width, kernel, residual=i > 0)
        edges.append(Edge(f"block_{i}", layers[-1].name, f"h{i}", block))
        layers.append(Layer(f"h{i}", nn.relu))
    edges += [
        Edge("gates", layers[-1].name, "gates", SparkGates(input_shape[1])),
        Edge("mean", "gates", "features", GlobalMean(), gated=False),
        Edge("out", "features", "logits", Dense(num_classes, 0.01), gated=False),
    ]
    layers += [Layer("gates"), Layer("features"), Layer("logits")]
    return Net(
        tuple(input_shape), tuple(layers), tuple(edges), output="logits", features="features"
    )
