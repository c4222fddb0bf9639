"""Programs of their own: the same answers as the program for all, and taken by what occurs most."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from sanas_jax import gates
from sanas_jax.controller import Controller
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.streaming.runtime import OCCURRENCES, Runtime, Stream
from tests.helpers.nets import random_like
from tests.sanas_jax.streaming.test_step import conv_net, joined_net

pytestmark = pytest.mark.usefixtures("strict")
STEPS = 40


def prepare(net):
    model = Sanas(net, Controller(nn.GRUCell(4), 0.0), hop=4)
    params = random_like(init_model(model, jax.random.key(0)), 0)
    if "stats" in params:  # variances
        params["stats"] = jax.tree.map(np.abs, params["stats"])
    frames = model.window + (STEPS - 1) * model.hop
    shape = (frames, *model.net.input_shape[1:])
    return model, params, np.asarray(jax.random.normal(jax.random.key(1), shape))


def run(runtime, frames):
    model, stream = runtime.model, Stream(runtime)
    stream.begin(frames[: runtime.first_frames])
    out = []
    for t in range(STEPS):
        runtime.settle()  # or which program runs would be a matter of chance
        end = model.window + t * model.hop
        out.append(stream.step(frames[end - model.hop : end]))
    return [np.stack(values) for values in zip(*out, strict=True)]


@pytest.mark.parametrize("net", [conv_net, joined_net])
@pytest.mark.slow
def test_own_programs_answer_as_unroll_does(net):
    model, params, frames = prepare(net())
    key = jax.random.key(2)
    carry = init_carry(model, 1, stats=params.get("stats"))
    _, expected = unroll(model, params, carry, frames[None], key, policy=gates.sample)
    runtime = Runtime(model, params, None, policy=gates.sample, key=key, programs=4)
    posterior, live, gamma = run(runtime, frames)
    np.testing.assert_array_equal(live, expected.live[:, 0])
    np.testing.assert_allclose(posterior, jax.nn.softmax(expected.logits[:, 0]), atol=1e-5)
    np.testing.assert_allclose(gamma, expected.gamma.probs[:, 0], atol=1e-5)
    assert runtime.settle() > 1  # or the programs were never asked


def test_what_occurs_most_gets_a_program_and_no_more_than_asked_for():
    model, params, frames = prepare(conv_net())
    runtime = Runtime(model, params, None, programs=2)
    often, seldom, late = (bytes(np.full(5, n, np.int16)) for n in (1, 2, 0))
    x = frames[: model.hop]
    for _ in range(OCCURRENCES - 1):
        assert runtime.program(often, x) == runtime.anything
        runtime.program(seldom, x)
    assert runtime.settle() == 0
    runtime.program(often, x)
    assert runtime.settle() == 1
    assert runtime.program(often, x) != runtime.anything
    assert runtime.program(seldom, x) == runtime.anything
    assert runtime.settle() == 2
    for _ in range(2 * OCCURRENCES):
        assert runtime.program(late, x) == runtime.anything
    assert runtime.settle() == 2


def test_without_programs_nothing_is_compiled_beside():
    model, params, frames = prepare(conv_net())
    runtime = Runtime(model, params, None)
    run(runtime, frames)
    assert runtime.settle() == 0


def test_after_close_nothing_more_is_compiled():
    model, params, frames = prepare(conv_net())
    runtime = Runtime(model, params, None, programs=2)
    runtime.close()
    turns = bytes(np.ones(5, np.int16))
    for _ in range(2 * OCCURRENCES):
        assert runtime.program(turns, frames[: model.hop]) == runtime.anything
    assert runtime.settle() == 0
