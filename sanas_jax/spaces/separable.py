"""A super-network of separable temporal blocks, with exits: cheap by design, and cheaper by gates.

A chain of residual blocks over time (those of DS-CNN and MatchboxNet, with valid convolutions) has
exits from several depths. All of it is upstream of the first join, so it is computed once for a
whole stream, and online only for new frames. What a gate decides:

    glance   the window's bands, weighed over time: tells silence from sound
    slim     a narrow chain of its own with coarse rows: most of what is not a word ends here
    exit_*   how deep the wide chain is run: blocks have no gates of their own, since those beyond
             the last exit that is on lead nowhere and are pruned
    short, long   two kernels for the last block, side by side
    keep     the wide chain's last answer stands in for a new one, at no cost

    input ─glance───────────────────────────────→ features ─out→ logits
      ├─slim_0→ s0 ─slim_1→ s1 ─exit_slim────────────┤
      └─block_0→ h0 ─block_1→ h1 … ─exit_i→ deep ─pass─┘
                                          ↺ keep

The front end may be under the gates too: the input is then samples, and `mel` runs where an edge is
live that reads bands. The energies of the samples, cheaper than any band, are always looked at, so
that a controller hears when to look closer:

    input ─energy→ loud ─onset→ sound ─exit_sound──→ features
      └────mel───→ bands ─glance, slim_0, block_0→ …
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

from sanas_jax.blocks import Dense, Identity
from sanas_jax.blocks.audio import Energies, LogMel
from sanas_jax.blocks.separable import Crop, Exit, Separable
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.spaces.kws import WINDOW_SHAPE

Block = tuple[int, int, int]

# (maps, kernel, stride) of each block, from the input on. Rows of 20 ms, later of 40 ms.
WIDE: tuple[Block, ...] = (
    (64, 5, 2),
    (128, 9, 1),
    (128, 9, 1),
    (160, 9, 2),
    (160, 9, 1),
)
SLIM: tuple[Block, ...] = ((24, 9, 4), (32, 9, 1))
ONSET: Block = (16, 9, 4)
# Rows of samples whose frames are a window's.
GATED_SHAPE = (103, 160, 1)
LAST_KERNELS = {"short": 3, "long": 5}


def separable(
    *,
    num_classes: int = 12,
    wide: Sequence[Block] = WIDE,
    slim: Sequence[Block] = SLIM,
    exits: Sequence[int] = (2, 4),
    skips: Sequence[int] = (),
    features: int = 96,
    reuse: bool = True,
    log_mel: LogMel | None = None,
    onset: Block = ONSET,
    input_shape: tuple[int, ...] | None = None,
) -> Net:
    """The super-network drawn above.

    Args:
      num_classes: K.
      wide, slim: blocks of the chains; the first of each is without a way around.
      exits: after how many blocks the wide chain has an exit, beside those at its end.
      skips: blocks of the wide chain that have the way around them as an edge of its own, so that a
        gate can leave out a single block. Their sum is a join: what follows is no longer shared by
        the steps of a stream, so only late blocks, of few rows, are cheap to skip in this way.
      features: width of the layer that feeds classifier and controller.
      reuse: whether there is `keep`.
      log_mel: the front end, where it is part of the graph.
      onset: the block over energies, with `log_mel`.
      input_shape: of one window: (frames, bands, 1), or with `log_mel` (rows, samples of a row, 1).

    Returns:
      A net whose gates are those of `glance`, of the exits of chains, of skips, and of `keep`.

    Raises ValueError for exits that are not depths of the chain, or skips of a block whose way
    around is more than the identity.
    """
    if not all(1 <= depth < len(wide) for depth in exits):
        raise ValueError(f"exits: expected depths from 1 to {len(wide) - 1}, got {list(exits)}")
    for i in skips:
        if not 0 < i < len(wide) or wide[i][0] != wide[i - 1][0]:
            raise ValueError(f"skips: expected blocks that keep the number of maps, got {i}")
    scale = (len(exits) + len(LAST_KERNELS) + 2) ** -0.5
    layers, edges, bands = [Layer("input")], list[Edge](), "input"
    if log_mel:
        bands = "bands"
        layers += [Layer("loud"), Layer("sound", nn.relu), Layer(bands)]
        maps, kernel, stride = onset
        look = Separable(maps, kernel, stride, residual=False)
        edges += [
            Edge("energy", "input", "loud", Energies(), gated=False),
            Edge("onset", "loud", "sound", look, gated=False),
            # Silent at first: a network that was trained without it says what it said.
            Edge("exit_sound", "sound", "features", Exit(features, 0.0), gated=False),
            Edge("mel", "input", bands, log_mel, gated=False),
        ]
    edges.append(Edge("glance", bands, "features", Exit(features, scale)))

    def chain(blocks: Sequence[Block], layer: str, block: str, skips: Sequence[int] = ()) -> str:
        """Append a chain that begins at the bands; the name of its last layer."""
        source = bands
        for i, (maps, kernel, stride) in enumerate(blocks):
            target = f"{layer}{i}"
            layers.append(Layer(target, nn.relu))
            body = Separable(maps, kernel, stride, residual=i > 0 and i not in skips)
            edges.append(Edge(f"{block}_{i}", source, target, body, gated=i in skips))
            if i in skips:
                edges.append(Edge(f"skip_{i}", source, target, Crop(kernel, stride)))
            source = target
        return source

    end = chain(slim, "s", "slim")
    edges.append(Edge("exit_slim", end, "features", Exit(features, scale)))
    end = chain(wide, "h", "block", skips)
    for depth in exits:
        edges.append(Edge(f"exit_{depth}", f"h{depth - 1}", "deep", Exit(features, scale)))
    for name, kernel in LAST_KERNELS.items():
        layers.append(Layer(name, nn.relu))
        edges.append(Edge(name, end, name, Separable(wide[-1][0], kernel), gated=False))
        edges.append(Edge(f"exit_{name}", name, "deep", Exit(features, scale)))
    layers += [Layer("deep"), Layer("features", nn.relu), Layer("logits")]
    if reuse:
        edges.append(Edge("keep", "deep", "deep", Identity()))
    edges.append(Edge("pass", "deep", "features", Identity(), gated=False))
    edges.append(Edge("out", "features", "logits", Dense(num_classes, 0.1), gated=False))
    if input_shape is None:
        input_shape = GATED_SHAPE if log_mel else WINDOW_SHAPE
    return Net(tuple(input_shape), tuple(layers), tuple(edges), "logits", "features")
