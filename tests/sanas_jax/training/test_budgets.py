"""Budgets: vmapped equals looped, dual ascent, one network for many prices, isolation of NaN."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs, spaces
from sanas_jax.controller import Constant, Controller
from sanas_jax.costs import cheapest_path
from sanas_jax.estimators import leave_one_out
from sanas_jax.graph import Edge, Layer, Net
from sanas_jax.rollout import Sanas, init_carry, unroll
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    init_state,
    make_evaluate,
    make_update,
)
from sanas_jax.training.budgets import (
    Member,
    Target,
    ascend,
    init_member,
    make_member_update,
    over_budgets,
)
from sanas_jax.training.optimizer import make_optimizer
from sanas_jax.training.rollouts import begin, run_samples

STEPS, STREAMS = 6, 64


class Reader(nn.Module):
    """Reads some columns of [B, 1, 3] through dense layers."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        x = x[..., jnp.array(self.columns)].reshape(x.shape[0], -1)
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


# Column 0 says how often column 1 lies about the label; column 2 is the label, and dear to read.
NET = Net(
    (1, 3),
    (Layer("x"), Layer("f", nn.relu), Layer("y")),
    (
        Edge("cheap", "x", "f", Reader((0, 1), (8,)), gated=False),
        Edge("dear", "x", "f", Reader((2,), (16, 8))),
        Edge("out", "f", "y", Reader(tuple(range(8)), (2,)), gated=False),
    ),
    output="y",
    features="f",
)
COST = costs.relative(NET, costs.macs(NET))


def model(cell=None, conditioned=False):
    return Sanas(NET, Controller(cell or nn.GRUCell(8), 0.5, conditioned), hop=1)


def draw(key):
    """Streams that lie with a rate of their own between 0 and ½."""
    keys = jax.random.split(key, 3)
    rate = jax.random.uniform(keys[0], (STREAMS, 1), maxval=0.5)
    label = jax.random.bernoulli(keys[1], 0.5, (STREAMS, STEPS))
    lie = jax.random.uniform(keys[2], (STREAMS, STEPS)) < rate
    sign = 2.0 * jnp.stack([label ^ lie, label], -1) - 1
    features = jnp.concatenate([jnp.broadcast_to(rate, label.shape)[..., None], sign], -1)
    mask = jnp.ones((STEPS, STREAMS), bool)
    return Batch(features, jnp.asarray(label.T, jnp.int32), mask)


def make(sanas, *, rate=True):
    objective = Objective(
        Price(COST),
        Score(leave_one_out(), samples=4, discount=0.0, entropy_weight=0.02),
        measure_mode=rate,
    )
    optimizer = make_optimizer(1e-2, weight_decay=0.0)
    update = make_member_update(make_update(sanas, optimizer, objective))
    return objective, optimizer, update


def targets(weights, costs_asked=None, rate=0.02):
    count = len(weights)
    asked = [1.0] * count if costs_asked is None else costs_asked
    rates = [rate if costs_asked else 0.0] * count
    zeros, damping = [0.0] * count, [50 * r for r in rates]
    return Target(*(jnp.array(v, jnp.float32) for v in (weights, zeros, asked, rates, damping)))


def members(sanas, objective, optimizer, count):
    keys = jnp.stack([jax.random.key(0)] * count)
    return jax.vmap(lambda key: init_member(init_state(sanas, optimizer, objective, key)))(keys)


def train(update, state, target, steps, price=None):
    """Steps in one scan; every budget sees the same batches, and draws from the same keys."""

    @jax.jit
    def run(state, target):  # as an argument: one program, whatever is asked for
        def body(state, step):
            key = jax.random.fold_in(jax.random.key(1), step)
            own = target if price is None else target._replace(cost_weight=price(key))
            many = over_budgets(update, shared=(1, 2))
            state, metrics = many(state, draw(key), jax.random.fold_in(key, 1), own)
            return state, metrics["cost_weight"]

        return jax.lax.scan(body, state, jnp.arange(steps))

    return run(state, target)


def row(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


@pytest.fixture(scope="module")
def toy():
    sanas = model()
    return sanas, *make(sanas)


@pytest.mark.slow
def test_many_budgets_equal_each_alone(toy):
    sanas, objective, optimizer, update = toy
    asked = targets([0.2, 1.0, 3.0], [0.4, 0.5, 0.6])
    start = members(sanas, objective, optimizer, 3)
    together, weights = train(update, start, asked, 20)
    for index in range(3):
        alone = [jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], t) for t in (start, asked)]
        single, weight = train(update, *alone, 20)
        np.testing.assert_allclose(weights[:, index], weight[:, 0], rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            row(together, index).train.params,
            row(single, 0).train.params,
        )


@pytest.mark.slow
def test_budget_that_diverges_is_frozen_and_the_others_do_not_notice(toy):
    sanas, objective, optimizer, update = toy
    start = members(sanas, objective, optimizer, 2)
    # Infinitely dear from the first step on: an infinite return, and no gradient that is finite.
    broken, _ = train(update, start, targets([1.0, jnp.inf]), 10)
    sound, _ = train(update, start, targets([1.0, 1.0]), 10)
    assert broken.alive.tolist() == [True, False]
    jax.tree.map(np.testing.assert_array_equal, row(broken, 0), row(sound, 0))
    jax.tree.map(np.testing.assert_array_equal, row(broken, 1).train, row(start, 1).train)


@pytest.mark.slow
def test_dual_ascent_reaches_budgets(toy):
    sanas, objective, optimizer, update = toy
    asked = [0.35, 0.5, 0.75]
    state = members(sanas, objective, optimizer, 3)
    state, weights = train(update, state, targets([0.3] * 3, asked), 800)
    evaluate = jax.jit(jax.vmap(make_evaluate(sanas, objective), (0, None)))
    keys = jax.random.split(jax.random.key(7), 8)
    reached = np.mean([evaluate(state.train.params, draw(key))["cost"] for key in keys], axis=0)
    np.testing.assert_allclose(reached, asked, rtol=0.1)
    final = np.asarray(weights[-1])
    assert final[0] > final[1] > final[2] > 0  # what is asked for less must be dearer


def test_budgets_in_turn_are_those_side_by_side(toy):
    sanas, objective, optimizer, update = toy
    state, target = members(sanas, objective, optimizer, 3), targets([0.1, 0.3, 2.0])
    key = jax.random.key(1)
    side, turn = (
        jax.jit(over_budgets(update, (1, 2), in_turn=in_turn)) for in_turn in (False, True)
    )
    arguments = (state, draw(key), key, target)
    expected, got = side(*arguments), turn(*arguments)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    loops = [run.lower(*arguments).as_text().count("stablehlo.while") for run in (side, turn)]
    assert loops[1] > loops[0]  # one after the other is a loop more


def test_ascend_by_hand():
    target = row(targets([0.3], [0.5], rate=0.1), 0)
    assert ascend(jnp.float32(0), jnp.float32(0.55), target) == pytest.approx((0.01, 0.1))
    assert ascend(jnp.float32(0), jnp.float32(5.0), target) == pytest.approx((0.1, 1))
    # u = 0.3 + dual never falls below 0.
    assert ascend(jnp.float32(-0.28), jnp.float32(0.0), target) == pytest.approx((-0.3, -1))
    # A budget that can't be reached: λ c stays within 30 nats however long it is missed.
    dual = jnp.float32(0)
    for _ in range(1000):
        dual, _ = ascend(dual, jnp.float32(1.0), target)
    assert (0.3 + dual) * 0.5 == pytest.approx(30, rel=1e-5)
    assert ascend(dual, jnp.float32(0.25), target)[0] < dual  # and comes down at once
    # A price that begins above that stays as it is.
    dear = target._replace(cost_weight=jnp.float32(100))
    assert float(ascend(jnp.float32(0), jnp.float32(1.0), dear)[0]) == 0


def test_a_budget_that_has_not_begun_adds_nothing_to_its_price():
    begun = init_member(7)
    assert (begun.train, begun.dual, begun.error, begun.alive) == (7, 0, 0, True)


@pytest.mark.parametrize(
    ("start", "weight", "dual"), [(1.0, 1.0, 0.55), (0.25, 0.25, 0.55), (-0.25, 0.0, 0.55)]
)
def test_the_price_of_a_step_by_hand(start, weight, dual):
    """λ = [start + u + κ ε]_+ of the step before; then ε and u of this one."""
    member = Member(jnp.float32(3), jnp.float32(0.5), jnp.float32(-0.25), jnp.bool_(True))
    target = Target(*map(jnp.float32, (start, 0.7, 1.0, 0.1, 2.0)))

    def update(train, batch, key, budget):
        assert float(budget.limit) == pytest.approx(0.7)
        assert float(budget.cost_weight) == pytest.approx(weight)
        one = jnp.float32(1)
        return train + 1, {"loss": one, "grad_norm": one, "mode_cost": 1.5 * one}

    new, metrics = make_member_update(update)(member, None, None, target)
    assert [float(value) for value in new] == pytest.approx([4, dual, 0.5, 1])
    assert float(metrics["cost_weight"]) == pytest.approx(weight)


@pytest.mark.parametrize("broken", ["loss", "grad_norm"])
def test_a_step_that_is_not_finite_is_undone_for_good(broken):
    member = Member(jnp.float32(3), jnp.float32(0.5), jnp.float32(-0.25), jnp.bool_(True))
    target = Target(*map(jnp.float32, (1.0, 0.7, 1.0, 0.1, 2.0)))

    def update(train, batch, key, budget):
        given = {"loss": jnp.float32(1), "grad_norm": jnp.float32(1)}
        return train + 1, given | ({broken: jnp.float32(jnp.nan)} if batch else {})

    run = make_member_update(update)
    whole, _ = run(member, False, None, target)
    assert [float(value) for value in whole] == [4, 0.5, -0.25, 1]  # no mode, no ascent
    undone, _ = run(member, True, None, target)
    later, _ = run(undone, False, None, target)
    for frozen in (undone, later):
        assert [float(value) for value in frozen] == [3, 0.5, -0.25, 0]


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_over_budgets_by_hand(count, in_turn):
    """What is shared comes as it is, of the rest a budget's own; a single one is not mapped."""
    seen = []

    def function(own, shared, more):
        seen.append(isinstance(own["a"], jax.core.Tracer))
        assert (own["a"].shape, shared.shape, more.shape) == ((2,), (2,), ())
        return own["a"] * shared + more

    own, shared = np.arange(2.0 * count).reshape(count, 2), jnp.array([3.0, 5.0])
    more = jnp.arange(10.0, 10 + count)
    run, given = over_budgets(function, (1,), in_turn=in_turn), {"a": jnp.asarray(own)}
    np.testing.assert_array_equal(
        run(given, shared, more), own * [3, 5] + np.arange(10, 10 + count)[:, None]
    )
    assert seen == [count > 1]
    loops = "scan[" in str(jax.make_jaxpr(run)(given, shared, more))
    assert loops == (in_turn and count > 1)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [None, Constant()])
def test_conditioned_controller_is_monotone_in_the_price(cell):
    sanas = model(cell, conditioned=True)
    objective, optimizer, update = make(sanas, rate=False)
    state = members(sanas, objective, optimizer, 1)

    def price(key):
        low, high = np.log(0.02), np.log(3.0)
        draws = jax.random.uniform(
            jax.random.fold_in(key, 2), (1, STREAMS), minval=low, maxval=high
        )
        return jnp.exp(draws)

    state, _ = train(update, state, targets([1.0]), 1000, price)
    evaluate = jax.vmap(make_evaluate(sanas, objective), (None, None, 0))
    prices = jnp.geomspace(0.02, 3.0, 7)
    params = row(state, 0).train.params
    cost = np.asarray(jax.jit(evaluate)(params, draw(jax.random.key(9)), prices)["cost"])
    assert (np.diff(cost) <= 1e-6).all()
    assert cost[0] > 0.9
    assert cost[-1] < 0.25  # the dear edge is off: 24 of 104 MACs are always on


def test_conditioned_controller_needs_a_price():
    sanas = model(conditioned=True)
    objective, optimizer, _ = make(sanas)
    params = init_state(sanas, optimizer, objective, jax.random.key(0)).params
    with pytest.raises(ValueError, match="cost_weight: expected a price"):
        make_evaluate(sanas, objective)(params, draw(jax.random.key(0)))


def test_a_training_tells_the_prices_of_steps():
    sanas = model(conditioned=True)
    objective, optimizer, _ = make(sanas)
    params = init_state(sanas, optimizer, objective, jax.random.key(0)).params
    controller = jax.tree.map(lambda leaf: leaf + 0.3, params["controller"])
    params, batch = params | {"controller": controller}, draw(jax.random.key(5))
    prices = jnp.exp(jax.random.normal(jax.random.key(7), (STEPS, STREAMS)))
    inputs = begin(sanas, objective, params, batch, Budget(prices, jnp.zeros(())))
    key, samples = jax.random.key(6), objective.score.samples
    got = run_samples(sanas, objective, inputs, key).samples.gamma.logits
    carry = init_carry(sanas, STREAMS, prices[0])
    run = partial(unroll, sanas, params, carry, batch.features, train=True)
    own = jax.random.split(key, samples)[0]
    _, first = run(own, cost_weight=prices)
    every = got.reshape(STEPS, STREAMS, samples, -1)
    np.testing.assert_allclose(every[:, :, 0], first.gamma.logits, atol=1e-5)
    _, constant = run(own)
    assert np.abs(constant.gamma.probs - first.gamma.probs).max() > 0.01
    with pytest.raises(ValueError, match=r"budget.cost_weight: .* \(6, 64\), got \(3, 64\)"):
        begin(sanas, objective, params, batch, Budget(prices[:3], jnp.zeros(())))
    with pytest.raises(ValueError, match=r"cost_weight: .* T = 6, B = 64; got \(64,\)"):
        run(own, cost_weight=prices[0])


def test_prices_of_steps_that_are_those_of_streams_change_nothing():
    sanas = model(conditioned=True)
    objective, optimizer, _ = make(sanas)
    update = jax.jit(make_update(sanas, optimizer, objective))
    state = init_state(sanas, optimizer, objective, jax.random.key(0))
    of_streams = jnp.linspace(0.1, 2.0, STREAMS)
    along = jnp.broadcast_to(of_streams, (STEPS, STREAMS))
    later = along.at[STEPS // 2 :].set(2.0)
    batch, key, limit = draw(jax.random.key(5)), jax.random.key(6), jnp.zeros(())
    got = [
        update(state, batch, key, Budget(prices, limit))[0].params["controller"]
        for prices in (of_streams, along, later)
    ]
    same, other = ([jax.tree.leaves(tree) for tree in (got[0], tree)] for tree in got[1:])
    for a, b in zip(*same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(*other, strict=True)) > 1e-4


def test_cheapest_path_of_the_papers_network():
    net = spaces.kws_cnn("cnn-trad-fpool3", shortcuts=True, num_classes=12)
    assert cheapest_path(net, costs.edge_macs(net)) == 518_656
    assert cheapest_path(NET, costs.edge_macs(NET)) == 16 + 16


def test_cheapest_path_by_what_is_reused():
    """Where the deep layer's last value stands in, only what follows it is paid for."""
    plain, kept = (spaces.separable(reuse=reuse) for reuse in (False, True))
    assert kept.reuse
    after = costs.edge_macs(kept)
    assert cheapest_path(kept, after) == after["pass"] + after["out"]
    assert cheapest_path(plain, costs.edge_macs(plain)) > 1000 + after["out"]
