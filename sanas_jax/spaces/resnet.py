"""ResNets, and BSN's ResNet fabric: blocks that jump from group to group.

Groups of residual blocks; each group but the first halves the size. A block adds a learnt edge and
a way around (identity, or a 1×1 convolution where shapes differ). A fabric adds, from the values of
each group to the blocks of the next, the same pair of edges: block n of a group of W hears value
W−1−n of the group before ("s", straight), and its neighbours ("l", "r"; BSN, figure 3).

    stem → 0_0 → 0_1 → 0_2 → 1_0 → 1_1 → … → mean → logits
                              ↑ from 0_1 (straight) and 0_0 (shifted)
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

from sanas_jax.blocks import ConvBn, Dense, GlobalMean, Identity, Residual
from sanas_jax.graph import Edge, Layer, Net

SHIFTS = {"s": 0, "l": 1, "r": -1}


def resnet(
    blocks: int | Sequence[int] = 3,
    maps: Sequence[int] = (16, 32, 64),
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    bottleneck: bool = False,
    shifts: str = "",
    stem: nn.Module | None = None,
) -> Net:
    """A ResNet for small images (He et al. 2016, section 4.2): 20 layers by default.

    Args:
      blocks: W, per group; a number for all groups.
      maps: per group; a bottleneck ends with four times as many.
      input_shape: (height, width, channels), or a window (time, MFCC, 1).
      num_classes: K.
      bottleneck: 1×1, 3×3, 1×1 instead of two 3×3 convolutions.
      shifts: which shortcuts between groups there are, of "s", "l", "r"; none for a plain ResNet.
      stem: block at the input; a 3×3 convolution with BatchNorm by default.

    Returns:
      A net with a gate on every residual block, way around and shortcut.
    """
    widths = [blocks] * len(maps) if isinstance(blocks, int) else list(blocks)
    if not maps or len(widths) != len(maps) or min(widths) < 1:
        raise ValueError(f"blocks, maps: expected one of each per group, got {blocks}, {maps}")
    unknown = set(shifts) - set(SHIFTS)
    if unknown:
        raise ValueError(f"shifts: expected letters of {''.join(SHIFTS)!r}, got {shifts!r}")
    growth = 4 if bottleneck else 1
    layers = [Layer("input"), Layer("stem", nn.relu)]
    edges = [Edge("stem", "input", "stem", stem or ConvBn(maps[0]), gated=False)]
    # Values of a group: its input, then what each of its blocks gives; their maps and stride.
    before: list[tuple[str, int, int]] = []
    value, stride = ("stem", maps[0], 1), 1

    def pair(names: tuple[str, str], source: tuple[str, int, int], target: str, g: int) -> None:
        """A learnt edge and the way around it, from a value to a layer of group g."""
        name, channels, at = source
        step, out = stride // at, growth * maps[g]
        around = Identity() if (step, channels) == (1, out) else ConvBn(out, 1, step)
        edges.append(Edge(names[0], name, target, Residual(maps[g], step, bottleneck)))
        edges.append(Edge(names[1], name, target, around))

    for g, width in enumerate(widths):
        values = [value]
        stride = 2**g
        for n in range(width):
            target = f"{g}_{n}"
            layers.append(Layer(target, nn.relu))
            pair((f"block_{target}", f"skip_{target}"), values[-1], target, g)
            for letter in (x for x in SHIFTS if x in shifts):
                position = len(before) - 1 - n + SHIFTS[letter]
                if 0 <= position < len(before):
                    names = (f"short_{letter}_{target}", f"short_skip_{letter}_{target}")
                    pair(names, before[position], target, g)
            values.append((target, growth * maps[g], stride))
        before, value = values[:-1], values[-1]
    edges.append(Edge("mean", value[0], "features", GlobalMean(), gated=False))
    edges.append(Edge("out", "features", "logits", Dense(num_classes, 0.01), gated=False))
    layers += [Layer("features"), Layer("logits")]
    return Net(input_shape, tuple(layers), tuple(edges), output="logits", features="features")


def resnet_fabric(
    blocks: int | Sequence[int] = 3,
    maps: Sequence[int] = (16, 32, 64),
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    bottleneck: bool = False,
    shifts: str = "slr",
) -> Net:
    """BSN's ResNet fabric; arguments as of `resnet`."""
    if not shifts:
        raise ValueError("shifts: expected some of 's', 'l', 'r' for a fabric, got none")
    return resnet(
        blocks,
        maps,
        input_shape=input_shape,
        num_classes=num_classes,
        bottleneck=bottleneck,
        shifts=shifts,
    )
