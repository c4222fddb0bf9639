"""What a run charges, by its config's word."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, Hooks, ModelConfig, TrainConfig
from experiments.config.build import build_training
from experiments.config.costs import charged_of
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.training import Batch, Budget, init_state, make_update

MODEL = ModelConfig(family="cnn-trad-fpool3", maps=(2, 2), state_size=4, gate_bias=0.3)
CONFIG = Config(model=MODEL, train=TrainConfig(cost="incremental", discount=1.0, samples=2))


def test_incremental_charges_what_a_runtime_computes():
    built = build_training(CONFIG, 4, Hooks())
    net = built.model.net
    gates = jax.random.bernoulli(jax.random.key(0), 0.5, (7, 3, len(net.edges))).astype("f4")
    expected = incremental_macs(net, 20).along(gates)
    full = sum(fresh_macs(net, 20).values())
    assert built.charged.full == full
    assert 0 < built.charged.floor < full
    np.testing.assert_allclose(built.charged.objective.along(gates) * full, expected, rtol=1e-6)
    # The whole network, once its first window is computed.
    ones = built.charged.objective.along(jnp.ones((9, 1, len(net.edges))))
    np.testing.assert_allclose(ones[1:], 1.0, rtol=1e-6)


def test_incremental_needs_credit_for_later_steps():
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, discount=0.0))
    with pytest.raises(ValueError, match=r"expected train.discount > 0, got 0"):
        charged_of(config, build_training(CONFIG, 4, Hooks()).model.net, Hooks())


@pytest.mark.slow
def test_incremental_trains():
    built = build_training(CONFIG, 4, Hooks())
    state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    update = jax.jit(make_update(built.model, built.optimizer, built.objective))
    features = jax.random.normal(jax.random.key(1), (2, 141, 40, 1))
    batch = Batch(features, jnp.zeros((3, 2), jnp.int32), jnp.ones((3, 2), bool))
    budget = Budget(jnp.float32(0.5), jnp.float32(0.0))
    state, metrics = update(state, batch, jax.random.key(2), budget)
    assert np.isfinite(metrics["cost"])
    assert metrics["cost"] > 0
    head = state.params["controller"]["head"]["kernel"]
    assert np.isfinite(head).all()
