"""The table of scores."""

from pathlib import Path

from experiments.scores import summary_table
from tests.runs import write_evaluation, write_run


def test_summary_table_has_a_line_per_stream_and_their_mean(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    two = one | {"stream": "wood", "wrong_pct": 52.0, "match_pct": float("nan")}
    lines = summary_table([one, two]).splitlines()
    assert len(lines) == 5
    assert "51.0 ± 1.4" in lines[2]
    assert lines[3].split()[:3] == ["run", "SANAS", "town"]
    assert "–" in lines[4]
    assert len({len(line) for line in lines[2:]}) == 1
    assert "static" in summary_table([one | {"static": True}])


def test_summary_table_of_nothing_is_its_head() -> None:
    assert summary_table([]).count("\n") == 1
