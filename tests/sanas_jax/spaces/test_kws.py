"""The keyword-spotting families: operations and parameters of the paper and of its code."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.forward import forward, init
from sanas_jax.spaces import kws_cnn
from sanas_jax.spaces.kws import FAMILIES

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize(("shortcuts", "total"), [(False, 124_593_664), (True, 137_288_192)])
def test_macs_of_the_paper(shortcuts, total):
    """124.6M and 137.3M in the paper's table; edge by edge from the formula."""
    net = kws_cnn("cnn-trad-fpool3", shortcuts=shortcuts)
    expected = {
        "conv_0": 82 * 33 * 20 * 8 * 64,
        "conv_1": 73 * 8 * 10 * 4 * 64 * 64,
        "lin_0": 73 * 8 * 64 * 32,
        "lin_1": 32 * 128,
        "out": 128 * 12,
    }
    if shortcuts:
        sizes = (101 * 40, 82 * 11 * 64, 73 * 8 * 64, 32)
        expected |= {f"shortcut_{i}": size * 128 for i, size in enumerate(sizes)}
    assert costs.edge_macs(net) == expected
    assert sum(expected.values()) == total
    assert float(costs.macs(net)(jnp.ones(len(net.edges)))) == total


def test_cheapest_path():
    net = kws_cnn()
    gates = jnp.zeros(len(net.edges)).at[net.index["shortcut_0"]].set(1)
    assert float(costs.macs(net)(gates)) == 518_656
    assert float(costs.macs(net)(jnp.zeros(len(net.edges)))) == 0


NAMES_THERE = {
    "cnn-trad-fpool3": "CNN_TRAD_FPOOL3",
    "cnn-one-fpool3": "CNN_ONE_FPOOL3",
    "cnn-one-fstride4": "CNN_ONE_FSTRIDE4",
    "cnn-one-fstride8": "CNN_ONE_FSTRIDE8",
    "cnn-tstride2": "CNN_ONE_TSTRIDE2",
    "cnn-tstride4": "CNN_ONE_TSTRIDE4",
    "cnn-tstride8": "CNN_ONE_TSTRIDE8",
}


def test_every_family_is_compared():
    assert set(NAMES_THERE) == set(FAMILIES)


@pytest.mark.parametrize("shortcuts", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_operations_and_parameters_reference(reference, family, shortcuts):
    """Node by node against the multiply-accumulates and parameters counted in that code."""
    everything = json.loads((reference / "a_costs_sanas.json").read_text())
    name = f"KWS_CNN/{NAMES_THERE[family]}/full={shortcuts}/sep_features=False"
    theirs = everything[name]["networkx_3.6.1"]
    # The modules are numbered in the order of the nodes that have weights.
    by_module = theirs["true_macs_conv_linear_by_module"]
    modules = sorted(by_module, key=lambda key: int(key.split(".")[1]))
    nodes = [
        n for n, kind in theirs["module_type"].items() if kind in ("ConvPoolBlock", "LinearBlock")
    ]
    counts = dict(zip(nodes, (by_module[m] for m in modules), strict=True))

    net = kws_cnn(family, shortcuts=shortcuts)
    last = f"lin_{len(FAMILIES[family].widths)}"  # their classifier is one more lin
    rename = {edge.name: edge.name.replace("shortcut", "shorcut") for edge in net.edges}
    rename["out"] = last
    macs = {rename[k]: v for k, v in costs.edge_macs(net).items()}
    params = {rename[k]: v for k, v in costs.edge_params(net).items()}
    node_params = {n: theirs["params_per_node"][n] for n in nodes}
    if family == "cnn-one-fstride8":
        # Their last dense layer is 127 wide; Sainath & Parada have 128.
        assert macs.pop("lin_2") == 128 * 128
        assert counts.pop("lin_2") == 128 * 127
        for k in [k for k in macs if "shorcut" in k or k == last]:
            assert macs.pop(k) * 127 == counts.pop(k) * 128
        params = {k: params[k] for k in macs}
        node_params = {k: node_params[k] for k in macs}
    else:
        assert sum(macs.values()) == theirs["true_macs_conv_linear_total"]
        assert sum(params.values()) == theirs["n_params_blocks"]
    assert macs == counts
    assert params == node_params


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_small_copies_run(family):
    """Fewer maps keep the family's strides; the classifier always answers."""
    maps = tuple(2 + i for i in range(len(FAMILIES[family].convs)))
    net = kws_cnn(family, maps=maps, num_classes=5)
    params = init(net, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, *net.input_shape))
    for gates in (jnp.ones(len(net.edges)), jnp.zeros(len(net.edges))):
        out = forward(net, params, gates, x)
        assert out.logits.shape == (2, 5)
        assert np.isfinite(np.asarray(out.logits)).all()
    assert [e.name for e in net.edges if not e.gated] == ["out"]
    assert net.features == "features"
    full = kws_cnn(family)
    for mine, theirs in zip(net.layers, full.layers, strict=True):
        assert net.shapes[mine.name][:1] == full.shapes[theirs.name][:1] or mine.name == "logits"


@pytest.mark.parametrize("shortcuts", [False, True])
def test_branches_start_with_a_sum_of_he_variance(shortcuts):
    """For inputs of unit second moment the sum before `features` has variance 2."""
    net = kws_cnn(maps=(8, 8), shortcuts=shortcuts)
    total = np.zeros((32, 128))
    for e, edge in enumerate(net.incoming["features"]):
        x = jax.random.normal(jax.random.key(e), (32, *net.shapes[edge.source]))
        total = total + edge.block.init_with_output(jax.random.key(10 + e), x)[0]
    # lin_1 has 32 inputs only, so its own sample of weights moves the figure by a few per cent.
    assert np.var(total) == pytest.approx(2.0, rel=0.15)
    out = forward(
        net, init(net, jax.random.key(0)), jnp.ones(len(net.edges)), jnp.ones((1, 101, 40, 1))
    )
    assert float(jnp.abs(out.logits).max()) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"family": "cnn-trad-pool2"},
            r"family: expected one of \['cnn-one-fpool3'.*got 'cnn-trad",
        ),
        ({"num_classes": 1}, "num_classes: expected at least 2, got 1"),
        ({"maps": (4,)}, r"maps: expected 2 numbers for cnn-trad-fpool3, got 1: \(4,\)"),
        (
            {"input_shape": (10, 40, 1)},
            r"edge 'conv_0': .* of shape \(10, 40, 1\): it gives an empty value \(0, ",
        ),
    ],
)
def test_kws_cnn_malformed_raises(arguments, message):
    with pytest.raises(ValueError, match=message):
        kws_cnn(**arguments)
