"""Measured seconds per edge: one number each, kept for the device and network they are of."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import edge_timing
from experiments.config.edge_timing import describe, edge_times, measure_edges
from sanas_jax import costs
from sanas_jax.blocks import Dense, Identity
from sanas_jax.forward import init
from sanas_jax.graph import Edge, Layer, Net
from tests.helpers.nets import identity_net, stream_net

NET = stream_net()
PARAMS = init(NET, jax.random.key(0))


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(edge_timing, "SECONDS_PER_EDGE", 0.0)


@pytest.fixture
def measured(monkeypatch):
    """Batch sizes of the measurements, which are not made: edge e takes e + 1 seconds."""
    calls = []

    def measure(net, params, *, batch):
        calls.append(batch)
        return {name: e + 1.0 for name, e in net.index.items()}

    monkeypatch.setattr(edge_timing, "measure_edges", measure)
    return calls


class Normalised(nn.Module):
    """A block that keeps more than parameters."""

    @nn.compact
    def __call__(self, x, *, train=False, live=None):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))


class Pointwise(nn.Module):
    """Functions in a field: they are shown with their addresses."""

    fns: tuple

    @nn.compact
    def __call__(self, x):
        for fn in self.fns:
            x = fn(x)
        return x


def one_edge(block: nn.Module, width: int = 3) -> Net:
    return Net((width,), (Layer("x"), Layer("y")), (Edge("e", "x", "y", block),), "y", "y")


def test_measure_edges_is_a_table_of_costs():
    times = measure_edges(NET, PARAMS, batch=2)
    assert list(times) == [edge.name for edge in NET.edges]
    assert all(isinstance(seconds, float) and 0 < seconds < 60 for seconds in times.values())
    total = costs.table(NET, times)(jnp.ones(4))
    np.testing.assert_allclose(total, sum(times.values()), rtol=1e-5)


@pytest.mark.parametrize("net", [one_edge(Normalised()), identity_net()])
def test_measure_edges_of_blocks_with_statistics_or_without_parameters(net):
    times = measure_edges(net, init(net, jax.random.key(0)))
    assert set(times) == set(net.index)


def test_measure_edges_runs_the_given_parameters_on_its_inputs(monkeypatch):
    seen = []
    monkeypatch.setattr(
        edge_timing, "_median_seconds", lambda fn, *args: seen.append(fn(*args)) or 1.0
    )
    params = jax.tree.map(jnp.zeros_like, PARAMS)
    measure_edges(NET, params, batch=3)
    assert [y.shape for y in seen] == [(3, *NET.shapes[edge.target]) for edge in NET.edges]
    assert not any(y.any() for y in seen)


def test_measure_edges_bad_arguments_raise():
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        measure_edges(NET, PARAMS, batch=0)
    with pytest.raises(ValueError, match=r"params: expected those of .*, got \['conv'\]"):
        measure_edges(NET, {"conv": PARAMS["conv"]})


def test_edge_times_are_measured_once(tmp_path, measured):
    path = tmp_path / "new" / "times.json"
    first = edge_times(NET, PARAMS, path)
    assert first == {"conv": 1.0, "short": 2.0, "deep": 3.0, "out": 4.0}
    assert edge_times(NET, PARAMS, path) == first
    assert measured == [1]
    assert [file.name for file in path.parent.iterdir()] == ["times.json"]
    record = json.loads(path.read_text())
    assert record == describe(NET, 1) | {"seconds": first}
    assert {"platform", "kind", "jax", "processor", "cores"} <= set(record["device"])


def test_edge_times_keep_the_order_of_the_net(tmp_path, measured):
    path = tmp_path / "times.json"
    times = edge_times(NET, PARAMS, path)
    record = json.loads(path.read_text())
    record["seconds"] = dict(reversed(record["seconds"].items()))
    path.write_text(json.dumps(record))
    assert list(edge_times(NET, PARAMS, path).items()) == list(times.items())
    assert len(measured) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"text"', "{}", '{"seconds": {}}', "\x00", "null"],
)
def test_edge_times_corrupt_file_is_measured_anew(tmp_path, measured, text):
    path = tmp_path / "times.json"
    path.write_text(text)
    times = edge_times(NET, PARAMS, path)
    assert edge_times(NET, PARAMS, path) == times
    assert len(measured) == 1


@pytest.mark.parametrize(
    "seconds",
    [None, [], "{}", {"conv": 1.0}, dict.fromkeys(NET.index, -1.0), dict.fromkeys(NET.index, "1")],
)
def test_edge_times_malformed_times_are_measured_anew(tmp_path, measured, seconds):
    path = tmp_path / "times.json"
    path.write_text(json.dumps(describe(NET, 1) | {"seconds": seconds}))
    assert edge_times(NET, PARAMS, path)["out"] == 4.0
    assert len(measured) == 1


def test_edge_times_of_another_device_net_or_batch_are_measured_anew(
    tmp_path, measured, monkeypatch
):
    path = tmp_path / "times.json"
    edge_times(NET, PARAMS, path)
    wide = stream_net(width=5)
    edge_times(wide, init(wide, jax.random.key(0)), path)
    edge_times(NET, PARAMS, path, batch=8)
    assert measured == [1, 1, 8]
    device = edge_timing._device()
    for name, value in (("kind", "other"), ("processor", "other"), ("cores", 999), ("jax", "0")):
        monkeypatch.setattr(edge_timing, "_device", lambda n=name, v=value: device | {n: v})
        edge_times(NET, PARAMS, path, batch=8)
    assert len(measured) == 7


def test_edge_times_without_a_path_go_to_the_users_cache(tmp_path, measured, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = identity_net()
    for _ in range(2):
        edge_times(NET, PARAMS)
        edge_times(other, init(other, jax.random.key(0)))
    assert len(measured) == 2
    assert len(list((tmp_path / "sanas-jax").glob("edge_times_*.json"))) == 2


def test_describe_tells_nets_apart_and_not_processes():
    def pointwise():
        def twice(x):
            return 2 * x

        return Pointwise((twice,))

    one, same = one_edge(pointwise()), one_edge(pointwise())
    assert repr(one.edges[0].block) != repr(same.edges[0].block)
    assert describe(one, 1) == describe(same, 1)
    nets = [one, one_edge(pointwise(), 4), one_edge(Identity()), one_edge(Dense(3))]
    nets.append(one_edge(Dense(4)))
    assert len({describe(net, 1)["net"] for net in nets}) == len(nets)
