"""The C file of a network answers as the network does, however the audio is cut and resumed."""

import ctypes
import dataclasses

import flax.linen as nn
import numpy as np
import pytest

from experiments.live.engine import runtime_of
from experiments.live.native import native_runtime
from experiments.runs.trained import read_model
from sanas_jax import gates
from sanas_jax.blocks.audio import Energies
from sanas_jax.blocks.separable import Crop, Exit
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.compiled_c import fired, library_of, skip_without_compiler, whole
from tests.helpers.fuzz_c import PADDINGS
from tests.helpers.nets_in_c import (
    CLASSES,
    DETECTOR,
    chain,
    dead_ends,
    front_of,
    frontend,
    gated,
    glances,
    model_of,
    noise,
)

skip_without_compiler()

OWN = dataclasses.replace(DETECTOR, thresholds=(0.6, 0.35))
STRICT = dataclasses.replace(OWN, talk_threshold=0.5, talk_share=0.1, talk_ms=300)
PRICES = (0.2, 1.0, 5.0)


def cut(rng, samples):
    """Chunks of random sizes, some of them empty."""
    ends = np.sort(rng.integers(0, len(samples), rng.integers(1, 40)))
    return np.split(samples, ends)


def test_it_answers_as_unroll_does_however_the_audio_is_cut(case):
    model, params, front, library = case
    rng, samples = np.random.default_rng(2), noise()
    moved = np.zeros(len(model.net.edges))
    for price in PRICES:
        posteriors, live = whole(model, params, front, samples, price)
        moved += live.mean(0) * (1 - live.mean(0))
        for _ in range(3):
            session = Session(library, cost_weight=price, detector=DETECTOR)
            heard = [h for chunk in cut(rng, samples) for h in session.push(chunk)]
            heard += session.finish()
            np.testing.assert_allclose([h.posterior for h in heard], posteriors, atol=1e-5)
            np.testing.assert_array_equal([h.live for h in heard], live)
    gated = [edge.gated for edge in model.net.edges]
    assert (moved[gated] > 0.01).sum() >= 2  # edges that go and come back
    if front.raw:
        assert moved[model.net.index["mel"]] > 0.1


def test_an_engine_goes_on_from_what_the_other_saved(case):
    model, params, front, library = case
    runtime = Runtime(model, params, front)
    samples, rng = noise(), np.random.default_rng(3)
    one = Session(runtime, cost_weight=0.5, detector=DETECTOR)
    expected = one.push(samples) + one.finish()
    session, heard = Session(library, cost_weight=0.5, detector=DETECTOR), []
    for i, chunk in enumerate(cut(rng, samples)):
        saved = session.save()
        session = Session((runtime, library)[i % 2], cost_weight=9.0)
        session.load(saved)
        heard += session.push(chunk)
    heard += session.finish()
    np.testing.assert_allclose(
        [h.posterior for h in heard], [h.posterior for h in expected], atol=1e-5
    )
    np.testing.assert_array_equal([h.live for h in heard], [h.live for h in expected])
    np.testing.assert_allclose([h.gamma for h in heard], [h.gamma for h in expected], atol=1e-5)
    assert [h.detection and h.detection.label for h in heard] == [
        h.detection and h.detection.label for h in expected
    ]


def test_the_price_may_change(case):
    model, params, front, library = case
    samples, sides = noise(), []
    for engine in (Runtime(model, params, front), library):
        session = Session(engine, cost_weight=PRICES[0])
        heard = session.push(samples[:9000])
        session.tell(PRICES[-1])
        sides.append(heard + session.push(samples[9000:]))
    gammas = [[h.gamma for h in heard] for heard in sides]
    np.testing.assert_allclose(gammas[1], gammas[0], atol=1e-5)
    untold = Session(library, cost_weight=PRICES[0]).push(samples)
    assert np.abs(untold[-1].gamma - sides[1][-1].gamma).max() > 1e-3
    with pytest.raises(ValueError, match="cost_weight: expected a price above 0"):
        library.stream(None)


@pytest.mark.parametrize(
    ("net", "front", "hop", "detector"),
    [
        (dead_ends, ("constant", 14, 14), 7, DETECTOR),
        (dead_ends, ("reflect", 44, 10), 10, DETECTOR),
        (dead_ends, ("reflect", 44, 10), 10, OWN),
        (dead_ends, ("reflect", 44, 10), 10, STRICT),
        (dead_ends, ("reflect", 20, 20), 10, DETECTOR),
        (gated, ("constant",), 10, DETECTOR),
        (gated, ("reflect",), 10, DETECTOR),
    ],
)
def test_a_c_program_hears_what_a_session_hears(net, front, hop, detector, tmp_path):
    model, params = model_of(net(), hop=hop)
    front = front_of(model.net, *front) if net is gated else frontend(*front)
    library = library_of(model, params, front, folder=tmp_path, detector=detector)
    samples = noise(4.17)
    session = Session(library, cost_weight=0.5, detector=detector)
    expected = session.push(samples) + session.finish()
    (path,) = tmp_path.glob("*.so")
    found = by_steps(path, model, front, samples, 0.5)
    assert [r.step for r in found] == [h.step for h in expected]
    assert [r.time_ms for r in found] == [h.time_ms for h in expected]
    np.testing.assert_array_equal([r.posterior for r in found], [h.posterior for h in expected])
    words = [(r.word, r.score) for r in found]
    assert words == [
        (-1, 0) if h.detection is None else (h.detection.label, np.float32(h.detection.score))
        for h in expected
    ]
    assert len({word for word, _ in words}) >= 2
    if detector is STRICT:
        session = Session(library, cost_weight=0.5, detector=OWN)
        more = session.push(samples) + session.finish()
        assert sum(map(bool, fired(expected))) < sum(map(bool, fired(more)))
    if hop == 10:
        posteriors, _ = whole(model, params, front, samples, 0.5)
        np.testing.assert_allclose([r.posterior for r in found], posteriors, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("hop", [13, 26])
def test_no_step_is_lost_where_zeros_and_half_a_frame_are_one(hop, padding, tmp_path):
    model, params = model_of(gated(), hop=hop)
    front = front_of(model.net, padding)
    library = library_of(model, params, front, folder=tmp_path)
    (path,) = tmp_path.glob("*.so")
    size, samples = hop * front.hop, noise()
    for steps in range(8):
        for rest in (0, 1, front.n_fft // 2, size - 1):
            audio = samples[: steps * size + rest]
            session = Session(library, cost_weight=0.5, detector=DETECTOR)
            expected = session.push(audio) + session.finish()
            found = by_steps(path, model, front, audio, 0.5)
            assert [r.step for r in found] == [h.step for h in expected]
            posteriors = [h.posterior for h in expected]
            np.testing.assert_array_equal([r.posterior for r in found], posteriors)
    assert len(expected) > 3


def by_steps(path, model, front, samples, price):
    """Results of `small_step` and `small_finish`."""
    edges = len(model.net.edges)

    class Result(ctypes.Structure):
        _fields_ = (
            ("posterior", ctypes.c_float * 3),
            ("live", ctypes.c_float * edges),
            ("gamma", ctypes.c_float * edges),
            ("score", ctypes.c_float),
            ("word", ctypes.c_int32),
            ("step", ctypes.c_int32),
            ("time_ms", ctypes.c_double),
        )

    loaded, found = ctypes.CDLL(str(path)), []
    words = (ctypes.c_char_p * 3).in_dll(loaded, "small_words")
    assert [word.decode() for word in words] == list(CLASSES)
    state = (ctypes.c_char * 1_000_000)()
    loaded.small_init(state, ctypes.c_float(price))
    size = model.hop * front.hop

    def take(name, *args):
        result = Result()
        decided = loaded[name](state, *args, ctypes.byref(result))
        found.extend([result] * decided)
        return decided

    whole_steps = len(samples) // size * size
    for at in range(0, whole_steps, size):
        take("small_step", samples[at : at + size].ctypes.data_as(ctypes.c_void_p))
    rest = np.ascontiguousarray(samples[whole_steps:])
    left = len(rest)
    while take("small_finish", rest.ctypes.data_as(ctypes.c_void_p), left):
        left = 0
    assert not take("small_step", rest.ctypes.data_as(ctypes.c_void_p))  # it has ended
    return found


def test_a_frontend_of_mfcc_hears_the_same(tmp_path):
    model, params = model_of(dead_ends())
    front = dataclasses.replace(frontend(), cepstral=True)
    samples = noise()
    samples[6000:9000] = 0  # of which no band has any power
    posteriors, _ = whole(model, params, front, samples, 1.0)
    library = library_of(model, params, front, folder=tmp_path)
    session = Session(library, cost_weight=1.0)
    heard = session.push(samples) + session.finish()
    np.testing.assert_allclose([h.posterior for h in heard], posteriors, atol=1e-5)


def test_a_static_network_runs_everything(tmp_path):
    model, params = model_of(chain(), conditioned=False)
    runtime = Runtime(model, params, frontend(), policy=gates.all_on)
    library = library_of(model, params, frontend(), static=True, folder=tmp_path)
    heard = [Session(engine).push(noise()) for engine in (runtime, library)]
    np.testing.assert_allclose(*([h.posterior for h in side] for side in heard), atol=1e-5)
    off = [e.name for e, on in zip(model.net.edges, heard[1][0].live, strict=True) if not on]
    assert off == ["keep"]


def test_energies_may_be_looked_at_twice(tmp_path):
    model, params = model_of(glances(("few", Energies(2)), ("more", Energies(3))))
    front = dataclasses.replace(frontend(), raw=True)
    library = library_of(model, params, front, folder=tmp_path)
    posteriors, _ = whole(model, params, front, noise(), 1.0)
    heard = Session(library, cost_weight=1.0).push(noise())
    np.testing.assert_allclose([h.posterior for h in heard], posteriors[: len(heard)], atol=1e-5)


def test_a_crop_and_an_exit_are_of_the_middle_rows(tmp_path):
    layers = (Layer("x"), Layer("h", nn.relu), Layer("y"))
    edges = (Edge("crop", "x", "h", Crop(5, 2)), Edge("out", "h", "y", Exit(3), gated=False))
    net = Net((51, 6, 1), layers, edges, "y", "y")
    model, params = model_of(net)
    library = library_of(model, params, frontend(), folder=tmp_path)
    posteriors, _ = whole(model, params, frontend(), noise(), 1.0)
    heard = Session(library, cost_weight=1.0).push(noise())
    np.testing.assert_allclose([h.posterior for h in heard], posteriors[: len(heard)], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kws", "kws_noise"])
def test_shipped_models_answer_as_with_xla(name):
    from tests.experiments.test_listen import bursts

    model = read_model(f"pretrained:{name}")
    xla, library = runtime_of(model), native_runtime(model)
    samples, rng = np.tile(bursts().astype(np.float32), 4), np.random.default_rng(0)
    for price in (0.03, 0.1, 0.4, 1.0):
        sides = []
        for engine in (xla, library):
            session = Session(engine, cost_weight=price, detector=Detector(0.3))
            heard = []
            for chunk in cut(rng, samples):
                heard += session.push(chunk)
                saved = session.save()
                session = Session(engine, cost_weight=1.0)
                session.load(saved)
            sides.append(heard + session.finish())
        for field, tolerance in (("posterior", 1e-5), ("gamma", 2e-5), ("live", 0)):
            got, expected = ([getattr(h, field) for h in side] for side in sides)
            np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
        assert fired(sides[0]) == fired(sides[1])
