"""The keyword-spotting networks of Sainath & Parada (Interspeech 2015), as super-networks.

SANAS (section 3) starts from cnn-trad-fpool3 and adds a shortcut from every layer to the layer that
feeds the classifier, so that the cheapest architecture skips all convolutions:

    input ─conv_0→ h0 ─conv_1→ h1 ─lin_0→ h2 ─lin_1→ features ─out→ logits
      └──────────────┴───────────┴──────────┴─ shortcut_0..3 ──┘

Kernels, strides and pools are (time, frequency); the input is a window of time × MFCC × 1.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import flax.linen as nn

from sanas_jax.blocks import Conv2D, Dense
from sanas_jax.graph import Edge, Layer, Net

WINDOW_SHAPE = (101, 40, 1)


@dataclass(frozen=True)
class KwsFamily:
    """A stack of convolutions, then dense layers of the given widths; the last feeds `out`."""

    convs: tuple[Conv2D, ...]
    widths: tuple[int, ...]


FAMILIES: dict[str, KwsFamily] = {
    "cnn-trad-fpool3": KwsFamily(
        (Conv2D(64, (20, 8), pool=(1, 3)), Conv2D(64, (10, 4))), (32, 128)
    ),
    "cnn-one-fpool3": KwsFamily((Conv2D(54, (32, 8), pool=(1, 3)),), (32, 128, 128)),
    "cnn-one-fstride4": KwsFamily((Conv2D(186, (32, 8), (1, 4)),), (32, 128, 128)),
    "cnn-one-fstride8": KwsFamily((Conv2D(336, (32, 8), (1, 8)),), (32, 128, 128)),
    "cnn-tstride2": KwsFamily((Conv2D(78, (16, 8), (2, 1), (1, 3)), Conv2D(78, (9, 4))), (32,)),
    "cnn-tstride4": KwsFamily((Conv2D(100, (16, 8), (4, 1), (1, 3)), Conv2D(78, (5, 4))), (32,)),
    "cnn-tstride8": KwsFamily((Conv2D(126, (16, 8), (8, 1), (1, 3)), Conv2D(78, (5, 4))), (32,)),
}


def kws_cnn(
    family: str = "cnn-trad-fpool3",
    *,
    shortcuts: bool = True,
    num_classes: int = 12,
    maps: tuple[int, ...] | None = None,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
) -> Net:
    """A network of Sainath & Parada as a super-network.

    Args:
      family: a key of `FAMILIES`.
      shortcuts: add the edges of SANAS from every layer to the classifier's input.
      num_classes: K.
      maps: channels of each convolution, in place of the family's (smaller copies of a network).
      input_shape: (time, MFCC, 1) of one window.

    Returns:
      A net with every edge gated but `out`: the classifier always answers. Where no edge reaches
      it, the answer is its bias and the step costs no MACs.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected one of {sorted(FAMILIES)}, got {family!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    convs, widths = FAMILIES[family].convs, FAMILIES[family].widths
    if maps is not None:
        if len(maps) != len(convs):
            raise ValueError(
                f"maps: expected {len(convs)} numbers for {family}, got {len(maps)}: {maps}"
            )
        convs = tuple(dataclasses.replace(c, maps=m) for c, m in zip(convs, maps, strict=True))

    chain: list[tuple[str, nn.Module]] = [(f"conv_{i}", c) for i, c in enumerate(convs)]
    chain += [(f"lin_{i}", Dense(w)) for i, w in enumerate(widths)]
    names = ["input", *(f"h{i}" for i in range(len(chain) - 1)), "features"]
    # The branches that meet in `features`, one shortcut per edge of the chain and its last edge,
    # start with a sum of He's variance.
    scale = 2.0 / (len(chain) + 1) if shortcuts else 2.0
    edges: list[Edge] = []
    for i, (name, block) in enumerate(chain):
        last = i == len(chain) - 1
        edges.append(
            Edge(name, names[i], names[i + 1], Dense(widths[-1], scale) if last else block)
        )
        if shortcuts:
            edges.append(Edge(f"shortcut_{i}", names[i], "features", Dense(widths[-1], scale)))
    edges.append(Edge("out", "features", "logits", Dense(num_classes, 0.01), gated=False))
    layers = (Layer("input"), *(Layer(name, nn.relu) for name in names[1:]), Layer("logits"))
    return Net(input_shape, layers, tuple(edges), output="logits", features="features")
