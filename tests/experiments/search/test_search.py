"""Random search and evolution against all architectures of a small graph."""

from itertools import product

import numpy as np
import pytest

from experiments.search.methods import METHODS, Score, Scored, Search, best, evolution, run_search
from experiments.search.space import Space, mutated, random_architectures
from sanas_jax import costs
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.spaces.separable import separable
from tests.helpers.nets import dag

PAIRS = ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (0, 4), (3, 4))
SPACE = Space(dag(PAIRS, 5, features=4), costs.macs(dag(PAIRS, 5, features=4)))
TARGET = (1, 1, 1, 0, 1, 0, 0, 1)


def live_by_hand(gates: tuple[int, ...]) -> tuple[int, ...]:
    """Edges on a path of edges that are on, from 0 to 4."""
    on = [pair for pair, gate in zip(PAIRS, gates, strict=True) if gate]
    after, before = {0}, {4}
    for _ in PAIRS:
        after |= {j for i, j in on if i in after}
        before |= {i for i, j in on if j in before}
    return tuple(int(pair in on and pair[0] in after and pair[1] in before) for pair in PAIRS)


# Each edge is a matrix of 3 × 3.
EVERYTHING = {
    live: 9 * sum(live) for live in map(live_by_hand, product((0, 1), repeat=8)) if any(live)
}


def likeness(found):
    """A score that is highest at `TARGET`."""
    return [Score(float(np.mean(one.live == np.array(TARGET, bool))), 0.0) for one in found]


def as_tuple(architecture):
    return tuple(map(int, architecture.live))


@pytest.mark.parametrize("budget", [9, 18, 30, 72])
def test_random_architectures_are_all_that_keep_a_budget(budget):
    found = random_architectures(SPACE, budget, 1000, np.random.default_rng(0))
    expected = {live for live, cost in EVERYTHING.items() if cost <= budget}
    assert {as_tuple(one) for one in found} == expected
    assert len(found) == len(expected)
    assert all(one.cost == EVERYTHING[as_tuple(one)] for one in found)


def test_random_architectures_stop_at_their_number():
    assert len(random_architectures(SPACE, 72, 7, np.random.default_rng(0))) == 7


def test_a_budget_that_nothing_keeps_is_refused():
    with pytest.raises(ValueError, match="--budgets: expected one that some architecture keeps"):
        random_architectures(SPACE, 8, 3, np.random.default_rng(0))


def test_mutated_is_another_within_the_budget():
    rng = np.random.default_rng(1)
    (parent,) = random_architectures(SPACE, 27, 1, rng)
    for _ in range(30):
        child = mutated(SPACE, parent, 27, rng)
        assert as_tuple(child) != as_tuple(parent)
        assert child.cost == EVERYTHING[as_tuple(child)] <= 27
        parent = child


def test_mutated_is_the_parent_where_there_is_no_other():
    only = SPACE.architecture(np.array([0, 0, 0, 0, 0, 0, 1, 0], bool))
    assert mutated(SPACE, only, 9, np.random.default_rng(0)) is only


def test_an_architecture_without_a_path_is_refused():
    with pytest.raises(ValueError, match="reaches the output"):
        SPACE.architecture(np.array([1, 0, 0, 0, 0, 0, 0, 0], bool))


def test_what_reuses_the_step_before_is_off():
    net = separable(num_classes=3)
    space = Space(net, costs.macs(net))
    keep = net.index["keep"]
    number = 2**6 - 1  # glance and five exits, in any combination but none
    found = random_architectures(space, np.inf, number, np.random.default_rng(0))
    assert len(found) == number
    assert not any(one.live[keep] for one in found)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("budget", [18, 45])
def test_a_search_keeps_its_budget_and_its_number(name, budget):
    kept = []
    search = Search(evaluations=14, population=5, tournament=2, at_once=4)
    found = run_search(
        METHODS[name], SPACE, budget, search, 3, likeness, lambda h: kept.append([*h])
    )
    history = kept[-1]
    enough = sum(cost <= budget for cost in EVERYTHING.values()) if name == "random" else 14
    assert len(history) == min(14, enough)
    assert all(EVERYTHING[as_tuple(one.architecture)] <= budget for one in history)
    assert found.score.accuracy == max(one.score.accuracy for one in history)
    assert [h[: len(kept[0])] for h in kept] == [kept[0]] * len(kept)  # it only grows


def test_evolution_draws_parents_from_those_alive():
    # All who are alive are one architecture, those who died are others: a child is near the former.
    parent = SPACE.architecture(np.array(live_by_hand((1,) * 8), bool))
    others = random_architectures(SPACE, 18, 3, np.random.default_rng(0))
    history = [Scored(one, Score(1.0, 0.0)) for one in others]
    history += [Scored(parent, Score(0.0, 0.0))] * 4
    search = Search(evaluations=27, population=4, tournament=4, at_once=20)
    for child in evolution(SPACE, 72, search, 0, history):
        flipped = [gates for gates in product((0, 1), repeat=8) if sum(gates) >= 5]
        assert as_tuple(child) in set(map(live_by_hand, flipped))


def test_evolution_beats_random_search_and_finds_the_best_of_all():
    pairs = tuple((i, j) for j in range(1, 6) for i in range(j))
    net = dag(pairs, 6, features=5)
    space = Space(net, costs.macs(net))
    target = np.zeros(15, bool)
    target[[pairs.index(p) for p in ((0, 1), (1, 2), (2, 3), (3, 5), (0, 3), (2, 5), (1, 3))]] = (
        True
    )
    assert space.architecture(target).cost == 9 * 7

    def score(found):
        return [Score(float(np.mean(one.live == target)), 0.0) for one in found]

    search = Search(evaluations=100, population=12, tournament=4, at_once=5)
    reached = {
        name: [
            run_search(method, space, 108, search, seed, score).score.accuracy for seed in range(6)
        ]
        for name, method in METHODS.items()
    }
    print(reached)
    assert np.mean(reached["evolution"]) > np.mean(reached["random"]) + 0.03
    assert max(reached["evolution"]) == 1.0


def test_a_search_is_its_seed_and_its_scores():
    search = Search(evaluations=20, population=5, tournament=2, at_once=3)
    runs = [[], [], []]
    for history, seed in zip(runs, (0, 0, 1), strict=True):
        run_search(
            evolution, SPACE, 72, search, seed, likeness, lambda h, to=history: to.append(h[:])
        )
    edges = [[as_tuple(one.architecture) for one in run[-1]] for run in runs]
    assert edges[0] == edges[1] != edges[2]


def test_best_tells_equals_apart():
    some = random_architectures(SPACE, 72, 3, np.random.default_rng(0))
    scored = [
        Scored(one, Score(0.5, loss)) for one, loss in zip(some, (0.3, 0.1, 0.2), strict=True)
    ]
    assert best(scored) is scored[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 0}, "--evaluations: expected at least 1"),
        ({"tournament": 9, "population": 5}, "population of 5"),
    ],
)
def test_search_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Search(**options)


def test_a_cost_of_streams_is_that_of_a_step_after_others():
    net = separable(num_classes=3)
    space = Space(net, incremental_macs(net, 20))
    everything = space.architecture(np.ones(len(net.edges), bool))
    assert everything.cost == pytest.approx(sum(fresh_macs(net, 20).values()))
