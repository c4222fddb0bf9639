"""Forward mode: the tangents of `step` and `unroll`, or JAX's one line where a kernel has none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from tests.helpers.nets import random_like, stream_net

MODEL = Sanas(stream_net(), Controller(nn.GRUCell(3), 0.3), hop=2)
STEPS, STREAMS = 3, 2


def answers(of):
    """Logits and probabilities of every gate as a function of the parameters."""
    frames = MODEL.window + (STEPS - 1) * MODEL.hop
    stream = jax.random.normal(jax.random.key(0), (STREAMS, frames, *MODEL.net.input_shape[1:]))
    stream = stream.astype(jnp.float64)
    key = jax.random.key(1)

    def run(params):
        carry = init_carry(MODEL, STREAMS)
        if of == "unroll":
            out = unroll(MODEL, params, carry, stream, key, train=True)[1]
            return out.logits, out.gamma.probs
        outs = []
        for t in range(STEPS):
            window = stream[:, t * MODEL.hop : t * MODEL.hop + MODEL.window]
            carry, out = step(MODEL, params, carry, window, key, train=True)
            outs.append((out.logits, out.gamma.probs))
        return jax.tree.map(lambda *x: jnp.stack(x), *outs)

    return run


@pytest.mark.parametrize("of", ["step", "unroll"])
def test_tangents_are_those_of_reverse_mode(of, x64):
    """⟨u, J v⟩ is the same from either side, for J v of `jvp` and uᵀ J of `vjp`."""
    params = jax.tree.map(lambda x: x.astype(jnp.float64), init_model(MODEL, jax.random.key(0)))
    params, v, run = random_like(params, 1, 0.3), random_like(params, 2), answers(of)
    out, tangent = jax.jvp(run, (params,), (v,))
    u = random_like(out, 3)
    (pulled,) = jax.vjp(run, params)[1](u)

    def inner(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return sum(float(jnp.vdot(*pair)) for pair in pairs)

    assert inner(u, tangent) == pytest.approx(inner(pulled, v), rel=1e-10)
    # Through the state, too: the first Γ depends on the head alone, later ones on the cell.
    head = jax.tree.map(jnp.zeros_like, v["controller"]["head"])
    still = v | {"controller": v["controller"] | {"head": head}}
    moved = np.abs(jax.jvp(run, (params,), (still,))[1][1]).max((1, 2))
    assert moved[0] == 0
    assert (moved[1:] > 1e-6).all()


def test_where_a_kernel_has_a_gradient_of_its_own_jax_says_so():
    """Depthwise convolutions on a CPU: sums of shifts, whose gradient is written for reverse."""
    layers = (Layer("x"), Layer("a"), Layer("f"), Layer("y"))
    edges = (
        Edge("deep", "x", "a", Separable(3, 3, residual=False)),
        Edge("exit", "a", "f", Exit(4)),
        Edge("out", "f", "y", nn.Dense(3), gated=False),
    )
    model = Sanas(Net((6, 4, 1), layers, edges, output="y", features="f"), hop=2)
    params = init_model(model, jax.random.key(0))
    x = jnp.ones((2, 6, 4, 1))

    def run(net):
        carry = init_carry(model, 2, stats=params["stats"])
        return step(model, params | {"net": net}, carry, x, jax.random.key(1))[1].logits

    def forward_mode(net):
        return jax.jvp(run, (net,), (net,))

    with pytest.raises(TypeError, match=r"^can't apply forward-mode .* a custom_vjp function"):
        jax.jit(forward_mode).lower(params["net"])
    jax.jit(jax.grad(lambda net: run(net).sum())).lower(params["net"])
