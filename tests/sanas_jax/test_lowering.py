"""Programs for accelerators: every update and the step of a stream lower for CUDA and TPU."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sanas_jax import spaces
from sanas_jax.controller import Constant, Controller
from sanas_jax.costs import macs, relative
from sanas_jax.estimators import disarm
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.streaming import dead_answers, init_memory, stream_step
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    Teach,
    init_state,
    make_evaluate,
    make_static_evaluate,
    make_static_update,
    make_update,
)
from sanas_jax.training.optimizer import make_optimizer

PLATFORMS = ["cuda", "tpu"]
# Wide enough for the branches that are chosen by size and platform to be there.
NETS = {
    "paper": lambda: spaces.kws_cnn("cnn-trad-fpool3", shortcuts=True, num_classes=12),
    "separable": lambda: spaces.separable(reuse=False),
}
OBJECTIVES = {
    "static": {"static": True},
    "sandwich": {
        "score": Score(samples=2),
        "teach": Teach(full_weight=0.5, distill_weight=0.5),
        "measure_mode": True,
    },
    "disarm": {"score": Score(disarm(), discount=0.0)},
    "bfloat16": {"precision": "bfloat16"},
}
QUICK = ("paper", "sandwich")


def sanas_of(name):
    return Sanas(NETS[name](), Controller(nn.GRUCell(8)), hop=20)


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def lowered(function, *args, platforms=PLATFORMS):
    """The program for these platforms."""
    found = export.export(jax.jit(function), platforms=platforms)(*args)
    assert found.platforms == tuple(platforms)
    return found.mlir_module()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if (name, kind) == QUICK else pytest.mark.slow)
        for name in NETS
        for kind in OBJECTIVES
    ],
)
def test_updates_lower(name, kind):
    model = sanas_of(name)
    objective = Objective(Price(relative(model.net, macs(model.net))), **OBJECTIVES[kind])
    optimizer = make_optimizer(learning_rate=1e-3)
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(partial(init_state, model, optimizer, objective), key)
    steps, batch = 4, 64
    frames = model.window + (steps - 1) * model.hop
    streams = Batch(
        jnp.zeros((batch, frames, *model.net.input_shape[1:])),
        jnp.zeros((steps, batch), jnp.int32),
        jnp.ones((steps, batch), bool),
    )
    budget = Budget(jnp.float32(0.1), jnp.float32(0))
    update = make_update(model, optimizer, objective)
    program = lowered(update, state, abstract(streams), key, budget)
    if (name, kind) == QUICK:  # on a CPU some convolutions are transforms in their place
        on_cpu = lowered(update, state, abstract(streams), key, budget, platforms=["cpu"])
        assert on_cpu.count("stablehlo.convolution") < program.count("stablehlo.convolution")
    lowered(make_evaluate(model, objective), state.params, abstract(streams))


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k == "sandwich" else pytest.mark.slow) for k in OBJECTIVES]
)
def test_updates_of_images_lower(kind):
    net = spaces.fabric(2, 8, input_shape=(8, 8, 1))
    model = Sanas(net, Controller(Constant()))
    objective = Objective(Price(relative(net, macs(net))), **OBJECTIVES[kind])
    optimizer = make_optimizer(learning_rate=1e-3)
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(partial(init_state, model, optimizer, objective), key)
    images = abstract(Batch(jnp.zeros((64, 8, 8, 1)), jnp.zeros(64, int), jnp.ones(64, bool)))
    budget = Budget(jnp.float32(0.1), jnp.float32(0))
    update = make_static_update(model, optimizer, objective)
    assert "stablehlo.while" not in lowered(update, state, images, key, budget)  # no steps
    lowered(make_static_evaluate(model, objective), state.params, images)


@pytest.mark.parametrize("name", ["paper", pytest.param("separable", marks=pytest.mark.slow)])
def test_the_step_of_a_stream_lowers(name):
    model = sanas_of(name)
    params = init_model(model, jax.random.key(0))
    answers = dead_answers(model.net, params)
    memory = init_memory(model)
    frames = np.zeros((model.hop, *model.net.input_shape[1:]), np.float32)

    def run(memory, frames, key):
        return stream_step(model, params, answers, memory, frames, key)

    lowered(run, abstract(memory), frames, jax.eval_shape(jax.random.key, 0))
