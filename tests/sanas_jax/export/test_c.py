"""The C file of a network answers as the network does, however the audio is cut and resumed."""

import ctypes
import dataclasses
import importlib.util
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.live.engine import runtime_of
from experiments.live.native import native_runtime
from experiments.machine.compiler import NoCompilerError, compiled, find_compiler
from experiments.runs.trained import read_model
from sanas_jax import gates
from sanas_jax.blocks import Conv2D, Dense
from sanas_jax.blocks.audio import Energies, LogMel
from sanas_jax.blocks.separable import Crop, Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.data.features import extract
from sanas_jax.export.c import blocks
from sanas_jax.export.c.library import Library
from sanas_jax.export.c.source import c_source
from sanas_jax.export.c.text import constant, identifiers, rounded, write_taps, write_weights
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.fuzz_c import CASES, PADDINGS, NoSanitizersError, small_source, watched
from tests.helpers.nets_in_c import (
    CLASSES,
    DETECTOR,
    NETS,
    RATE,
    chain,
    dead_ends,
    front_of,
    frontend,
    gated,
    model_of,
    noise,
    source_of,
)

try:
    find_compiler()
except NoCompilerError as missing:
    pytest.skip(str(missing), allow_module_level=True)

OWN = dataclasses.replace(DETECTOR, thresholds=(0.6, 0.35))
PRICES = (0.2, 1.0, 5.0)


def fired(heard):
    """Of every step the word that fired and when, or None."""
    return [h.detection and (h.detection.label, h.detection.time_ms) for h in heard]


def library_of(model, params, front, static=False, folder=None, **options):
    source = source_of(model, params, front, static, **options)
    return Library(str(compiled(source, folder)), "small", model, front)


def whole(model, params, front, samples, price):
    """What `unroll` says of the whole recording: posteriors, live."""
    signal = samples.astype(np.float32) / 32768
    frames = extract(front, jnp.asarray(signal))[None, ..., None]
    carry = init_carry(model, 1, price, params["stats"])
    _, out = unroll(model, params, carry, frames, jax.random.key(0), policy=gates.mode)
    return np.asarray(jax.nn.softmax(out.logits[:, 0])), np.asarray(out.live[:, 0])


def cut(rng, samples):
    """Chunks of random sizes, some of them empty."""
    ends = np.sort(rng.integers(0, len(samples), rng.integers(1, 40)))
    return np.split(samples, ends)


@pytest.fixture(scope="module", params=NETS)
def case(request, tmp_path_factory):
    model, params = model_of(NETS[request.param]())
    folder = tmp_path_factory.mktemp("native")
    front = front_of(model.net)
    return model, params, front, library_of(model, params, front, folder=folder)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": Conv2D(2, (3, 1))}, "edge 'block': expected Separable.*got Conv2D"),
        ({"activation": nn.tanh}, "layer 'h': expected ReLU or no activation"),
        ({"cell": nn.SimpleCell(4)}, "controller: expected a GRU.*got SimpleCell"),
        ({"name": "2nd"}, "name: expected an identifier of C, got '2nd'"),
    ],
)
def test_what_has_no_form_in_c_is_refused_by_name(change, message):
    block = change.get("block", Separable(6, 5, 2))
    layers = (Layer("x"), Layer("h", change.get("activation", nn.relu)), Layer("y"))
    edges = (Edge("block", "x", "h", block), Edge("out", "h", "y", Dense(3), gated=False))
    net = Net((51, 6, 1), layers, edges, "y", "y")
    model = Sanas(net, Controller(change.get("cell", nn.GRUCell(4))), hop=10)
    params = init_model(model, jax.random.key(0))
    name = change.get("name", "small")
    with pytest.raises(ValueError, match=message):
        c_source(name, model, params, frontend(), CLASSES, DETECTOR, static=False)


def glances(*makers):
    """A network whose edges from the input, each with an exit, make bands or energies."""
    layers, edges = [Layer("x")], []
    for name, block in makers:
        layers.append(Layer(f"of_{name}"))
        edges += [
            Edge(name, "x", f"of_{name}", block),
            Edge(f"exit_{name}", f"of_{name}", "y", Exit(3), gated=False),
        ]
    return Net((53, 20, 1), (*layers, Layer("y")), tuple(edges), "y", "y")


def test_energies_may_be_looked_at_twice(tmp_path):
    model, params = model_of(glances(("few", Energies(2)), ("more", Energies(3))))
    front = dataclasses.replace(frontend(), raw=True)
    library = library_of(model, params, front, folder=tmp_path)
    posteriors, _ = whole(model, params, front, noise(), 1.0)
    heard = Session(library, cost_weight=1.0).push(noise())
    np.testing.assert_allclose([h.posterior for h in heard], posteriors[: len(heard)], atol=1e-5)


def test_bands_from_two_places_are_refused_by_name():
    bands = [LogMel(6, RATE, 60, 20.0, hz) for hz in (900.0, 800.0)]
    model = Sanas(glances(*zip(("mel", "more"), bands, strict=True)), Controller(nn.GRUCell(4)), 10)
    params = init_model(model, jax.random.key(0))
    front = dataclasses.replace(frontend(), raw=True)
    with pytest.raises(
        ValueError, match=r"edge 'more': expected mel bands from one place .* 'mel'"
    ):
        source_of(model, params, front)


def test_names_become_identifiers_of_their_own():
    assert identifiers(["a-b", "a_b", "A b", "ä"]) == {
        "a-b": "a_b",
        "a_b": "a_b_1",
        "A b": "a_b_2",
        "ä": "_",
    }


def test_constants_are_the_same_to_the_last_bit():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 1e-3
    text = constant("x", values)
    words = text[text.index("{") + 1 : text.index("}")].split(",")
    np.testing.assert_array_equal(np.array(words[:1000], np.float32), values)
    assert max(map(len, text.splitlines())) <= 100
    with pytest.raises(ValueError, match="x: expected finite numbers"):
        constant("x", [np.nan])


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
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("net", "hop"), CASES)
def test_sanitizers_find_nothing(net, hop, padding, tmp_path):
    source = small_source(net, hop, padding, "int8" if padding == "reflect" else "float32")
    try:
        done = watched(tmp_path, source, 5000)
    except NoSanitizersError:
        pytest.skip("no sanitizers here")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1000
    broken = source.replace("float ar[", "float ar[-1 + ", 1)
    assert watched(tmp_path, broken, 5000).returncode != 0


def test_rounded_weights_are_near_and_whole():
    weights = np.random.default_rng(0).standard_normal((50, 4)) * [1e-3, 1, 100, 0]
    whole, scale = rounded(weights)
    np.testing.assert_array_equal(whole, np.rint(whole))
    np.testing.assert_array_equal(np.abs(whole).max(0), [127, 127, 127, 0])
    assert (np.abs(whole * scale - weights) <= scale / 2 + 1e-12).all()
    assert scale[3] > 0


def test_int8_computes_with_the_rounded_weights_in_float32(case, tmp_path, monkeypatch):
    model, params, front, exact = case
    small = library_of(model, params, front, folder=tmp_path, weights="int8")

    def weights(source, name, kernel, bias, block):
        return write_weights(source, name, np.multiply(*rounded(kernel)), bias, block)

    def taps(source, name, values):
        return write_taps(source, name, np.multiply(*rounded(values)))

    # The controller's maps are written by the same function.
    monkeypatch.setattr(blocks, "write_weights", weights)
    monkeypatch.setattr(blocks, "write_taps", taps)
    same = library_of(model, params, front, folder=tmp_path)
    one, other, before = (
        Session(engine, cost_weight=0.5).push(noise()) for engine in (small, same, exact)
    )
    np.testing.assert_allclose(
        [h.posterior for h in one], [h.posterior for h in other], rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal([h.live for h in one], [h.live for h in other])
    moved = np.abs([a.posterior - b.posterior for a, b in zip(one, before, strict=True)])
    assert moved.max() > 1e-4


def test_other_weights_are_refused_by_name():
    model, params = model_of(chain())
    with pytest.raises(ValueError, match="weights: expected one of float32, int8, got 'int4'"):
        source_of(model, params, frontend(), weights="int4")


def compilers():
    """Those that are here, as commands."""
    found = {name: name for name in ("gcc", "clang") if shutil.which(name)}
    if importlib.util.find_spec("ziglang") is not None:
        found["zig"] = f"{sys.executable} -m ziglang cc"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_compilers_agree_and_have_nothing_to_say(compiler, tmp_path, monkeypatch):
    if compiler not in compilers():
        pytest.skip(f"no {compiler} here")
    model, params = model_of(chain())
    plain = Session(Runtime(model, params, frontend()), cost_weight=0.5, detector=DETECTOR)
    expected = plain.push(noise())
    monkeypatch.setenv("CC", compilers()[compiler])
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"]
    for weights in ("float32", "int8"):
        (tmp_path / "small.c").write_text(source_of(model, params, frontend(), weights=weights))
        call = [*find_compiler(), *strict, "-c", "small.c", "-o", "small.o"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    library = library_of(model, params, frontend(), folder=tmp_path)
    heard = Session(library, cost_weight=0.5, detector=DETECTOR).push(noise())
    np.testing.assert_array_equal([h.live for h in heard], [h.live for h in expected])
    np.testing.assert_allclose(
        [h.posterior for h in heard], [h.posterior for h in expected], atol=1e-5
    )
    assert fired(heard) == fired(expected)
    assert any(fired(heard))


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
