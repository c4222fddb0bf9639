"""A network that hears samples: bands that were left out are caught up, however audio is cut."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import gates
from sanas_jax.controller import Controller
from sanas_jax.data.features import PADDINGS, extract
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.nets_in_c import front_of, gated, model_of, noise

KEY = jax.random.key(3)


@pytest.fixture(scope="module", params=PADDINGS)
def case(request):
    """A runtime whose gates are drawn and rarely on, a signal, what the whole of it gives."""
    model, params = model_of(gated())
    model = Sanas(model.net, Controller(nn.GRUCell(4), 0.0, conditioned=True), hop=10)
    head = params["controller"]["head"]
    head |= {"kernel": 0.1 * head["kernel"], "bias": 0.1 * (head["bias"] + 3) - 2.8}
    front = front_of(model.net, request.param)
    signal = noise().astype(np.float32) / 32768
    rows = extract(front, jnp.asarray(signal))[None, ..., None]
    carry = init_carry(model, 1, 0.5, params["stats"])
    _, out = unroll(model, params, carry, rows, KEY, policy=gates.sample)
    runtime = Runtime(model, params, front, policy=gates.sample, key=KEY)
    posteriors = np.asarray(jax.nn.softmax(out.logits[:, 0]))
    return runtime, signal, posteriors, np.asarray(out.live[:, 0])


def test_bands_are_left_out_for_a_window_and_more(case):
    runtime, _, _, live = case
    mel = live[:, runtime.model.net.index["mel"]] > 0
    off = "".join("x" if on else "." for on in mel)
    assert 0.1 < mel.mean() < 0.9
    assert any(len(gap) >= 6 for gap in off.strip(".").split("x"))


def test_as_many_steps_at_the_same_times_as_of_frames(case):
    runtime, signal, posteriors, _ = case
    frames = extract(dataclasses.replace(runtime.frontend, raw=False), jnp.asarray(signal))
    assert len(posteriors) == (len(frames) - 51) // 10 + 1
    session = Session(runtime, cost_weight=0.5)
    needed = 50 * 20 + runtime.frontend.n_fft // 2
    assert not session.push(signal[: needed - 1])
    assert len(session.push(signal[needed - 1 : needed])) == 1


def test_any_chunking_and_stop_gives_what_the_whole_stream_gives(case):
    runtime, signal, posteriors, live = case
    rng = np.random.default_rng(1)
    for _ in range(4):
        session = Session(runtime, cost_weight=0.5)
        ends = np.sort(rng.integers(0, len(signal), rng.integers(1, 40)))
        heard = []
        for chunk in np.split(signal, ends):
            saved, session = session.save(), Session(runtime, cost_weight=9.0)
            session.load(saved)
            heard += session.push(chunk)
        heard += session.finish()
        np.testing.assert_array_equal([h.live for h in heard], live)
        np.testing.assert_allclose([h.posterior for h in heard], posteriors, atol=1e-4)
