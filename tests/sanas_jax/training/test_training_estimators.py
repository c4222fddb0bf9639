"""Every estimator in an update: vmapped over budgets, blind to padding; DisARM's partners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.estimators import disarm, learned_value, leave_one_out, moving_average
from sanas_jax.training import Budget, Objective, Score, make_update
from sanas_jax.training.rollouts import begin, run_gates
from tests.sanas_jax.training.test_update import (
    MODEL,
    OBJECTIVE,
    OPTIMIZER,
    budget,
    fresh_state,
    rollout_of,
    single_batch,
)

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.slow]

ESTIMATORS = {
    "leave one out": leave_one_out(),
    "learned value": learned_value(3),
    "moving average": moving_average(),
    "disarm": disarm(),
}


def objective_with(estimator):
    return Objective(OBJECTIVE.price, Score(estimator, samples=2, discount=0.0))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_two_updates_vmap_over_budgets(estimator):
    """Two, so that what an estimator remembers of its own budget counts."""
    objective = objective_with(estimator)
    update = make_update(MODEL, OPTIMIZER, objective)

    def two(state, budget):
        for number in range(2):
            batch, key = single_batch(seed=number), jax.random.key(number)
            state, metrics = update(state, batch, key, budget)
        return state, metrics["objective"]

    budgets = Budget(jnp.array([0.0, 0.3, 3.0]), jnp.array([0.0, 0.5, 0.1]))
    state = fresh_state(objective=objective)
    together, values = jax.jit(jax.vmap(two, (None, 0)))(state, budgets)
    alone = jax.jit(two)
    for row in range(3):
        one, value = alone(state, jax.tree.map(lambda leaf, r=row: leaf[r], budgets))
        assert float(values[row]) == pytest.approx(float(value), rel=1e-4)
        for path in ("params", "estimator_state"):
            got = jax.tree.map(lambda leaf, r=row: leaf[r], getattr(together, path))
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(getattr(one, path)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    assert len(np.unique(np.asarray(values))) == 3


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_padded_steps_do_not_matter(estimator):
    """What is heard and said in steps that the mask leaves out changes nothing."""
    objective = objective_with(estimator)
    update = jax.jit(make_update(MODEL, OPTIMIZER, objective))
    batch = single_batch()
    batch = batch._replace(mask=batch.mask.at[2:, 1].set(False))
    other = batch._replace(
        features=batch.features.at[1, 8:].set(5.0), labels=batch.labels.at[2:, 1].set(-1)
    )
    # Windows of the valid steps end at frame 8.
    states = [
        update(fresh_state(objective=objective), b, jax.random.key(0), budget())[0]
        for b in (batch, other)
    ]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_partner_answers_as_the_same_gates_would_in_the_rollout():
    """Logits depend on the controller's state through the gates alone: DisARM rests on it."""
    state, batch, key = fresh_state(), single_batch(), jax.random.key(3)
    outs = rollout_of(state, batch, key)
    stranger = jax.tree.map(lambda leaf: leaf + 1.0, state.params["controller"])
    params = {"net": state.params["net"], "controller": stranger}
    streams = begin(MODEL, OBJECTIVE, params, batch, budget())
    theirs = run_gates(MODEL, OBJECTIVE, streams, outs.gates)
    np.testing.assert_allclose(theirs.logits, outs.logits, rtol=1e-5, atol=1e-6)
    assert not np.allclose(theirs.gamma.logits[..., 0], outs.gamma.logits[..., 0])
