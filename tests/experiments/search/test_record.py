"""The file of a search: what it knows again, and what it refuses."""

import json

import numpy as np
import pytest

from experiments.search.methods import Score, Scored
from experiments.search.record import Record, Search
from experiments.search.space import Space, random_architectures
from sanas_jax import costs
from tests.helpers.nets import dag

NET = dag(((0, 1), (1, 2), (0, 2)), 3, features=2)
SPACE = Space(NET, costs.macs(NET))
ABOUT = {"evaluations": 3, "step": 7}
SEARCH = Search(0, "random", 27.0)
SCORED = [
    Scored(one, Score(0.5 + n / 10, 1 / 3))
    for n, one in enumerate(random_architectures(SPACE, 27, 3, np.random.default_rng(0)))
]


def asked_for(record):
    """Which of `SCORED` are not known; all have their scores then, in order."""
    new = []

    def score(lives):
        for live in lives:
            (number,) = (n for n, s in enumerate(SCORED) if (s.architecture.live == live).all())
            new.append(number)
        return [SCORED[number].score for number in new]

    found = record.scored([one.architecture for one in SCORED], score)
    assert found == [one.score for one in SCORED]
    return new


def test_what_was_scored_is_known_again(tmp_path):
    path = tmp_path / "out" / "search.jsonl"
    first = Record(path, SPACE, ABOUT)
    assert asked_for(first) == [0, 1, 2]
    first.keep(SEARCH, SCORED[:2])
    first.keep(SEARCH, SCORED)
    again = Record(path, SPACE, ABOUT)
    assert asked_for(again) == []
    again.keep(SEARCH, SCORED)  # is there
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == ABOUT
    assert [line["evaluation"] for line in lines[1:]] == [0, 1, 2]
    assert lines[1]["edges"] == SPACE.names(SCORED[0].architecture.live)
    assert lines[3]["cost"] == SCORED[2].architecture.cost


def test_a_line_that_was_cut_short_is_scored_again(tmp_path):
    path = tmp_path / "search.jsonl"
    Record(path, SPACE, ABOUT).keep(SEARCH, SCORED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    again = Record(path, SPACE, ABOUT)
    assert asked_for(again) == [2]
    again.keep(SEARCH, SCORED)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", r"search.jsonl:2: expected a JSON object"),
        ('{"seed": 0}', r"search.jsonl:2: expected a scored architecture"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, line, message):
    path = tmp_path / "search.jsonl"
    Record(path, SPACE, ABOUT)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        Record(path, SPACE, ABOUT)


def test_another_comparison_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    Record(path, SPACE, ABOUT)
    with pytest.raises(ValueError, match="expected a search with the same evaluations"):
        Record(path, SPACE, ABOUT | {"evaluations": 4})
