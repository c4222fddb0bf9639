"""Convolutional neural fabrics (Saxena & Verbeek, NIPS 2016), BSN's B-CNF.

A grid of layers × scales. A layer's value at one scale goes on to the next layer at the same, the
next coarser and the next finer scale; the first and the last column also run down the scales:

    0_0 ──→ 1_0 ──→ 2_0      finest
     │  ╲ ╱  │ ╲ ╱   │
    0_1 ──→ 1_1 ──→ 2_1
     │  ╲ ╱  │ ╲ ╱   │       (down: first and last column)
    0_2 ──→ 1_2 ──→ 2_2 ──→ logits

With several blocks (the third dimension), every node is a group of nodes and edges run between all
of them. Gates are on the convolutions; stem and classifier are always on.
"""

from __future__ import annotations

import flax.linen as nn

from sanas_jax.blocks import ConvBn, Dense, Identity, PixelDense
from sanas_jax.graph import Edge, Layer, Net


def fabric(
    layers: int = 8,
    channels: int = 64,
    *,
    blocks: int = 1,
    scales: int | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    adapt_first: bool = True,
    rounding: str = "ceil",
    upsampling: str = "nearest",
    per_pixel: bool = False,
) -> Net:
    """A fabric; the defaults are BSN's B-CNF on CIFAR-10.

    Args:
      layers: L.
      channels: of every node.
      blocks: nodes per layer and scale.
      scales: S; down to 1×1 unless given.
      input_shape: (height, width, channels), or a window (time, MFCC, 1).
      num_classes: K.
      adapt_first: a convolution brings the input to `channels` first; else the first edges do.
      rounding: of an odd size at the next scale, "ceil" or "floor".
      upsampling: "nearest", as in BSN's code, or "bilinear", as in that of SANAS.
      per_pixel: classify every pixel, from the finest scale (BSN's segmentation); the last column
        then runs up the scales.

    Raises ValueError for sizes that make no fabric.
    """
    for name, value in (("layers", layers), ("channels", channels), ("blocks", blocks)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if rounding not in ("ceil", "floor"):
        raise ValueError(f"rounding: expected 'ceil' or 'floor', got {rounding!r}")
    if upsampling not in ("nearest", "bilinear"):
        raise ValueError(f"upsampling: expected 'nearest' or 'bilinear', got {upsampling!r}")
    sizes = _sizes(input_shape[:2], scales, rounding == "floor")
    if per_pixel and layers < 2:
        raise ValueError(f"layers: expected at least 2 to classify pixels, got {layers}")

    def block(source: int, target: int) -> nn.Module:
        """The convolution from one scale to another."""
        if target > source:
            return ConvBn(channels, stride=2, crop=rounding == "floor")
        if target < source:
            return ConvBn(channels, upsample=sizes[target], method=upsampling)
        return ConvBn(channels)

    def node(layer: int, scale: int, number: int) -> str:
        return f"{layer}_{scale}" + (f"_{number}" if blocks > 1 else "")

    edges: list[Edge] = []
    for b in range(blocks):
        stem = ConvBn(channels) if adapt_first else Identity()
        name = "stem" + (f"_{b}" if blocks > 1 else "")
        edges.append(Edge(name, "input", node(0, 0, b), stem, gated=False))
    for (i, s), (j, t) in _links(layers, len(sizes), per_pixel):
        for b in range(blocks):
            for c in range(blocks):
                source, target = node(i, s, b), node(j, t, c)
                edges.append(Edge(f"{source}-{target}", source, target, block(s, t)))

    scale_order = list(range(len(sizes)))
    order = [(i, s) for i in range(layers) for s in scale_order]
    if per_pixel:  # the last column runs up
        order[-len(sizes) :] = [(layers - 1, s) for s in reversed(scale_order)]
    relu = nn.relu
    nodes = [Layer(node(i, s, b), relu) for i, s in order for b in range(blocks)]
    if not adapt_first:  # the input as it is, with its negative values
        first = {node(0, 0, b) for b in range(blocks)}
        nodes = [Layer(layer.name) if layer.name in first else layer for layer in nodes]
    last = [node(*order[-1], b) for b in range(blocks)]
    features = last[0]
    if blocks > 1:
        features = "features"
        nodes.append(Layer(features))
        edges += [Edge(f"{name}-features", name, features, Identity(), False) for name in last]
    head = PixelDense(num_classes) if per_pixel else Dense(num_classes, 0.01)
    edges.append(Edge("out", features, "logits", head, gated=False))
    all_layers = (Layer("input"), *nodes, Layer("logits"))
    return Net(input_shape, all_layers, tuple(edges), output="logits", features=features)


def _sizes(size: tuple[int, int], scales: int | None, floor: bool) -> list[tuple[int, int]]:
    """Height and width of each scale."""
    height, width = size
    out = [(height, width)]
    while out[-1] != (1, 1) if scales is None else len(out) < scales:
        height, width = out[-1]
        if (height, width) == (1, 1):
            raise ValueError(f"scales: expected at most {len(out)} from {size}, got {scales}")
        half = (height // 2, width // 2) if floor else ((height + 1) // 2, (width + 1) // 2)
        out.append((max(half[0], 1), max(half[1], 1)))
    return out


Place = tuple[int, int]


def _links(layers: int, scales: int, last_runs_up: bool) -> list[tuple[Place, Place]]:
    """Pairs of (layer, scale) that are connected."""
    links: list[tuple[Place, Place]] = []
    for i in range(layers):
        for s in range(scales):
            down = s + 1 < scales and (i == 0 or (i == layers - 1 and not last_runs_up))
            if down:
                links.append(((i, s), (i, s + 1)))
            if last_runs_up and i == layers - 1 and s > 0:
                links.append(((i, s), (i, s - 1)))
            if i + 1 < layers:
                near = [t for t in (s - 1, s, s + 1) if 0 <= t < scales]
                links += [((i, s), (i + 1, t)) for t in near]
    return links
