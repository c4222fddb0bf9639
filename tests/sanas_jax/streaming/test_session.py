"""A session on audio: equal to the whole stream at once, however it is cut, stopped and resumed."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from sanas_jax import gates
from sanas_jax.blocks import Dense
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.data.features import Frontend, extract
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.streaming.detector import Detector, detect, detector_init, detector_step
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.nets import random_like

RATE = 2000
SECONDS = 6.13  # ends in the middle of a frame


def small_model(conditioned=True):
    layers = (Layer("x"), Layer("h", nn.relu), Layer("f", nn.relu), Layer("y"))
    edges = (
        Edge("block", "x", "h", Separable(6, 5, 2, residual=False), gated=False),
        Edge("exit", "h", "f", Exit(5)),
        Edge("glance", "x", "f", Exit(5)),
        Edge("out", "f", "y", Dense(3), gated=False),
    )
    net = Net((51, 4, 1), layers, edges, "y", "f")
    return Sanas(net, Controller(nn.GRUCell(4), 0.0, conditioned), hop=10)


def frontend(padding, n_fft=60):
    mel = np.abs(np.random.default_rng(0).standard_normal((4, n_fft // 2 + 1)))
    return Frontend.create(
        mel, n_fft=n_fft, hop=20, sample_rate=RATE, padding=padding, mean=[1.0] * 4, std=[2.0] * 4
    )


MODEL = small_model()
DETECTOR = Detector(threshold=0.4, window_ms=300, suppression_ms=300, min_count=2)
STRICT = replace(DETECTOR, talk_threshold=0.6)


@pytest.fixture(scope="module", params=[("constant", 60), ("reflect", 60), ("reflect", 20)])
def case(request):
    """A runtime, a signal, and what the whole of it gives: posteriors, live edges, detections."""
    params = random_like(init_model(MODEL, jax.random.key(0)), 4)
    params["stats"] = jax.tree.map(jnp.abs, params["stats"])
    front = frontend(*request.param)
    runtime = Runtime(MODEL, params, front, programs=4)
    rng = np.random.default_rng(1)
    size = int(RATE * SECONDS)
    loud = np.repeat(rng.uniform(0, 0.3, 13), -(-size // 13))[:size]
    signal = (loud * rng.standard_normal(size)).clip(-1, 1).astype(np.float32)
    frames = extract(front, jnp.asarray(signal))[None, ..., None]
    carry = init_carry(MODEL, 1, 0.5, params["stats"])
    _, out = unroll(MODEL, params, carry, frames, jax.random.key(0), policy=gates.mode)
    posteriors = np.asarray(jax.nn.softmax(out.logits[:, 0]))
    times = 100 * np.arange(len(posteriors))
    found = detect(posteriors, times, DETECTOR)
    assert found
    live = np.asarray(out.live[:, 0])
    assert 0 < live[:, :2].mean() < 1
    return runtime, signal, posteriors, live, found


def listen(session, chunks):
    heard = [one for chunk in chunks for one in session.push(chunk)]
    return heard + session.finish()


def cut(signal, rng):
    """Random chunks: of one sample, of less than a frame, of several windows, and empty ones."""
    chunks = []
    while len(signal):
        size = int(rng.choice([0, 1, 7, 20, 61, 200, 555, 3000]) * rng.uniform(0.5, 1.5))
        chunks.append(signal[:size])
        signal = signal[size:]
    return chunks


def assert_equal(heard, case):
    _, _, posteriors, live, found = case
    assert [h.step for h in heard] == list(range(len(posteriors)))
    np.testing.assert_allclose([h.posterior for h in heard], posteriors, atol=1e-4)
    np.testing.assert_array_equal([h.live for h in heard], live)
    got = [h.detection for h in heard if h.detection]
    assert [(d.label, d.time_ms) for d in got] == [(d.label, d.time_ms) for d in found]
    np.testing.assert_allclose([d.score for d in got], [d.score for d in found], atol=1e-4)


def test_any_chunking_gives_what_the_whole_stream_gives(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5, detector=DETECTOR)
    rng = np.random.default_rng(2)
    for _ in range(80):  # three times, with the fixture's frontends
        session.reset()
        assert_equal(listen(session, cut(signal, rng)), case)
        assert session.seconds == len(signal) / RATE


def test_a_state_goes_on_in_another_session(case):
    runtime, signal = case[:2]
    rng = np.random.default_rng(3)
    for _ in range(10):
        chunks = cut(signal, rng)
        at = int(rng.integers(0, len(chunks) + 1))
        first = Session(runtime, cost_weight=0.5, detector=DETECTOR)
        heard = [one for chunk in chunks[:at] for one in first.push(chunk)]
        second = Session(runtime, cost_weight=9.0)
        second.load(first.save())
        assert_equal(heard + listen(second, chunks[at:]), case)


def test_talk_is_a_part_of_the_state(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5, detector=STRICT)
    heard, expected = session.push(signal), detector_init(STRICT)
    for each in heard:
        expected, _ = detector_step(STRICT, expected, each.posterior, each.time_ms)
    other = Session(runtime, cost_weight=0.5)
    other.load(session.save())
    state = serialization.msgpack_restore(other.save())
    assert 0.1 < state["talk"] == expected.talk
    del state["talk"]  # as a state has it that was saved before talk was heard
    other.load(serialization.msgpack_serialize(state))
    again = serialization.msgpack_restore(other.save())
    assert again.pop("talk") == 0
    assert serialization.msgpack_serialize(again) == serialization.msgpack_serialize(state)


def test_steps_come_as_soon_as_their_audio_is_there(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5)
    # The last frame of the window reaches half a frame beyond its centre.
    needed = 50 * 20 + runtime.frontend.n_fft // 2
    assert not session.push(signal[: needed - 1])
    assert len(session.push(signal[needed - 1 : needed])) == 1
    assert len(session.push(signal[needed : needed + 2 * 200])) == 2


def test_int16_is_audio_too(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5)
    whole = (signal * 32767).astype(np.int16)
    floats = listen(session, [whole.astype(np.float32) / 32768])
    session.reset()
    ints = listen(session, [whole])
    # Not to the last bit: threads of XLA share their sums as they come.
    found, expected = ([h.posterior for h in heard] for heard in (ints, floats))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_state_does_not_grow(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5, detector=DETECTOR)
    session.push(signal[:4000])
    size = len(session.save())
    for _ in range(5):
        session.push(signal[:4000])
        assert abs(len(session.save()) - size) < 200


def test_the_price_may_change_on_the_way(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5)
    before = session.push(signal[:3000])
    session.tell(20.0)
    after = session.push(signal[3000:])
    assert not np.allclose(after[-1].gamma, case[3][len(before) + len(after) - 1], atol=1e-3)
    session.reset()
    again = listen(session, [signal])
    assert not np.allclose(again[0].gamma, before[0].gamma, atol=1e-3)


def test_bad_input_is_refused(case):
    session = Session(case[0], cost_weight=0.5)
    with pytest.raises(
        ValueError, match=r"samples: expected \[n\] int16 or float, got int32 \(3,\)"
    ):
        session.push(np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="expected finite"):
        session.push(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"bytes of Session\.save"):
        session.load(b"nonsense")
    session.finish()
    assert session.finish() == []
    with pytest.raises(ValueError, match="reset it first"):
        session.push(np.zeros(3, np.float32))


def test_a_stream_shorter_than_a_window_has_no_steps(case):
    session = Session(case[0], cost_weight=0.5)
    assert listen(session, [np.zeros(100, np.float32)]) == []
    session.reset()
    assert listen(session, []) == []


def test_a_state_of_another_model_is_refused():
    plain = small_model(conditioned=False)
    params = init_model(plain, jax.random.key(0))
    session = Session(Runtime(plain, params, frontend("constant")))
    conditioned = Runtime(MODEL, init_model(MODEL, jax.random.key(0)), frontend("constant"))
    with pytest.raises(ValueError, match="state of this model"):
        session.load(Session(conditioned, cost_weight=1.0).save())
    with pytest.raises(ValueError, match="expected a conditioned controller"):
        session.tell(2.0)


def test_windows_with_gaps_are_refused():
    gappy = Sanas(MODEL.net, MODEL.controller, hop=52)
    params = init_model(gappy, jax.random.key(0))
    with pytest.raises(ValueError, match="hop ≤ 51, got 52"):
        Runtime(gappy, params, frontend("constant"))


DAMAGES = (
    lambda state: state.pop("tail"),
    lambda state: state.update(pending=np.zeros((2, 2), np.float32)),
    lambda state: state.update(pending=np.zeros(10**6, np.float32)),
    lambda state: state.update(tail=np.full(3, np.nan, np.float32)),
    lambda state: state.update(price="much"),
    lambda state: state.update(steps=1.5),
    lambda state: state.update(flags=[True]),
    lambda state: state["detector"].update(threshold=-1),
    lambda state: state.update(results=[[1.0]]),
    lambda state: state.update(fired_label=None),
    lambda state: state.update(memory=[*state["memory"][:-1], np.zeros(3)]),
)


def test_a_damaged_state_is_refused_and_the_session_goes_on(case):
    runtime, signal = case[:2]
    session = Session(runtime, cost_weight=0.5, detector=DETECTOR)
    first = session.push(signal[:3000])
    saved = session.save()
    for damage in DAMAGES:
        state = serialization.msgpack_restore(saved)
        state["memory"] = list(state["memory"])
        damage(state)
        with pytest.raises(ValueError, match=r"^saved: expected"):
            session.load(serialization.msgpack_serialize(state))
        assert session.save() == saved
    assert_equal(first + listen(session, [signal[3000:]]), case)
