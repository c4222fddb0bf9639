"""Small nets for the tests of the core."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.graph import Edge, Layer, Net


class Scale(nn.Module):
    """x → w·x + c with scalars w and c: arithmetic that can be followed by hand."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        w = self.param("w", nn.initializers.ones, ())
        c = self.param("c", nn.initializers.zeros, ())
        return w * x + c


def dag(
    pairs: Sequence[tuple[int, int]],
    num_layers: int,
    *,
    features: int,
    width: int = 3,
    always: Sequence[int] = (),
    activation: bool = True,
) -> Net:
    """A net of dense layers over layers l0..l(n−1); the last is the output.

    Edge i→j is called "i-j"; `always` lists the positions of the edges without a gate.
    """
    layers = [Layer(f"l{i}", nn.relu if activation and i else None) for i in range(num_layers)]
    layers[-1] = Layer(layers[-1].name)
    edges = [
        Edge(f"{i}-{j}", f"l{i}", f"l{j}", Dense(width), gated=e not in always)
        for e, (i, j) in enumerate(pairs)
    ]
    return Net((width,), tuple(layers), tuple(edges), f"l{num_layers - 1}", f"l{features}")


def random_dag(seed: int, max_edges: int = 9) -> Net:
    """A random net of the kind above: every layer is reached; some edges have no gate."""
    rng = np.random.default_rng(seed)
    num_layers = int(rng.integers(3, 7))
    pairs = [(int(rng.integers(0, j)), j) for j in range(1, num_layers)]
    while len(pairs) < max_edges:
        i = int(rng.integers(0, num_layers - 1))
        pairs.append((i, int(rng.integers(i + 1, num_layers))))
    order = rng.permutation(len(pairs))
    # Parallel edges are allowed, but names are unique.
    named = dict.fromkeys(pairs[i] for i in order)
    always = [e for e in range(len(named)) if rng.random() < 0.15]
    features = int(rng.integers(1, num_layers))
    return dag(list(named), num_layers, features=features, width=2, always=always)


def all_gates(num_edges: int) -> np.ndarray:
    """Every architecture, [2^E, E]."""
    bits = np.arange(2**num_edges)[:, None] >> np.arange(num_edges)
    return (bits & 1).astype(np.float32)


def stream_net(
    window: int = 6, width: int = 2, num_classes: int = 3, *, shortcut_gates: bool = True
) -> Net:
    """A convolution over time, shortcuts, and an always-on classifier; 3 gates on a stream."""
    layers = (Layer("x"), Layer("h", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("conv", "x", "h", Conv2D(2, (3, 1))),
        Edge("short", "x", "f", Dense(width), gated=shortcut_gates),
        Edge("deep", "h", "f", Dense(width)),
        Edge("out", "f", "y", Dense(num_classes), gated=False),
    )
    return Net((window, 1, 1), layers, edges, output="y", features="f")


def early_join_net(window: int = 8) -> Net:
    """Two convolutions that meet at once, then a third one and dense layers: a small trunk."""
    layers = (
        Layer("x"),
        Layer("a", nn.relu),
        Layer("sum", nn.relu),
        Layer("b", nn.relu),
        Layer("f", nn.relu),
        Layer("y"),
    )
    edges = (
        Edge("c0", "x", "a", Conv2D(2, (3, 2))),
        Edge("c1", "a", "sum", Conv2D(2, (2, 1))),
        Edge("c2", "x", "sum", Conv2D(2, (4, 2))),
        Edge("c3", "sum", "b", Conv2D(3, (2, 2), pool=(2, 1))),
        Edge("skip", "a", "f", Dense(4)),
        Edge("d", "b", "f", Dense(4)),
        Edge("keep", "f", "y", Dense(3), gated=False),
    )
    return Net((window, 5, 1), layers, edges, output="y", features="f")


def identity_net() -> Net:
    """x → f (gated identity) → y (always on)."""
    layers = (Layer("x"), Layer("f"), Layer("y"))
    edges = (
        Edge("i", "x", "f", Identity()),
        Edge("o", "f", "y", Dense(2), gated=False),
    )
    return Net((2,), layers, edges, output="y", features="f")


def random_like(tree, seed: int, scale: float = 0.7):
    """A tree of normal numbers with the shapes and types of `tree`, biases included."""
    leaves, treedef = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return treedef.unflatten(
        [jnp.asarray(scale * rng.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves]
    )


def relative_error(got, expected):
    """Largest error of a tree relative to its largest entry."""
    error = max(
        float(np.abs(a - b).max())
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True)
    )
    return error / max(float(np.abs(b).max()) for b in jax.tree.leaves(expected))
