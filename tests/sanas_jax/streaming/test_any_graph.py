"""Any small graph gives the same on a stream however it is run, and however the stream is cut."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sanas_jax import gates
from sanas_jax.blocks import Dense, Identity
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.controller import Controller
from sanas_jax.data.features import Frontend, extract
from sanas_jax.export.program import samples_of
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from tests.helpers.nets import random_like

RATE, HOP, WINDOW, BANDS = 2000, 10, 51, 4
FIXED = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def graphs(draw: st.DrawFn) -> Net:
    """A chain of blocks over time with gated exits, some of them into a layer that may be kept."""
    exits = sorted(draw(st.sets(st.integers(0, 3), min_size=1)))
    layers, edges, maps = [Layer("x")], [], 0
    for i in range(exits[-1]):
        before, maps = maps, draw(st.sampled_from([3, 6]))
        residual = before == maps and draw(st.booleans())
        stride = draw(st.sampled_from([1, 2])) if i == 0 else 1
        block = Separable(maps, draw(st.sampled_from([3, 5])), stride, residual=residual)
        source = layers[-1].name
        layers.append(Layer(f"h{i + 1}", nn.relu))
        edges.append(Edge(f"block_{i}", source, f"h{i + 1}", block, gated=draw(st.booleans())))
    kept = [i for i in exits if draw(st.booleans())]
    for i in exits:
        target = "deep" if i in kept else "f"
        edges.append(Edge(f"exit_{i}", layers[i].name, target, Exit(5)))
    if kept:
        layers.append(Layer("deep"))
        edges.append(Edge("keep", "deep", "deep", Identity()))
        edges.append(Edge("pass", "deep", "f", Identity(), gated=draw(st.booleans())))
    layers += [Layer("f", nn.relu), Layer("y")]
    edges.append(Edge("out", "f", "y", Dense(3), gated=False))
    return Net((WINDOW, BANDS, 1), tuple(layers), tuple(edges), "y", "f")


def frontend() -> Frontend:
    mel = np.abs(np.random.default_rng(0).standard_normal((BANDS, 31)))
    return Frontend.create(mel, n_fft=60, hop=20, sample_rate=RATE, mean=[1.0] * 4, std=[2.0] * 4)


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    loud = rng.uniform(0, 0.3, 40).repeat(int(RATE * seconds) // 40)
    return (loud * rng.standard_normal(len(loud))).clip(-1, 1).astype(np.float32)


def by_onnx(
    model: Sanas, params: dict, front: Frontend, samples: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Posterior and live edges of every step."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from sanas_jax.export import onnx_graph, onnx_memory

    sizes = samples_of(model, front)
    graphs = (
        onnx_graph.begin_model(model, front, sizes.begin),
        onnx_graph.step_model(model, params, front, sizes.step, static=False),
    )
    begin, step = (onnxruntime.InferenceSession(g.SerializeToString()) for g in graphs)
    memory = onnx_memory.initial_memory(model, None)
    padded = np.pad(samples, front.n_fft // 2)
    first = {"samples": padded[: sizes.begin], "frames": memory["frames"]}
    (memory["frames"],) = begin.run(None, first)
    names, found = [out.name for out in step.get_outputs()], []
    for at in range(sizes.begin_advance, len(padded) - sizes.step + 1, sizes.step_advance):
        given = memory | {"samples": padded[at : at + sizes.step]}
        answer = dict(zip(names, step.run(names, given), strict=True))
        memory = {name: answer[f"next_{name}"] for name in memory}
        found.append((answer["posterior"], answer["live"]))
    return found


@pytest.mark.slow
@given(graphs(), st.integers(0, 99))
@settings(FIXED, max_examples=12)
def test_a_loop_the_whole_stream_a_session_and_onnx_agree(net: Net, seed: int) -> None:
    model = Sanas(net, Controller(nn.GRUCell(4), 0.0), hop=HOP)
    params = random_like(init_model(model, jax.random.key(seed)), seed)
    if "stats" in params:
        params["stats"] = jax.tree.map(jnp.abs, params["stats"])
    front, samples = frontend(), noise(3.0)
    frames = extract(front, jnp.asarray(samples))[None, ..., None]
    key = jax.random.key(0)
    carry = init_carry(model, 1, stats=params.get("stats"))
    _, whole = unroll(model, params, carry, frames, key, policy=gates.mode)
    posteriors = np.asarray(jax.nn.softmax(whole.logits[:, 0]))
    live = np.asarray(whole.live[:, 0])
    one = jax.jit(lambda carry, x: step(model, params, carry, x, key, policy=gates.mode))
    for t, expected in enumerate(posteriors):
        carry, out = one(carry, frames[:, t * HOP : t * HOP + WINDOW])
        np.testing.assert_allclose(jax.nn.softmax(out.logits[0]), expected, atol=1e-5)
        np.testing.assert_array_equal(out.live[0], live[t])
    session = Session(Runtime(model, params, front))
    heard = session.push(samples) + session.finish()
    ways = ([(h.posterior, h.live) for h in heard], by_onnx(model, params, front, samples))
    for way in ways:
        assert len(way) == len(posteriors)
        np.testing.assert_allclose([x for x, _ in way], posteriors, atol=1e-4)
        np.testing.assert_array_equal([x for _, x in way], live)


@pytest.fixture(scope="module")
def session() -> Session:
    exits = (Edge("glance", "x", "f", Exit(5)), Edge("exit", "h", "f", Exit(5)))
    block = Edge("block", "x", "h", Separable(6, 5, 2, residual=False), gated=False)
    edges = (block, *exits, Edge("out", "f", "y", Dense(3), gated=False))
    layers = (Layer("x"), Layer("h", nn.relu), Layer("f", nn.relu), Layer("y"))
    net = Net((WINDOW, BANDS, 1), layers, edges, "y", "f")
    model = Sanas(net, Controller(nn.GRUCell(4), 0.0), hop=HOP)
    params = random_like(init_model(model, jax.random.key(0)), 4)
    params["stats"] = jax.tree.map(jnp.abs, params["stats"])
    detector = Detector(threshold=0.4, window_ms=300, suppression_ms=300, min_count=2)
    return Session(Runtime(model, params, frontend()), detector=detector)


@given(st.lists(st.integers(0, 3000), max_size=30))
@settings(FIXED, max_examples=60)
def test_any_chunks_give_the_same_decisions(session: Session, sizes: list[int]) -> None:
    samples = noise(4.0)
    session.reset()
    whole = session.push(samples) + session.finish()
    assert any(heard.detection for heard in whole)
    session.reset()
    cut = []
    for chunk in np.split(samples, np.cumsum(sizes)):
        cut += session.push(chunk)
    cut += session.finish()
    assert [h.detection for h in cut] == [h.detection for h in whole]
    np.testing.assert_array_equal([h.posterior for h in cut], [h.posterior for h in whole])
    np.testing.assert_array_equal([h.live for h in cut], [h.live for h in whole])
