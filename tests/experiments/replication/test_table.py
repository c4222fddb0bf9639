"""The table from results that are known: means, spreads, what is missing, the paper's rows."""

import json

import numpy as np
import pytest

from experiments.figures.paper_curve import Panel, Place, accuracy_for_cost
from experiments.replication import figures
from experiments.replication.plan import Cell, Setup, cells
from experiments.replication.results import Spread, read_rows, seeds_begun
from experiments.replication.table import table_to_json, table_to_markdown
from tests.helpers.paper_runs import FULL, write_heard, write_named, write_trained
from tests.helpers.toy import write_toy_cache

CHAIN, STATIC = Cell("chain", None), Cell("static", None)
SANAS, TOLD = Cell("sanas", 1.0), Cell("told", 1.0)
STREAMS = ("test_0", "test_1", "test_2")


@pytest.fixture
def setup(tmp_path):
    return Setup("small", 2, tmp_path / "out", tmp_path / "cache")


def write_all(setup, seeds=(0,)):
    """Some networks of some seeds; a seed more is ten points more."""
    for seed in seeds:
        for cell in (CHAIN, STATIC, SANAS, TOLD):
            write_trained(setup, seed, cell, 600, 600)
            write_named(setup, seed, cell, 90.0 + seed)
            for number, stream in enumerate(STREAMS):
                right = 60.0 + number + 10 * seed
                for detector, more in (("default", 0), ("calibrated", 5)):
                    write_heard(setup, seed, cell, stream, 600, detector, correct_pct=right + more)


def grid_of(text, detector="The protocol's"):
    """The cells of a detector's table."""
    part = next(p for p in text.split("## ") if p.startswith(detector))
    lines = [line for line in part.split("\n") if line.startswith("|")]
    return [[word.strip() for word in line.strip("|").split("|")] for line in lines]


def line_of(grid, label):
    (found,) = [line for line in grid if line[0] == label]
    return dict(zip(grid[0], found, strict=True))


def test_a_spread_of_rounding_is_none(setup):
    write_trained(setup, 0, STATIC, 600, 600)
    for number, stream in enumerate(STREAMS):
        cost = np.nextafter(8e6, 9e6) if number else 8e6
        write_heard(setup, 0, STATIC, stream, 600, "default", macs_per_frame=cost)
    line = line_of(grid_of(table_to_markdown(setup, read_rows(setup))), "+ shortcuts")
    assert line["MACs/frame"] == "8M"


def test_one_seed_is_spread_over_its_streams(setup):
    write_all(setup)
    text = table_to_markdown(setup, read_rows(setup))
    assert "1 of 2 seeds evaluated" in text
    assert "over streams" in text
    line = line_of(grid_of(text), "SANAS at λ=1")
    assert line == {
        "model": "SANAS at λ=1",
        "trained": "600",
        "match %": "80.0 ± 0.0",
        "correct %": "61.0 ± 1.0",  # of 60, 61, 62
        "wrong %": "10.0 ± 0.0",
        "FA %": "0.5 ± 0.0",
        "MACs/frame": "8M",
        "share %": "50.0",
        "clips %": "90.0",
    }
    calibrated = line_of(grid_of(text, "The detector chosen"), "SANAS at λ=1")
    assert calibrated["correct %"] == "66.0 ± 1.0"


def test_several_seeds_are_spread_over_seeds(setup):
    write_all(setup, seeds=(0, 1))
    rows = read_rows(setup)
    line = line_of(grid_of(table_to_markdown(setup, rows)), "+ shortcuts")
    assert line["correct %"] == "66.0 ± 7.1"  # of 61 and 71
    assert line["clips %"] == "90.5 ± 0.7"
    row = next(row for row in rows if row.cell == STATIC)
    assert row.on_streams("correct_pct") == Spread(66.0, pytest.approx(np.sqrt(50)))


def test_what_is_not_there_is_a_dash(setup):
    write_all(setup)
    grid = grid_of(table_to_markdown(setup, read_rows(setup)))
    line = line_of(grid, "SANAS at λ=3")
    assert set(list(line.values())[1:]) == {"–"}
    assert len(grid) == 2 + len(cells()) + 8


def test_nothing_at_all_is_a_table_of_dashes(setup):
    rows = read_rows(setup)
    assert seeds_begun(setup) == []
    assert line_of(grid_of(table_to_markdown(setup, rows)), "cnn-trad-fpool3")["correct %"] == "–"
    assert figures.figure_5(rows) is None
    assert figures.figure_6(setup) is None
    assert json.loads(json.dumps(table_to_json(setup, rows)))["seeds"] == []


def test_unfinished_runs_say_their_steps(setup):
    write_trained(setup, 0, CHAIN, 450, 1500)
    write_trained(setup, 0, STATIC, 900, 1500)
    write_trained(setup, 1, STATIC, 1000, 1500)
    write_heard(setup, 0, STATIC, "test_0", 800, "default")
    grid = grid_of(table_to_markdown(setup, read_rows(setup)))
    assert line_of(grid, "cnn-trad-fpool3")["trained"] == "450 of 1500"
    # Of the checkpoint that was evaluated, where one was.
    assert line_of(grid, "+ shortcuts")["trained"] == "800 to 1000 of 1500"
    assert line_of(grid, "+ shortcuts")["correct %"] == "70.0"  # one stream, one seed: no spread


def test_rows_of_a_network_stand_by_cost_with_the_papers_among_them(setup):
    write_trained(setup, 0, SANAS, 600, 600)
    write_heard(setup, 0, SANAS, "test_0", 600, "default", macs_per_frame=0.3 * FULL)
    write_trained(setup, 0, Cell("sanas", 3.0), 600, 600)
    write_heard(setup, 0, Cell("sanas", 3.0), "test_0", 600, "default", macs_per_frame=0.1 * FULL)
    grid = grid_of(table_to_markdown(setup, read_rows(setup)))
    shares = [line[7] for line in grid if "SANAS" in line[0] and "told" not in line[0]]
    expected = ["*0.4*", "10.0", "*16.7*", "*27.5*", "30.0", "*35.5*", "*68.5*", "*76.8*"]
    assert shares[1:] == [*expected, *["–"] * 4]  # first: as many steps as SANAS
    assert grid[3][:4] == ["*cnn-trad-fpool3*", "*the paper*", "*81.7*", "*72.8*"]


def test_only_the_protocols_table_has_the_papers_rows(setup):
    text = table_to_markdown(setup, read_rows(setup))
    assert text.count("*the paper*") == 8
    assert "*the paper*" not in text.split("## ")[2]


def test_the_table_says_what_it_is_of(setup):
    write_toy_cache(setup.cache)
    assert "(16 for training, 16 for validation, 16 for testing)" in table_to_markdown(
        setup, read_rows(setup)
    )
    data = table_to_json(setup, read_rows(setup))["data"]
    assert data["clips"] == {"training": 16, "validation": 16, "testing": 16}
    assert data["sha256"] == "0" * 64


def test_json_holds_what_the_means_are_made_of(setup):
    write_all(setup, seeds=(0, 1))
    found = json.loads(json.dumps(table_to_json(setup, read_rows(setup))))
    row = next(r for r in found["rows"] if r["network"] == "told" and r["price"] == 1.0)
    assert row["detector"] == "default"
    assert row["streams"]["1"]["test_2"]["correct_pct"] == 72.0
    assert row["on_streams"]["correct_pct"]["mean"] == 66.0
    assert row["evaluated_at"] == {"0": 600, "1": 600}
    assert row["trained"]["1"] == {"step": 600, "of": 600}
    assert row["spread_over"] == "seeds"
    assert len(found["paper"]) == 8


def test_damaged_results_are_named(setup):
    write_all(setup)
    file = setup.out / "seed_0" / "chain" / "evaluations" / "test_1.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"test_1\.json: expected a result of evaluate"):
        read_rows(setup)


def test_figure_5_has_a_panel_each_and_all_networks(setup, monkeypatch):
    write_all(setup)
    drawn = {}
    monkeypatch.setattr(figures, "to_png", lambda figure: b"png")
    monkeypatch.setattr(
        figures, "accuracy_for_cost", lambda panels, full: drawn.update(panels=panels, full=full)
    )
    assert figures.figure_5(read_rows(setup)) == b"png"
    clips, protocol, calibrated = drawn["panels"]
    assert drawn["full"] == FULL
    assert clips.networks["SANAS"] == [Place(25.0, 90.0, None, None)]
    assert protocol.networks["SANAS"] == [Place(50.0, 61.0, 0.0, 1.0)]
    assert calibrated.networks["SANAS"] == [Place(50.0, 66.0, 0.0, 1.0)]
    assert len(protocol.networks["the paper, SANAS"]) == 6
    assert protocol.networks["the paper, static"][1] == Place(100.0, 77.9)


def test_a_panel_joins_places_by_cost_and_says_that_there_is_nothing():
    full = Panel("one", "%", {"a": [Place(50, 80), Place(5, 60, 1, 2)], "b": []})
    figure = accuracy_for_cost([full, Panel("two", "%", {"a": []})], 16e6)
    first, second = figure.axes
    assert [5, 50] in [list(line.get_xdata()) for line in first.lines]
    assert first.get_xlabel() == "MACs, % of 16M"
    assert [text.get_text() for text in second.texts] == ["nothing yet"]
