"""List scheduling: against a simulation in time, the authors' counts, and as a cost in training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.costs.schedule import makespan
from sanas_jax.graph import prune
from sanas_jax.training.terms import max_penalty
from tests.helpers.nets import all_gates, dag, random_dag
from tests.sanas_jax.test_estimators import (
    NET,
    assert_same,
    exact_gradient,
    expected_estimate,
    problem,
)

pytestmark = pytest.mark.usefixtures("strict")


def simulate(on, before, durations, workers: int) -> float:
    """Time from event to event: what can start starts, then the clock moves to the next end."""
    waiting = [op for op in range(len(on)) if on[op]]
    running: dict[int, float] = {}
    ended: set[int] = set()
    now = 0
    while True:
        ended |= {op for op, end in running.items() if end <= now}
        running = {op: end for op, end in running.items() if end > now}
        ready = [
            op
            for op in waiting
            if all(other in ended for other in range(len(on)) if on[other] and before[op][other])
        ]
        if ready and len(running) < workers:
            waiting.remove(ready[0])
            running[ready[0]] = now + durations[ready[0]]
        elif running:
            now = min(running.values())
        else:
            assert not waiting
            return now


def longest_path(on, before, durations) -> float:
    ends: list[float] = []
    for op in range(len(on)):
        start = max([ends[other] for other in range(op) if before[op][other]], default=0)
        ends.append(start + durations[op] if on[op] else 0)
    return max(ends)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_makespan_of_random_graphs(seed, workers):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 16))
    before = np.tril(rng.random((size, size)) < rng.uniform(0.1, 0.5), -1)
    durations = rng.integers(0, 6, size)
    masks = rng.random((40, size)) < 0.8
    got = jax.jit(jax.vmap(makespan(before, durations, workers)))(jnp.asarray(masks))
    np.testing.assert_array_equal(got, [simulate(on, before, durations, workers) for on in masks])


def test_makespan_by_hand():
    # a (3) and b (1) first, then c (2) after b, d (2) after a and b, e (1) after c.
    before = np.zeros((5, 5), bool)
    before[2, 1] = before[3, 0] = before[3, 1] = before[4, 2] = True
    durations = np.array([3, 1, 2, 2, 1])
    on = jnp.ones(5, bool)
    # One: 3 + 1 + 2 + 2 + 1. Two: a 0-3, b 0-1, c 1-3, d 3-5, e 3-4. More do not help.
    for workers, expected in ((1, 9), (2, 5), (3, 5), (100, 5)):
        assert makespan(before, durations, workers)(on) == expected
    # Without a: b 0-1, c 1-3 and d 1-3, e 3-4. Nothing at all takes no time.
    assert makespan(before, durations, 2)(on.at[0].set(False)) == 4
    assert makespan(before, durations, 2)(on & False) == 0


def test_makespan_an_operation_of_no_duration_waits_for_a_worker():
    # First (5) and second (0) are independent, third (1) follows the second.
    before = np.zeros((3, 3), bool)
    before[2, 1] = True
    durations = np.array([5, 0, 1])
    on = jnp.ones(3, bool)
    assert [float(makespan(before, durations, n)(on)) for n in (1, 2)] == [6, 5]
    assert makespan(before, np.zeros(3), 1)(on) == 0


def test_makespan_is_greedy_not_optimal():
    """The first operation that is ready goes first, although what follows another takes longer."""
    before = np.zeros((4, 4), bool)
    before[3, 2] = True
    durations = np.array([1, 1, 1, 2])
    # 0 and 1, then 2, then 3. With 2 at first and 3 right after it, all would have ended at 3.
    assert makespan(before, durations, 2)(jnp.ones(4, bool)) == 4


def operations(net, durations):
    """The net's edges as a list of operations: permutation, before, durations."""
    order = sorted(range(len(net.edges)), key=lambda e: (net.order[net.edges[e].source], e))
    edges = [net.edges[e] for e in order]
    before = [[other.target == edge.source for other in edges] for edge in edges]
    return order, before, [durations[edge.name] for edge in edges]


@pytest.mark.parametrize("seed", range(4))
def test_parallel_of_random_nets(seed):
    net = random_dag(seed, max_edges=8)
    rng = np.random.default_rng(seed)
    table = {edge.name: int(rng.integers(0, 5)) for edge in net.edges}
    masks = all_gates(len(net.edges))[rng.permutation(2 ** len(net.edges))[:60]]
    order, before, durations = operations(net, table)
    live = np.asarray(prune(net, masks))[:, order]
    for workers in (1, 2, 3, 4, len(net.edges)):
        cost = costs.parallel(net, workers, table)
        got = np.asarray(cost(masks))
        np.testing.assert_array_equal(
            got, [simulate(on, before, durations, workers) for on in live]
        )
        if workers == 1:
            np.testing.assert_array_equal(got, costs.table(net, table)(masks))
    np.testing.assert_array_equal(got, [longest_path(on, before, durations) for on in live])


def test_parallel_of_any_leading_axes():
    cost, masks = costs.parallel(NET, 2), jnp.asarray(all_gates(5))
    expected = cost(masks)
    assert len(set(expected.tolist())) > 2
    np.testing.assert_array_equal(jax.jit(jax.vmap(cost))(masks), expected)
    np.testing.assert_array_equal([cost(mask) for mask in masks[::5]], expected[::5])
    np.testing.assert_array_equal(jax.jit(cost)(masks.reshape(4, 8, 5)).ravel(), expected)
    assert cost(masks[0]).shape == ()


def test_parallel_counts_steps_of_live_edges():
    # A chain l0 → l1 → l2 → l3 beside l0 → l3, listed first, and l0 → l2.
    net = dag([(0, 3), (2, 3), (0, 1), (1, 2), (0, 2)], 4, features=3)
    gates = jnp.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 0, 1, 1, 1], [0, 0, 1, 1, 1.0]])
    # All on, two workers: 0-3 and 0-1; 1-2 and 0-2; 2-3. The chain alone: 3. Dead branches: 1, 0.
    np.testing.assert_array_equal(costs.parallel(net, 2)(gates), [3, 3, 1, 0])
    np.testing.assert_array_equal(costs.parallel(net, 1)(gates), [5, 3, 1, 0])
    # 2-3 is listed before 0-1, but its source comes later.
    slow = dict.fromkeys(net.index, 1) | {"0-3": 10}
    np.testing.assert_array_equal(costs.parallel(net, 2, json.dumps(slow))(gates), [10, 3, 10, 0])
    np.testing.assert_array_equal(costs.parallel(net, 1, slow)(gates), [14, 3, 10, 0])


def test_parallel_has_no_gradient():
    cost = costs.parallel(NET, 2)
    gates = jnp.ones((3, 5))
    np.testing.assert_array_equal(jax.grad(lambda g: cost(g).sum())(gates), np.zeros((3, 5)))


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_parallel_bad_workers_raise(workers):
    with pytest.raises(ValueError, match="workers: expected a whole number ≥ 1, got"):
        costs.parallel(NET, workers)


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ({"0-1": 1}, r"expected one per edge; missing \['0-2', '0-3', '1-2', '2-3'\]"),
        (dict.fromkeys(NET.index, -1), "edge '0-1': expected a number ≥ 0, got -1"),
        ("{", "expected a JSON object, got invalid JSON"),
        ([1] * 5, "expected edge name → number, got list"),
    ],
)
def test_parallel_malformed_durations_raise(durations, message):
    with pytest.raises(ValueError, match="durations: .*" + message):
        costs.parallel(NET, 2, durations)


def test_makespan_of_a_list_out_of_order_raises():
    before = np.array([[False, True], [False, False]])
    with pytest.raises(ValueError, match="wait only for earlier ones in the list"):
        makespan(before, np.ones(2), 1)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_parallel_unbiased_by_enumeration(monkeypatch, x64, workers):
    """The gradient of the expected objective, from a cost that has none."""
    first, params, gamma = problem(NET, 1)
    cost = costs.parallel(NET, workers, {"0-1": 3, "0-2": 1, "1-2": 1, "2-3": 2, "0-3": 4})

    def objective(params, gates):
        price = max_penalty(cost(gates), jnp.float32(4)).astype(jnp.float64)
        return first(params, gates) + 0.2 * price

    value, exact = exact_gradient(NET, objective, params, gamma, 1)
    grads, mean = expected_estimate(monkeypatch, NET, objective, params, gamma, 1)
    assert float(mean) == pytest.approx(float(value), rel=1e-12)
    assert_same(grads, exact)
    # The cost is part of what is found: without it the gradient is another one.
    _, without = exact_gradient(NET, first, params, gamma, 1)
    assert np.abs(np.asarray(exact[1].logits - without[1].logits)).max() > 1e-2


@pytest.fixture(scope="module")
def graphs(reference):
    """The authors' graphs: every node is an operation, sums included."""
    return json.loads((reference / "a_costs_bsn.json").read_text())


def node_operations(nodes, edges, free):
    """Nodes in their order of traversal as operations of one step; identities take no time."""
    place = {name: i for i, name in enumerate(nodes)}
    before = np.zeros((len(nodes), len(nodes)), bool)
    for earlier, later in edges:
        before[place[later], place[earlier]] = True
    return before, np.array([float(name not in free) for name in nodes])


@pytest.mark.parametrize(
    "name",
    [
        "B-CNF/layers=3,channels=5",
        "B-CNF/layers=8,channels=64",
        "ResNet/blocks=3,width=[3],maps=[16,32,64],bottlenecks=False",
        "ResCNF_slr/blocks=3,width=[5],maps=[16,32,64],bottlenecks=False",
        "ResCNF_slr/blocks=3,width=[3],maps=[16,32,64],bottlenecks=True",
    ],
)
def test_makespan_is_the_authors_number_of_steps(graphs, name):
    graph = graphs[name]
    nodes, cost = graph["nodes_in_traversal_order"], graph["cost_per_node"]
    free = [n for n in nodes if graph["module_type"][n] == "Skip_Block" and cost[n] == 0]
    before, durations = node_operations(nodes, graph["edges"], free)
    on = jnp.ones(len(nodes), bool)
    steps = {n: float(makespan(before, durations, int(n))(on)) for n in graph["parallel_steps"]}
    assert steps == graph["parallel_steps"]


@pytest.mark.parametrize("file", ["bcnf_8x8_l3c4", "resnet_32x32_w1_maps3_6_12"])
def test_makespan_of_the_authors_pruned_architectures(reference, file):
    with np.load(reference / f"golden_bsn_{file}.npz") as golden:
        nodes = [str(name) for name in golden["graph/nodes_traversal"]]
        charged = dict(zip(nodes, golden["graph/costs_traversal"], strict=True))
        free = [n for n in nodes if n.startswith(("SKIP", "IDENT")) and charged[n] == 0]
        before, durations = node_operations(nodes, golden["graph/edges"], free)
        steps = jax.vmap(makespan(before, durations, 2))
        for mask in ("ones", "random50", "random80"):
            on = jnp.asarray(golden[f"{mask}/max_half/pruned"].T > 0)
            expected = golden[f"{mask}/max_half/costs_pruned_parallel_2"]
            np.testing.assert_array_equal(steps(on), expected)
