"""Steps that a mask leaves out: what they see changes nothing of the others."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.controller import Controller
from sanas_jax.costs import macs, relative
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from sanas_jax.spaces import bc_resnet, rep_cnn, separable, tc_resnet
from sanas_jax.training import Batch, Budget, Objective, Price, Score, Teach, make_update
from sanas_jax.training.optimizer import make_optimizer
from sanas_jax.training.state import init_state
from tests.helpers.nets import relative_error
from tests.sanas_jax.test_batch_stats import small_net

pytestmark = pytest.mark.usefixtures("strict")

SHAPE = (18, 4, 1)
# BatchNorm in the trunk over the rows of the stream and over windows, after joins, beside reuse.
NETS = {
    "separable": lambda: separable(
        num_classes=3,
        wide=((6, 3, 1), (6, 3, 2), (6, 3, 1)),
        slim=((4, 3, 2), (4, 3, 1)),
        exits=(1,),
        skips=(),
        features=5,
        input_shape=SHAPE,
    ),
    "tc_resnet": lambda: tc_resnet(num_classes=3, width=0.25, input_shape=SHAPE),
    "bc_resnet": lambda: bc_resnet(num_classes=3, input_shape=(12, 40, 1)),
    "rep_cnn": lambda: rep_cnn(6, kernels=((3, 1), (3, 3)), num_classes=3, input_shape=SHAPE),
    "of live rows": small_net,
}
QUICK = ("of live rows",)
MASK = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], bool)


def streams(model):
    """Two streams [B, frames, ...] that differ where no step that counts looks, and there alone."""
    steps, batch = MASK.shape
    frames = model.window + (steps - 1) * model.hop + 1
    seen = np.zeros((batch, frames), bool)
    for t, b in np.argwhere(MASK):
        seen[b, t * model.hop : t * model.hop + model.window] = True
    one, other = np.random.default_rng(0).standard_normal(
        (2, batch, frames, *model.net.input_shape[1:])
    )
    kept = seen.reshape(batch, frames, *(1,) * (one.ndim - 2))
    assert (~seen).any()
    return jnp.asarray(one, jnp.float32), jnp.asarray(np.where(kept, one, 9 * other), jnp.float32)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NETS],
)
def test_what_lies_under_the_mask_changes_nothing(name):
    net = NETS[name]()
    model = Sanas(net, Controller(nn.GRUCell(4), bias=1.0), hop=2)
    objective = Objective(
        Price(relative(net, macs(net))),
        Score(samples=2),
        Teach(full_weight=0.5, distill_weight=0.5),
    )
    optimizer = make_optimizer(learning_rate=1e-2)
    state = init_state(model, optimizer, objective, jax.random.key(0))
    update = jax.jit(make_update(model, optimizer, objective))
    labels = jnp.asarray(np.arange(MASK.size).reshape(MASK.shape) % 3)
    budget = Budget(jnp.float32(0.1), jnp.float32(0))

    def after(features, mask):
        batch = Batch(features, labels, jnp.asarray(mask))
        return update(state, batch, jax.random.key(1), budget)

    one, other = streams(model)
    (expected, seen), (got, also_seen) = after(one, MASK), after(other, MASK)
    assert relative_error(got.params, expected.params) < 1e-6
    assert relative_error(also_seen, seen) < 1e-5
    # It is the mask that does it.
    unmasked = [after(x, np.ones_like(MASK))[0].params for x in (one, other)]
    assert relative_error(*unmasked) > 1e-3


def test_masked_steps_leave_state_and_statistics_alone():
    """`step` under a mask is `unroll` under it, and no step at all where none counts."""
    net = small_net()
    model = Sanas(net, Controller(nn.GRUCell(4), bias=1.0), hop=2)
    params = init_model(model, jax.random.key(0))
    one, _ = streams(model)
    carry = init_carry(model, len(one[0:4]), stats=params["stats"])
    key = jax.random.key(2)
    end, outs = jax.jit(partial(unroll, model, train=True))(
        params, carry, one, key, mask=jnp.asarray(MASK)
    )
    one_step = jax.jit(partial(step, model, train=True))
    for t, mask in enumerate(MASK):
        x_t = one[:, t * model.hop : t * model.hop + model.window]
        carry, out = one_step(params, carry, x_t, key, mask=jnp.asarray(mask))
        np.testing.assert_allclose(out.logits, outs.logits[t], atol=1e-5)
    assert relative_error(carry, end) < 1e-5
    nobody = jnp.zeros(4, bool)
    after, _ = one_step(params, end, one[:, : model.window], key, mask=nobody)
    assert relative_error(after._replace(t=end.t), end) == 0
