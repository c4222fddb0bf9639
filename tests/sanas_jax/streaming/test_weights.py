"""Transposed kernels: the same answers, for the dense edges that are large enough."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from sanas_jax.controller import Controller
from sanas_jax.forward import forward
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.spaces import kws_cnn
from sanas_jax.streaming import weights as layout
from sanas_jax.streaming.weights import by_output

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture(name="model", scope="module")
def make_model():
    return Sanas(kws_cnn(maps=(2, 2)), Controller(nn.GRUCell(4)))


@pytest.fixture(name="params", scope="module")
def make_params(model):
    return init_model(model, jax.random.key(0))


def test_by_output_changes_large_dense_edges_only_and_no_answer(model, params, monkeypatch):
    sizes = {
        name: weights["Dense_0"]["kernel"].size
        for name, weights in params["net"].items()
        if "Dense_0" in weights
    }
    monkeypatch.setattr(layout, "LARGE", sorted(sizes.values())[1])
    theirs, weights = by_output(model, params)
    changed = {edge.name for edge in theirs.net.edges if getattr(edge.block, "by_output", False)}
    assert changed == {name for name, size in sizes.items() if size >= layout.LARGE}
    assert 1 < len(changed) < len(sizes)
    x = jax.random.normal(jax.random.key(1), (2, *model.net.input_shape))
    gates = np.ones((2, len(model.net.edges)), np.float32)
    expected = forward(model.net, params["net"], gates, x)
    found = forward(theirs.net, weights["net"], gates, x)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)


def test_by_output_twice_is_once(model, params, monkeypatch):
    monkeypatch.setattr(layout, "LARGE", 1)
    once, weights = by_output(model, params)
    assert by_output(once, weights)[0] == once


def test_by_output_leaves_small_models_as_they_are(model, params, monkeypatch):
    monkeypatch.setattr(layout, "LARGE", 10**9)
    same, weights = by_output(model, params)
    assert same == model
    assert weights["net"] == params["net"]
