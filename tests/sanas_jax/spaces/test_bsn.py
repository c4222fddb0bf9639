"""Fabrics, ResNets and the dense ResNet: graphs, MACs and parameters as in the authors' code."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs, gates, spaces
from sanas_jax.controller import Controller
from sanas_jax.forward import forward, init, init_stats
from sanas_jax.graph import prune
from sanas_jax.rollout import Sanas, init_carry, init_model, unroll


def totals(net):
    return sum(costs.edge_macs(net).values()), sum(costs.edge_params(net).values())


@pytest.mark.parametrize(
    ("net", "macs", "params"),
    [
        (lambda: spaces.fabric(3, 5), 1_673_240, 10_290),
        (lambda: spaces.fabric(), 819_118_720, 4_523_402),
        (lambda: spaces.resnet(), 40_813_184, 273_258),
        (lambda: spaces.resnet_fabric(), 90_882_688, 760_586),
        (lambda: spaces.dense_resnet(), 37_175_490, 111_117),
    ],
)
def test_totals(net, macs, params):
    assert totals(net()) == (macs, params)


def reference_net(name):
    """The net that a name of the reference files stands for."""
    if name.startswith("B-CNF"):
        layers, channels = (int(part.split("=")[1]) for part in name.split("/")[1].split(","))
        return spaces.fabric(layers, channels)
    if name.startswith(("ResNet", "ResCNF", "FullResCNF")):
        kind = name.split("/")[0]
        return spaces.resnet(
            int(name.split("width=[")[1].split("]")[0]),
            bottleneck="bottlenecks=True" in name,
            shifts=kind.split("_")[1] if "_" in kind else "",
        )
    kind, text = name.split("/", 1)
    options = json.loads(text)
    if kind == "ThreeDimNeuralFabric":
        return spaces.fabric(
            options["n_layer"],
            options["n_chan"],
            blocks=options["n_block"],
            scales=options["n_scale"],
            input_shape=(101, 40, 1),
            num_classes=12,
            adapt_first=options.get("adapt_first", False),
            rounding=options.get("rounding_method", "ceil"),
        )
    maps = options.get("n_channels", 45)
    return spaces.dense_resnet(
        options.get("blocks_per_layer", 3),
        maps if isinstance(maps, list) else [maps],
        pool=(4, 3) if options.get("pool_in", True) else (1, 1),
        bottleneck=options.get("bottlnecks", False),
        shifts=options.get("shift", "") if options.get("shortcuts") else "",
    )


@pytest.mark.parametrize(("file", "least"), [("a_costs_bsn.json", 13), ("a_costs_sanas.json", 9)])
def test_macs_and_parameters_of_the_reference(reference, file, least):
    described = json.loads((reference / file).read_text())
    kinds = ("B-CNF", "ResNet", "ResCNF", "FullResCNF", "ThreeDimNeuralFabric", "DenseResnet")
    compared = 0
    for name, value in described.items():
        if not name.startswith(kinds):
            continue
        value = value.get("networkx_3.6.1", value)
        net = reference_net(name)
        expected = value["true_macs_conv_linear_total"], value["n_params_blocks"]
        assert totals(net) == expected, name
        per_edge = sorted(m for m in costs.edge_macs(net).values() if m)
        if "bottle" not in name and "Res" not in name:
            theirs = sorted(value["true_macs_conv_linear_by_module"].values())
            assert per_edge == theirs, name
        compared += 1
    assert compared >= least


@pytest.mark.parametrize(
    ("layers", "scales", "last_runs_up", "count"), [(3, 4, False, 3 + 3 + 2 * 10), (2, 3, True, 11)]
)
def test_fabric_links(layers, scales, last_runs_up, count):
    net = spaces.fabric(
        layers, 2, scales=scales, input_shape=(8, 8, 1), per_pixel=last_runs_up, num_classes=3
    )
    links = [(e.source, e.target) for e in net.edges if e.gated]
    assert len(links) == len(set(links)) == count
    for source, target in links:
        (i, s), (j, t) = (tuple(map(int, place.split("_"))) for place in (source, target))
        assert abs(s - t) <= 1
        assert j in (i, i + 1)
        if i == j:
            up = last_runs_up and i == layers - 1
            assert t - s == (-1 if up else 1)
            assert i in (0, layers - 1)
    shape = net.shapes["logits"]
    assert shape == ((8, 8, 3) if last_runs_up else (3,))


def test_resnet_fabric_hears_the_mirrored_value():
    """Block n of a group hears value W−1−n of the group before, and its neighbours."""
    net = spaces.resnet_fabric(3, (4, 6), input_shape=(8, 8, 3))
    sources = {edge.name: edge.source for edge in net.edges if edge.name.startswith("short_")}
    values = ["stem", "0_0", "0_1"]
    for n in range(3):
        assert sources[f"short_s_1_{n}"] == values[2 - n]
    assert sources["short_l_1_1"] == "0_1"
    assert sources["short_r_1_1"] == "stem"
    assert "short_l_1_0" not in sources
    assert sources["short_skip_s_1_0"] == "0_1"
    straight = spaces.resnet_fabric(3, (4, 6), input_shape=(8, 8, 3), shifts="s")
    assert sum(e.name.startswith("short_s_") for e in straight.edges) == 3


NETS = {
    "fabric": lambda: spaces.fabric(2, 3, scales=3, input_shape=(13, 10, 1), num_classes=4),
    "blocks": lambda: spaces.fabric(2, 2, blocks=2, scales=2, input_shape=(6, 4, 1), num_classes=4),
    "pixels": lambda: spaces.fabric(2, 3, input_shape=(4, 4, 3), num_classes=4, per_pixel=True),
    "dense_resnet": lambda: spaces.dense_resnet(
        1, (4, 6), input_shape=(25, 14, 1), num_classes=4, shifts="sl"
    ),
    "bottleneck": lambda: spaces.resnet(1, (2, 3), input_shape=(8, 8, 3), bottleneck=True),
}


@pytest.mark.parametrize("name", NETS)
def test_dead_layers_add_nothing(name):
    """With live gates, what an architecture computes does not depend on weights it does not use."""
    net = NETS[name]()
    params, stats = init(net, jax.random.key(0)), init_stats(net)
    run = jax.jit(lambda p, g, x: forward(net, p, g, x, stats=stats).logits)
    x = jax.random.normal(jax.random.key(1), (2, *net.input_shape))
    rng = np.random.default_rng(0)
    for probability in (1.0, 0.7, 0.4):
        on = jnp.asarray(rng.random(len(net.edges)) < probability, jnp.float32)
        live = prune(net, on)
        other = {
            edge.name: jax.tree.map(lambda p, on=on: p if on else p + 1, params[edge.name])
            for edge, on in zip(net.edges, np.asarray(live) > 0, strict=True)
        } | {"out": params["out"]}
        logits = run(params, live, x)
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(run(other, live, x), logits, rtol=1e-6)


@pytest.mark.parametrize("name", [pytest.param("fabric", marks=pytest.mark.slow), "dense_resnet"])
def test_runs_as_a_super_network_of_sanas(name):
    net = NETS[name]()
    model = Sanas(net, Controller(), hop=5)
    params = init_model(model, jax.random.key(0))
    frames = net.input_shape[0] + 10
    stream = jax.random.normal(jax.random.key(1), (2, frames, *net.input_shape[1:]))

    def loss(own):
        carry = init_carry(model, 2, stats=params["stats"])
        end, outs = unroll(
            model,
            params | {"net": own},
            carry,
            stream,
            jax.random.key(2),
            policy=gates.sample,
            train=True,
        )
        return (outs.logits**2).sum(), end.stats

    (value, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params["net"])
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((grads, stats)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: spaces.fabric(0), "layers: expected at least 1, got 0"),
        (lambda: spaces.fabric(2, scales=9, input_shape=(8, 8, 1)), "scales: expected at most 4"),
        (lambda: spaces.fabric(rounding="up"), "rounding: expected"),
        (lambda: spaces.fabric(upsampling="cubic"), "upsampling: expected"),
        (lambda: spaces.fabric(1, per_pixel=True), "layers: expected at least 2"),
        (lambda: spaces.resnet(0), "blocks, maps: expected"),
        (lambda: spaces.resnet((2, 2), (4,)), "blocks, maps: expected"),
        (lambda: spaces.resnet_fabric(shifts=""), "shifts: expected some"),
        (lambda: spaces.resnet_fabric(shifts="sx"), "shifts: expected letters"),
    ],
)
def test_bad_arguments_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()
