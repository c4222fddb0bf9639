"""What the C file of a network says: constants, rounded weights, refusals; compilers read it."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from experiments.machine.compiler import find_compiler
from sanas_jax.blocks import Conv2D, Dense
from sanas_jax.blocks.audio import LogMel
from sanas_jax.blocks.separable import Separable
from sanas_jax.controller import Controller
from sanas_jax.export.c import blocks
from sanas_jax.export.c.source import c_source
from sanas_jax.export.c.text import constant, identifiers, rounded, write_taps, write_weights
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.compiled_c import fired, library_of, skip_without_compiler
from tests.helpers.fuzz_c import CASES, PADDINGS, NoSanitizersError, small_source, watched
from tests.helpers.nets_in_c import (
    CLASSES,
    DETECTOR,
    RATE,
    chain,
    frontend,
    glances,
    model_of,
    noise,
    source_of,
)

skip_without_compiler()


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
    broken = source.replace("float a[SPACE]", "float a[SPACE - 1]", 1)
    assert broken != source
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
