"""A chain after RepCNN (Kundu et al., Interspeech 2024, arXiv:2406.02652), at any width.

    input ─block_0→ h0 ─block_1→ h1 ─…─block_4→ h4 ─mean→ features ─out→ logits

Every block learns as several branches and is used as one depthwise and one 1×1 convolution
(`blocks.rep`). The paper's are the blocks, and that nothing leads around them in use; the sizes of
its wake word detector are not taken over, so no figure of it is met. Convolutions are valid, so
that in a stream the blocks compute new rows only.

On 101×40, 12 classes; in training MACs and parameters of all branches are computed:

    width        MACs   in training   parameters   in training
       32     213,192       270,912        7,708        11,644
       64     629,576       739,136       23,356        30,908
      128   2,101,320     2,314,560       79,228        94,012

`costs` and reports count MACs of the form in use, and parameters of the form that learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import flax.linen as nn

from sanas_jax.blocks import Dense, GlobalMean, rep
from sanas_jax.blocks.rep import RepSeparable
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.spaces.kws import WINDOW_SHAPE

# Of the branches of each block; the first halves the number of rows.
KERNELS = ((5, 3), (9, 7, 5, 3), (9, 7, 5, 3), (13, 9, 5, 3), (13, 9, 5, 3))


def rep_cnn(
    width: int = 64,
    *,
    kernels: Sequence[Sequence[int]] = KERNELS,
    num_classes: int = 12,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
) -> Net:
    """The chain drawn above, every block of which has a gate.

    Args:
      width: channels of every block.
      kernels: of the branches over time of each block.
      num_classes: K.
      input_shape: (frames, bands, 1) of one window.

    Raises ValueError for other arguments.
    """
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    if not kernels or not all(sizes and min(sizes) > 0 for sizes in kernels):
        raise ValueError(f"kernels: expected one or more ≥ 1 for each block, got {kernels}")
    layers, edges = [Layer("input")], []
    for i, sizes in enumerate(kernels):
        block = RepSeparable(width, tuple(sizes), 1 if i else 2)
        edges.append(Edge(f"block_{i}", layers[-1].name, f"h{i}", block))
        layers.append(Layer(f"h{i}", nn.relu))
    edges += [
        Edge("mean", layers[-1].name, "features", GlobalMean(), gated=False),
        Edge("out", "features", "logits", Dense(num_classes, 0.01), gated=False),
    ]
    layers += [Layer("features"), Layer("logits")]
    return Net(tuple(input_shape), tuple(layers), tuple(edges), "logits", "features")


def fold(
    net: Net, params: Mapping[str, Any], stats: Mapping[str, Any]
) -> tuple[Net, dict[str, Any], dict[str, Any]]:
    """A network as it is used: its `RepSeparable` blocks with one branch, others as they are.

    Args:
      net: in its form for training.
      params, stats: {edge: parameters}, {edge: running statistics}.

    Returns:
      The net, parameters and statistics that compute the same out of training.
    """
    edges, params, stats = [], dict(params), dict(stats)
    for edge in net.edges:
        if isinstance(edge.block, RepSeparable):
            params[edge.name] = rep.fold(edge.block, params[edge.name], stats.pop(edge.name))
            edge = replace(edge, block=edge.block.deployed)
        edges.append(edge)
    return replace(net, edges=tuple(edges)), params, stats
