"""TC-ResNet (Choi et al., Interspeech 2019, arXiv:1904.03814): 8 or 14 layers, any width.

    input ─head→ stem ─block_0→ h0 ─block_1→ h1 ─block_2→ h2 ─mean→ features ─out→ logits

The paper's dropout before the classifier is left out; the classifier has no bias, as in its code.

The paper's figures (table 1: FLOPs, two for a MAC, and parameters) are for 12 classes and 98 frames
(30 ms every 10 ms of 1 s, no padding), its parameters with the running means and variances:

                    published        MACs on 98    on 101 frames   parameters   with running ones
    TC-ResNet8      3.0M     66k      1,522,560       1,563,264       65,168         65,824
    TC-ResNet8-1.5  6.6M    145k      3,284,208       3,371,472      144,264        145,248
    TC-ResNet14     6.1M    137k      3,030,528       3,110,400      135,856        136,928
    TC-ResNet14-1.5 13.4M   305k      6,677,136       6,852,528      303,000        304,608
"""

from __future__ import annotations

import flax.linen as nn

from sanas_jax.blocks import GlobalMean
from sanas_jax.blocks.tc_resnet import TcHead, TcResidual
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.spaces.kws import WINDOW_SHAPE

# Channels of the first convolution, then of each block.
MAPS = {8: (16, 24, 32, 48), 14: (16, 24, 24, 32, 32, 48, 48)}
# Logits start near 0, as those of `blocks.Dense(…, 0.01)`.
SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


def tc_resnet(
    depth: int = 8,
    width: float = 1.0,
    *,
    num_classes: int = 12,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
) -> Net:
    """TC-ResNet, a chain whose every block has a gate.

    Args:
      depth: 8 or 14.
      width: multiplies the channels, rounded down; such that no two stages end up with as many.
      num_classes: K.
      input_shape: (time, MFCC, 1) of one window.

    Raises ValueError for other arguments.
    """
    if depth not in MAPS:
        raise ValueError(f"depth: expected one of {sorted(MAPS)}, got {depth}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    # A block halves the time where its channels change: stages must differ.
    distinct = sorted({int(width * maps) for maps in MAPS[depth]})
    if len(distinct) < 4 or distinct[0] < 1:
        raise ValueError(f"width: expected four distinct numbers of channels, got {distinct}")
    head, *blocks = (int(width * maps) for maps in MAPS[depth])
    layers = [Layer("input"), Layer("stem", nn.relu)]
    edges = [Edge("head", "input", "stem", TcHead(head))]
    for i, maps in enumerate(blocks):
        edges.append(Edge(f"block_{i}", layers[-1].name, f"h{i}", TcResidual(maps)))
        layers.append(Layer(f"h{i}", nn.relu))
    out = nn.Dense(num_classes, use_bias=False, kernel_init=SMALL)
    edges += [
        Edge("mean", layers[-1].name, "features", GlobalMean(), gated=False),
        Edge("out", "features", "logits", out, gated=False),
    ]
    layers += [Layer("features"), Layer("logits")]
    return Net(input_shape, tuple(layers), tuple(edges), output="logits", features="features")
