"""Rows of a batch that are split over devices stay where they are, also with several samples."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import flax.linen as nn, jax, jax.numpy as jnp
from experiments.training.steps import place_batch
from sanas_jax import Batch, Budget, Controller, Objective, Price, Sanas, Score, Teach, costs
from sanas_jax import init_state, make_optimizer, make_update
from sanas_jax.estimators import leave_one_out
from sanas_jax.sharding import make_mesh, place
from tests.helpers.nets import stream_net

told = TOLD
model = Sanas(stream_net(), Controller(nn.GRUCell(3), conditioned=told), hop=2)
score, teach = Score(leave_one_out(), samples=2), Teach(full_weight=1.0, distill_weight=1.0)
objective = Objective(Price(costs.macs(model.net)), score, teach)
optimizer = make_optimizer(1e-3)
mesh = make_mesh(jax.devices(), 1, 8)
state = place(init_state(model, optimizer, objective, jax.random.key(0)), mesh)
features, labels = jnp.zeros((8, 14, 1, 1)), jnp.zeros((5, 8), jnp.int32)
taught = jnp.full((5, 8, 3), 1 / 3) if told else None
batch = place_batch(Batch(features, labels, labels == 0, taught=taught), mesh)
update = jax.jit(make_update(model, optimizer, objective))
price = jnp.full((5, 8), 0.1) if told else jnp.float32(0.1)
budget = Budget(price, jnp.float32(0.5))
print(update.lower(state, batch, jax.random.key(0), budget).compile().as_text())
"""


@pytest.mark.parametrize("told", [False, True])
def test_only_sums_cross_devices(told):
    """Also where streams are told prices that change, and are taught."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("TOLD", str(told))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
    )
    assert done.returncode == 0, done.stderr
    sent = r" (all-to-all|all-reduce|all-gather|reduce-scatter|collective-permute)(?:-start)?\("
    found = Counter(re.findall(sent, done.stdout))
    assert found["all-reduce"] > 0
    assert set(found) == {"all-reduce"}, found
