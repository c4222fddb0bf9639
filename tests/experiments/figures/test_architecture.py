"""The found architecture drawn: where layers stand, how edges look, what is written."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.figures.architecture import LOOKS, Found, architecture_figure
from experiments.figures.layouts import make_layout
from experiments.figures.style import LIGHT, NARROW, WIDE, to_svg
from sanas_jax import spaces
from sanas_jax.costs import edge_macs
from sanas_jax.graph import Net, prune
from tests.helpers.nets import dag, random_dag

NETS = {
    "fabric": lambda: spaces.fabric(3, 2, input_shape=(8, 8, 1)),
    "paper": lambda: spaces.fabric(8, 2),
    "pixels": lambda: spaces.fabric(3, 2, input_shape=(8, 8, 3), per_pixel=True),
    "blocks": lambda: spaces.fabric(3, 2, blocks=3, input_shape=(4, 4, 1)),
    "resnet": lambda: spaces.resnet(3, (2, 2)),
    "resnet fabric": lambda: spaces.resnet_fabric(3, (2, 2, 2)),
    "dense resnet": lambda: spaces.dense_resnet(2, (2,)),
    "keywords": lambda: spaces.kws_cnn(maps=(2, 2)),
}


@pytest.fixture(scope="module")
def net() -> Net:
    return NETS["fabric"]()


def found_with(net: Net, off: set[str]) -> Found:
    """All edges on with 0.8 but these, with 0.2."""
    probability = np.array([0.2 if name in off else 0.8 for name in net.index])
    probability[[not edge.gated for edge in net.edges]] = 1
    live = np.asarray(prune(net, (probability > 0.5).astype(np.float32)))
    return Found(probability, live)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("layout", [None, "layered"])
def test_make_layout_puts_no_two_layers_in_one_place(name: str, layout: str | None) -> None:
    net = NETS[name]()
    drawn = make_layout(net, layout)
    assert list(drawn.paths) == list(net.index)
    assert set(drawn.places) == {layer.name for layer in net.layers}
    places = np.array(list(drawn.places.values()))
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    assert distance[~np.eye(len(places), dtype=bool)].min() > 0.2
    for edge in net.edges:
        ends = drawn.paths[edge.name].vertices[[0, -1]]
        np.testing.assert_allclose(ends, [drawn.places[edge.source], drawn.places[edge.target]])
    curves = {path.vertices.tobytes() for path in drawn.paths.values()}
    assert len(curves) == len(net.edges)


def test_make_layout_of_a_fabric_is_its_grid(net: Net) -> None:
    drawn = make_layout(net)
    nodes = {name: place for name, place in drawn.places.items() if "_" in name}
    assert nodes == {f"{i}_{s}": (i, -s) for i in range(3) for s in range(4)}
    assert (drawn.places["input"], drawn.places["logits"]) == ((-1, 0), (3, -3))
    assert drawn.rows == {0: "8×8", -1: "4×4", -2: "2×2", -3: "1×1"}
    assert all(len(path.vertices) == 2 for path in drawn.paths.values())
    assert drawn.extent == ((-1, -3), (3, 0))


def test_make_layout_of_a_fabric_of_pixels_ends_where_it_began() -> None:
    places = make_layout(NETS["pixels"]()).places
    assert (places["input"], places["0_0"], places["2_0"], places["logits"]) == (
        *((-1, 0), (0, 0)),
        *((2, 0), (3, 0)),
    )


def test_make_layout_of_a_resnet_fabric_runs_to_and_fro() -> None:
    places = make_layout(NETS["resnet fabric"]()).places
    rows = [["stem", "0_0", "0_1", "0_2"], ["1_2", "1_1", "1_0"], [None, "2_0", "2_1", "2_2"]]
    for y, row in enumerate(rows):
        for x, name in enumerate(row):
            assert name is None or places[name] == (x, -y)
    assert (places["features"], places["logits"]) == ((4, -2), (5, -2))
    # Straight shortcuts stand upright.
    net = NETS["resnet fabric"]()
    straight = [edge for edge in net.edges if edge.name.startswith("short_s_")]
    assert straight
    assert all(places[edge.source][0] == places[edge.target][0] for edge in straight)


def test_make_layout_ends_a_row_that_runs_left_at_the_left() -> None:
    places = make_layout(NETS["resnet"]()).places
    assert places["1_2"] == (0, -1)
    assert (places["features"], places["logits"]) == ((-1, -1), (-2, -1))


def test_make_layout_takes_depth_where_sizes_say_little() -> None:
    assert not make_layout(NETS["keywords"]()).rows
    assert not make_layout(dag([(0, 1), (1, 2)], 3, features=1)).rows
    assert make_layout(NETS["dense resnet"]()).rows == {0: "25×13"}


def test_make_layout_bends_edges_around_layers_and_each_other() -> None:
    paths = make_layout(NETS["resnet"]()).paths
    block, skip = (paths[f"{kind}_0_1"].vertices for kind in ("block", "skip"))
    assert block[1][1] == -skip[1][1] > 0


@pytest.mark.parametrize(
    ("layout", "message"),
    [("circle", "expected one of .*got 'circle'"), ("grid", "layers of images")],
)
def test_make_layout_refuses(layout: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_layout(random_dag(0), layout)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_architecture_figure_draws_each_edge_once(net: Net, width: float) -> None:
    off = {"0_0-1_0", "0_1-1_0", "0_0-1_1"}
    panels = {"one": found_with(net, off), "all": found_with(net, set())}
    figure = architecture_figure(net, panels, edge_macs(net), width)
    one, every = figure.axes
    for axes in (one, every):
        assert [patch.get_gid() for patch in axes.patches] == list(net.index)
    drawn = dict(zip(net.index, one.patches, strict=True))
    colors = {name: to_hex(patch.get_edgecolor()) for name, patch in drawn.items()}
    assert colors["0_1-1_1"] == LIGHT["cell"]
    assert colors["stem"] == colors["out"] == LIGHT["ink"]
    assert colors["1_0-2_0"] == LIGHT["word"]  # on, but nothing reaches 1_0
    assert {colors[name] for name in off} == {LIGHT["muted"]}
    assert drawn["0_0-1_0"].get_linestyle() != drawn["0_1-1_1"].get_linestyle() == "solid"
    assert drawn["0_1-1_1"].get_linewidth() > drawn["0_0-1_0"].get_linewidth()
    assert {to_hex(patch.get_edgecolor()) for patch in every.patches} == {
        LIGHT["cell"],
        LIGHT["ink"],
    }
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(LOOKS)


def test_architecture_figure_writes_costs_where_there_is_room(net: Net) -> None:
    path = {"stem", "0_0-0_1", "0_1-0_2", "0_2-0_3", "0_3-1_3", "1_3-2_3", "out"}
    found = found_with(net, set(net.index) - path)
    macs = {name: 1000 * (i + 1) for i, name in enumerate(net.index)}
    costs = {f"{i + 1}k" for i, name in enumerate(net.index) if name in path}
    (axes,) = architecture_figure(net, {"one": found}, macs).axes
    layers = {layer.name for layer in net.layers}
    assert {text.get_text() for text in axes.texts} == layers | costs
    (axes,) = architecture_figure(net, {"one": found}, {}).axes
    assert {text.get_text() for text in axes.texts} == layers
    (axes,) = architecture_figure(net, {"all": found_with(net, set())}, macs).axes
    assert {text.get_text() for text in axes.texts} == layers


def test_architecture_figure_of_many_layers_has_dots_on_a_phone() -> None:
    net = NETS["paper"]()
    (axes,) = architecture_figure(net, {"all": found_with(net, set())}, {}, NARROW).axes
    assert len(axes.lines) == len(net.layers)
    assert [text.get_text() for text in axes.texts] == ["logits", "input"]
    places = [tuple(line.get_xydata()[0]) for line in axes.lines]
    assert sorted(places) == sorted(make_layout(net).places.values())


def test_architecture_figure_leaves_out_looks_that_do_not_occur(net: Net) -> None:
    looks = ("often", "always", "", "seldom")
    figure = architecture_figure(net, {"all": found_with(net, set())}, {}, looks=looks)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["often", "always", "seldom"]


def test_architecture_figure_leaves_with_roles_for_colors(net: Net) -> None:
    figure = architecture_figure(net, {"one": found_with(net, {"0_0-1_0"})}, edge_macs(net))
    svg = to_svg(figure, "architecture", "an architecture")
    assert "var(--cell)" in svg
    assert not any(light in svg for light in LIGHT.values())
    assert 'class="0_0-1_0"' in svg
