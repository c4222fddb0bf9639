"""What is no block is refused by name; what is one builds under jit, and nets pickle."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.blocks.separable import Exit, Separable
from sanas_jax.graph import Edge, Layer, Net, check_block, prune
from tests.helpers.nets import stream_net

SHAPE = (12, 4, 1)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))


class DroppingInTraining(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))


class PlainBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.BatchNorm(not train)(nn.Dense(3)(x))


class WithField(nn.Module):
    weights: object

    @nn.compact
    def __call__(self, x):
        return x * self.weights[0]


class Padded(nn.Module):
    """Zeros around the window move with it, not with the stream."""

    time_stride = 1

    @nn.compact
    def __call__(self, x):
        return nn.Conv(2, (3, 1), padding="SAME")(x)


class TooSlow(nn.Module):
    time_stride = 2

    @nn.compact
    def __call__(self, x):
        return nn.Conv(2, (3, 1), padding="VALID")(x)


def net_of(block):
    layers = (Layer("x"), Layer("h", nn.relu), Layer("y", jnp.tanh))
    edges = (Edge("e", "x", "h", block), Edge("o", "h", "y", Dense(3), gated=False))
    return Net(SHAPE, layers, edges, "y", "h")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Dropping(), r"draws random numbers when it is run \(dropout\?\)"),
        (DroppingInTraining(), r"nobody would pass it \['train'\]"),
        (PlainBatchNorm(), r"to take the keywords `train` and `live` .*got \['train'\]"),
        (nn.BatchNorm(use_running_average=True), r"`train` and `live` .*got \[\]"),
        (WithField([1.0]), r"can be compared .*got weights of type list"),
        (WithField(jnp.ones(1)), r"can be compared .*got weights of type ArrayImpl"),
    ],
)
def test_what_is_no_block_is_named_where_a_net_is_built(block, message):
    with pytest.raises(ValueError, match=message):
        check_block(block, SHAPE)
    with pytest.raises(ValueError, match=r"edge 'e': its block on layer 'x' of shape .*" + message):
        net_of(block)


@pytest.mark.parametrize("block", [Padded(), TooSlow()])
def test_a_wrong_time_stride_is_named(block):
    with pytest.raises(ValueError, match="time_stride: expected its output to move by one row"):
        check_block(block, SHAPE)


@pytest.mark.parametrize(
    "block",
    [
        Conv2D(3, (4, 2), stride=(2, 1), pool=(2, 1)),
        Separable(3, 5, 2),
        Exit(4),
        Identity(),
        WithField((2.0,)),
        nn.Dense(3),
    ],
)
def test_blocks_are_blocks(block):
    check_block(block, SHAPE)


def test_nets_build_under_jit_and_pickle():
    gates = jnp.array([1.0, 0.0])
    built = jax.jit(lambda gates: prune(net_of(Conv2D(2, (3, 1))), gates))(gates)
    assert built.tolist() == [1.0, 1.0]
    for net in (net_of(Conv2D(2, (3, 1))), stream_net()):
        net.trunk, net.with_stats  # noqa: B018  what is cached goes along
        again = pickle.loads(pickle.dumps(net))
        assert again == net
        assert hash(again) == hash(net)
