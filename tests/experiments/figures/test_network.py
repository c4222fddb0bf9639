"""The super-network drawn: where layers stand, which way edges go, what is written."""

import numpy as np
import pytest

from experiments.figures.network import edge_routes, layer_places, network_figure
from experiments.figures.style import NARROW, WIDE
from sanas_jax.graph import Net
from tests.helpers.nets import dag, random_dag

# 0 → 1 → 2 → 4, 3 beside 2, skips over both, and 4 → 5 without a gate
PAIRS = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4), (1, 4), (4, 5)]


def skips() -> Net:
    return dag(PAIRS, 6, features=4, always=[7])


def test_layers_stand_at_their_longest_path() -> None:
    places = layer_places(skips())
    assert [places[f"l{i}"][0] for i in range(6)] == [0, 1, 2, 2, 3, 4]
    assert places["l2"][1] == -places["l3"][1] != 0


@pytest.mark.parametrize("seed", range(20))
def test_no_two_layers_in_one_place_and_edges_run_forward(seed: int) -> None:
    net = random_dag(seed, max_edges=14)
    places = layer_places(net)
    assert len(set(places.values())) == len(net.layers)
    for edge in net.edges:
        assert places[edge.source][0] < places[edge.target][0]


def test_skips_arc_and_do_not_meet() -> None:
    routes = edge_routes(skips(), 0.5)
    assert {name for name, route in routes.items() if route.level} == {"0-4", "1-4"}
    assert (
        routes["0-4"].peak > routes["1-4"].peak > max(p[1] for p in layer_places(skips()).values())
    )
    assert routes["1-2"].peak == np.mean([routes["1-2"].source[1], routes["1-2"].target[1]])


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_network_figure_draws_an_edge_for_each_edge(width: float) -> None:
    net = skips()
    macs = {edge.name: 1000 * (i + 1) for i, edge in enumerate(net.edges)}
    usage = np.array([1, 0.5, 0, 0.25, 0.1, 1, 1, 1])
    panels = {"In silence": usage, "At words": 0 * usage + 1}
    figure = network_figure(net, macs, panels, width)
    silence, words = figure.axes
    for axes in (silence, words):
        assert [patch.get_gid() for patch in axes.patches] == [edge.name for edge in net.edges]
    widths = [patch.get_linewidth() for patch in silence.patches]
    assert widths[0] == widths[5] > widths[1] > widths[3] > widths[4] > widths[2]
    assert silence.patches[7].get_edgecolor() != silence.patches[0].get_edgecolor()
    texts = {" ".join(text.get_text().replace("·", "").split()) for text in silence.texts}
    assert {"1-2 2k 50 %", "0-4 6k 100 %", "l0", "l5"} <= texts


def test_network_figure_of_many_edges_drops_their_labels() -> None:
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    net = dag(pairs, 9, features=7)
    macs = dict.fromkeys((edge.name for edge in net.edges), 1)
    (axes,) = network_figure(net, macs, {"All frames": np.ones(len(pairs))}).axes
    assert len(axes.patches) == len(pairs) == 36
    assert {text.get_text() for text in axes.texts} == {f"l{i}" for i in range(9)}
