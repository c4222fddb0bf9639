"""BC-ResNet, TC-ResNet, SparkNet, RepCNN: sizes and costs; they train and stream alike."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import ModelConfig
from experiments.config.networks import SPEECH, library_net
from sanas_jax import costs
from sanas_jax.controller import Controller
from sanas_jax.forward import init_stats
from sanas_jax.gates import all_on
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from sanas_jax.spaces import bc_resnet, rep_cnn, sparknet, tc_resnet
from sanas_jax.training import Batch, Budget, Objective, Price, init_state, make_update
from sanas_jax.training.optimizer import make_optimizer

PUBLISHED_FRAMES = 98  # 30 ms every 10 ms in 1 s, without padding


def total(per_edge):
    return sum(per_edge.values())


def published(value):
    """'16.2M' → 16.2e6 and half of its last digit."""
    digits, unit = value[:-1], {"k": 1e3, "M": 1e6}[value[-1]]
    places = len(digits.partition(".")[2])
    return float(digits) * unit, 0.5 * 10**-places * unit


def agrees(count, value):
    expected, half = published(value)
    return abs(count - expected) <= half


# τ, parameters, MACs of the paper's table 3; MACs of the convolutions on 101 frames.
BC = [
    (1, "9.2k", "3.1M", 2_482_156),
    (1.5, "17.2k", "5.5M", 4_607_994),
    (2, "27.3k", "8.5M", 7_323_672),
    (3, "54.2k", "16.2M", 14_524_548),
    (6, "188k", "53.1M", 50_283_336),
    (8, "321k", "89.1M", 85_919_328),
]


def bc_macs(tau, frames):
    """Convolutions of BC-ResNet-τ by hand, bias of the classifier aside."""
    w1, w2, w3, w4 = (int(8 * tau * width) for width in (1, 1.5, 2, 2.5))
    head, tail = int(16 * tau), int(32 * tau)
    macs = 20 * 25 * head
    # Blocks, frequencies before and after, channels before and after.
    for blocks, into, freq, maps_in, maps in (
        (2, 20, 20, head, w1),
        (2, 20, 10, w1, w2),
        (4, 10, 5, w2, w3),
        (4, 5, 5, w3, w4),
    ):
        macs += into * maps_in * maps
        macs += blocks * (freq * 3 * maps + 3 * maps + maps * maps)
    macs += 25 * w4 + w4 * tail
    return frames * macs + tail * 12


@pytest.mark.parametrize(("tau", "params", "macs", "ours"), BC)
def test_bc_resnet_has_the_published_parameters(tau, params, macs, ours):
    net = bc_resnet(tau)
    assert agrees(total(costs.edge_params(net)), params)
    assert total(costs.edge_macs(net)) == ours == bc_macs(tau, 101)


@pytest.mark.parametrize(("tau", "params", "macs", "ours"), BC)
def test_bc_resnet_published_macs_count_what_follows_a_convolution(tau, params, macs, ours):
    """Two per value of BatchNorm, one per value of ReLU, one per value that the last mean reads."""
    w1, w2, w3, w4 = (int(8 * tau * width) for width in (1, 1.5, 2, 2.5))
    head, tail = int(16 * tau), int(32 * tau)
    transitions = 20 * w1 + 20 * w2 + 10 * w3 + 5 * w4
    blocks = 2 * 20 * w1 + 2 * 10 * w2 + 4 * 5 * w3 + 4 * 5 * w4
    over_time = 2 * w1 + 2 * w2 + 4 * w3 + 4 * w4
    normalised = 20 * head + transitions + blocks + over_time + tail
    rectified = 20 * head + transitions + blocks + tail
    other = PUBLISHED_FRAMES * (2 * normalised + rectified + tail)
    counted = bc_macs(tau, PUBLISHED_FRAMES)
    assert agrees(counted + other, macs)
    assert not agrees(counted, macs)


# Depth, width, FLOPs (two per MAC) and parameters of the paper's table 1; our MACs on 101 frames.
TC = [
    (8, 1, "3.0M", "66k", 1_563_264),
    (8, 1.5, "6.6M", "145k", 3_371_472),
    (14, 1, "6.1M", "137k", 3_110_400),
    (14, 1.5, "13.4M", "305k", 6_852_528),
]


@pytest.mark.parametrize(("depth", "width", "flops", "params", "ours"), TC)
def test_tc_resnet_has_the_published_flops_and_parameters(depth, width, flops, params, ours):
    net = tc_resnet(depth, width, input_shape=(PUBLISHED_FRAMES, 40, 1))
    assert agrees(2 * total(costs.edge_macs(net)), flops)
    weights = total(costs.edge_params(net))
    running = sum(leaf.size for leaf in jax.tree.leaves(init_stats(net)))
    assert agrees(weights + running, params)
    assert total(costs.edge_macs(tc_resnet(depth, width))) == ours


def test_tc_resnet8_macs_edge_by_edge():
    """Times of 98 frames halved three times, SAME: 49, 25, 13."""
    macs = costs.edge_macs(tc_resnet(8, input_shape=(98, 40, 1)))
    assert macs == {
        "head": 98 * 3 * 40 * 16,
        "block_0": 49 * (16 * 24 + 9 * 16 * 24 + 9 * 24 * 24),
        "block_1": 25 * (24 * 32 + 9 * 24 * 32 + 9 * 32 * 32),
        "block_2": 13 * (32 * 48 + 9 * 32 * 48 + 9 * 48 * 48),
        "mean": 0,
        "out": 48 * 12,
    }


# Channels, parameters and MACs of its repository's table; our MACs on 32 and on 40 coefficients.
SPARK = [(16, 4_636, 454_480, 396_304, 431_144), (32, 11_500, 1_170_368, 1_066_944, 1_127_640)]


@pytest.mark.parametrize(("width", "params", "macs", "ours", "wider"), SPARK)
def test_sparknet_has_the_published_parameters_and_macs(width, params, macs, ours, wider):
    net = sparknet(width, input_shape=(101, 32, 1))
    assert total(costs.edge_params(net)) == params
    assert total(costs.edge_macs(net)) == ours
    # Seven BatchNorms of C channels and one of the gates, at four operations a value.
    counted = ours + 4 * 101 * (7 * width + 32)
    assert counted == macs
    assert agrees(counted, {16: "454.5k", 32: "1.2M"}[width])
    assert total(costs.edge_macs(sparknet(width))) == wider


def test_sparknet_macs_edge_by_edge():
    macs = costs.edge_macs(sparknet(16, input_shape=(101, 32, 1)))
    assert macs == {
        "block_0": 101 * (11 * 32 + 32 * 16),
        "block_1": 101 * (15 * 16 + 2 * 16 * 16),
        "block_2": 101 * (19 * 16 + 2 * 16 * 16),
        "block_3": 101 * (29 * 16 + 2 * 16 * 16),
        "gates": 101 * 16 * 32,
        "mean": 0,
        "out": 32 * 12,
    }


def test_features_are_a_vector_and_blocks_a_chain_of_gates():
    for net, features, gated in (
        (bc_resnet(), 32, 14),
        (tc_resnet(), 48, 4),
        (tc_resnet(14), 48, 7),
        (sparknet(8), 40, 5),
        (rep_cnn(16), 16, 5),
    ):
        assert net.shapes["features"] == (features,)
        assert net.shapes["logits"] == (12,)
        assert len(net.gated) == gated
        assert all(len(edges) == 1 for name, edges in net.incoming.items() if name != "input")
        assert net.trunk == set(net.order)


@pytest.mark.parametrize("family", SPEECH)
def test_families_of_a_config(family):
    net = library_net(ModelConfig(family=family, static=True), 12)
    kind, number = family.rsplit("-", 1)
    build = {
        "bc-resnet": lambda: bc_resnet(float(number)),
        "tc": lambda: tc_resnet(int(number.removeprefix("resnet"))),
        "tc-resnet8": lambda: tc_resnet(8, float(number)),
        "tc-resnet14": lambda: tc_resnet(14, float(number)),
        "sparknet": lambda: sparknet(int(number)),
        "rep-cnn": lambda: rep_cnn(int(number)),
    }
    expected = build[kind]()
    assert costs.edge_macs(net) == costs.edge_macs(expected)
    assert math.prod(net.input_shape) == 101 * 40


@pytest.mark.parametrize("own", [{"maps": (3,)}, {"depth": 3}])
def test_families_take_no_sizes(own):
    with pytest.raises(ValueError, match="has sizes of its own"):
        library_net(ModelConfig(family="tc-resnet8", **own), 12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bc_resnet(0.2), "tau: expected at least 0.25, got 0.2"),
        (lambda: bc_resnet(num_classes=1), "num_classes: expected at least 2, got 1"),
        (lambda: bc_resnet(input_shape=(101, 30, 1)), "multiple of 40 bands"),
        (lambda: tc_resnet(9), r"depth: expected one of \[8, 14\], got 9"),
        (lambda: tc_resnet(8, 0.06), "four distinct numbers of channels"),
        (lambda: tc_resnet(num_classes=1), "num_classes: expected at least 2, got 1"),
        (lambda: sparknet(0), "width: expected at least 1, got 0"),
        (lambda: sparknet(num_classes=1), "num_classes: expected at least 2, got 1"),
        (lambda: rep_cnn(0), "width: expected at least 1, got 0"),
        (lambda: rep_cnn(num_classes=1), "num_classes: expected at least 2, got 1"),
        (lambda: rep_cnn(kernels=((3,), ())), r"one or more ≥ 1 for each block, got \(\(3,\), "),
    ],
)
def test_arguments_out_of_range_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()


SMALL = {
    "tc": lambda: tc_resnet(8, num_classes=3, input_shape=(21, 40, 1)),
    "bc": lambda: bc_resnet(1, num_classes=3, input_shape=(21, 40, 1)),
    "spark": lambda: sparknet(8, num_classes=3, input_shape=(21, 40, 1)),
    "rep": lambda: rep_cnn(
        16, kernels=((5, 3), (3,), (3, 3)), num_classes=3, input_shape=(21, 40, 1)
    ),
}


def small_model(kind):
    return Sanas(SMALL[kind](), Controller(), hop=4)


@pytest.mark.parametrize("kind", ["tc", "spark", "rep", pytest.param("bc", marks=pytest.mark.slow)])
def test_stream_equals_windows(kind):
    model = small_model(kind)
    params = init_model(model, jax.random.key(0))
    # Statistics other than the initial ones, as after training.
    params["stats"] = jax.tree.map(lambda leaf: 0.5 * leaf + 0.2, params["stats"])
    stream, key = jax.random.normal(jax.random.key(1), (2, 29, 40, 1)), jax.random.key(2)
    carry = init_carry(model, 2, stats=params["stats"])
    _, whole = unroll(model, params, carry, stream, key, policy=all_on)
    one_step = jax.jit(lambda c, x: step(model, params, c, x, key, policy=all_on))
    for t in range(3):
        carry, out = one_step(carry, stream[:, 4 * t : 4 * t + 21])
        np.testing.assert_allclose(whole.logits[t], out.logits, rtol=1e-4, atol=1e-6)
    assert float(jnp.abs(whole.logits[0] - whole.logits[2]).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_static_nets_train_on_streams(kind):
    model = small_model(kind)
    objective = Objective(Price(costs.relative(model.net, costs.macs(model.net))), static=True)
    optimizer = make_optimizer(1e-2)
    update = jax.jit(make_update(model, optimizer, objective))
    batch = Batch(
        jax.random.normal(jax.random.key(0), (6, 29, 40, 1)),
        jnp.arange(18).reshape(3, 6) % 3,
        jnp.ones((3, 6), bool),
    )
    first = state = init_state(model, optimizer, objective, jax.random.key(1))
    losses = []
    for number in range(8):
        state, metrics = update(
            state, batch, jax.random.key(number), Budget(jnp.float32(0), jnp.float32(0))
        )
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]  # 18 windows of noise, learnt by heart
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), state.params["stats"], first.params["stats"]
    )
    assert min(jax.tree.leaves(moved)) > 0
