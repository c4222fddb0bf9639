"""The authors' graphs, with a gate on every node, as nets with gates on edges.

A node becomes an edge that carries its block. Where several nodes meet, a layer sums them, over
identity edges that have no gate and cost nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from sanas_jax.blocks import Identity
from sanas_jax.graph import Edge, Layer, Net

Golden = Mapping[str, np.ndarray]


class AllRows(nn.Module):
    """A block whose batch statistics are of all rows, as theirs: also of those gated off."""

    block: nn.Module

    def __call__(
        self, x: jax.Array, *, train: bool = False, live: jax.Array | None = None
    ) -> jax.Array:
        del live
        return self.block(x, train=train)


def node_net(
    columns: Sequence[str],
    order: Sequence[str],
    links: Sequence[tuple[str, str]],
    blocks: Mapping[str, nn.Module],
    relu: set[str],
    input_shape: tuple[int, ...],
    output: str,
    features: str,
) -> Net:
    """A net whose first edges are the nodes, in the order of their gate columns.

    Args:
      columns: names of the nodes in the order of the gates.
      order: the same in topological order.
      links: (from, to).
      blocks: of each node.
      relu: nodes whose value goes through a ReLU.
      input_shape, output, features: of the net; the latter are nodes.
    """
    before: dict[str, list[str]] = {name: [] for name in order}
    for source, target in links:
        before[target].append(source)
    source_of = {}
    layers, sums = [Layer("x")], []
    for name in order:
        source_of[name] = before[name][0] if len(before[name]) == 1 else "x"
        if len(before[name]) > 1:
            source_of[name] = f"sum of {name}"
            layers.append(Layer(source_of[name]))
            sums += [
                Edge(f"{node} to {name}", node, source_of[name], Identity(), False)
                for node in before[name]
            ]
        layers.append(Layer(name, nn.relu if name in relu else None))
    edges = [Edge(name, source_of[name], name, blocks[name]) for name in columns]
    return Net(input_shape, tuple(layers), (*edges, *sums), output, features)


def converted(net: Net, torch: Golden, dtype: Any = np.float64) -> tuple[dict, dict]:
    """Their weights `node/name` as (params, running statistics) of the nodes."""
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for edge in net.edges:
        own = {
            key.removeprefix(f"{edge.name}/"): np.asarray(value, dtype)
            for key, value in torch.items()
            if key.startswith(f"{edge.name}/")
        }
        inner: dict[str, Any] = {}
        running: dict[str, Any] = {}
        convs = sorted(key.removesuffix("conv.weight") for key in own if "conv.weight" in key)
        for i, at in enumerate(convs):
            kernel = own[f"{at}conv.weight"]
            if edge.name.startswith("Lin"):  # a 1×1 convolution of a 1×1 map
                inner["Dense_0"] = {"kernel": kernel[:, :, 0, 0].T, "bias": own[f"{at}conv.bias"]}
                continue
            inner[f"Conv_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
            if f"{at}conv.bias" in own:
                inner[f"Conv_{i}"]["bias"] = own[f"{at}conv.bias"]
            if f"{at}bn.weight" in own:
                inner[f"BatchNorm_{i}"] = {
                    "scale": own[f"{at}bn.weight"],
                    "bias": own[f"{at}bn.bias"],
                }
            if f"{at}bn.running_mean" in own:
                running[f"BatchNorm_{i}"] = {
                    "mean": own[f"{at}bn.running_mean"],
                    "var": own[f"{at}bn.running_var"],
                }
        dense = "fc" if "fc.weight" in own else "lin"
        if f"{dense}.weight" in own:
            kernel = own[f"{dense}.weight"]
            shape = net.shapes[edge.source]
            if len(shape) == 3 and kernel.shape[1] != shape[-1]:  # flattened as (channel, H, W)
                height, width, maps = shape
                kernel = kernel.reshape(-1, maps, height, width).transpose(0, 2, 3, 1)
            kernel = kernel.reshape(kernel.shape[0], -1).T
            inner["Dense_0"] = {"kernel": kernel, "bias": own[f"{dense}.bias"]}
        wrapped = isinstance(edge.block, AllRows)
        params[edge.name] = {"block": inner} if wrapped else inner
        if running:
            stats[edge.name] = {"block": running} if wrapped else running
    return params, stats
