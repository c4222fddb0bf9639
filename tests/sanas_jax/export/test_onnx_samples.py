"""An ONNX step of a network that hears samples answers as a session does."""

import numpy as np
import pytest

from sanas_jax.export.program import samples_of
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.nets_in_c import front_of, gated, model_of, noise

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def test_bands_are_left_out_and_caught_up():
    from sanas_jax.export import onnx_graph, onnx_memory

    model, params = model_of(gated())
    front = front_of(model.net)
    counts = samples_of(model, front)
    begin, step = (
        ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (
            onnx_graph.begin_model(model, front, counts.begin),
            onnx_graph.step_model(model, params, front, counts.step, static=False),
        )
    )
    signal = noise().astype(np.float32) / 32768
    half = front.n_fft // 2
    audio = np.pad(signal, half)
    memory = onnx_memory.initial_memory(model, 1.0)

    def run(program, samples):
        names = [out.name for out in program.get_outputs()]
        known = {put.name for put in program.get_inputs()}
        given = {name: value for name, value in memory.items() if name in known}
        found = dict(zip(names, program.run(names, given | {"samples": samples}), strict=True))
        memory.update({n: found[f"next_{n}"] for n in memory if f"next_{n}" in found})
        return found

    run(begin, audio[: counts.begin])
    session = Session(Runtime(model, params, front), cost_weight=1.0)
    heard = session.push(signal) + session.finish()
    mel = model.net.index["mel"]
    assert 0 < np.mean([h.live[mel] for h in heard]) < 1
    for t, expected in enumerate(heard):
        at = counts.begin_advance + t * counts.step_advance
        found = run(step, audio[at : at + counts.step])
        np.testing.assert_array_equal(found["live"].ravel(), expected.live)
        np.testing.assert_allclose(found["posterior"].ravel(), expected.posterior, atol=1e-4)
