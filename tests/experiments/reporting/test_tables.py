"""The table of scores."""

from pathlib import Path

from experiments.reporting.reading import read_runs
from experiments.reporting.streams.points import stream_points
from experiments.reporting.streams.tables import paper_rows, reference_rows, summary_table
from experiments.runs.stored_results import StreamResult
from tests.helpers.runs import write_evaluation, write_run


def test_summary_table_has_a_line_per_stream_and_their_mean(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    two = one | {"stream": "wood", "wrong_pct": 52.0, "match_pct": float("nan")}
    lines = summary_table([StreamResult.from_json(each) for each in (one, two)]).splitlines()
    assert len(lines) == 5
    assert "51.0 ± 1.4" in lines[2]
    assert lines[3].split()[:3] == ["run", "SANAS", "town"]
    assert "–" in lines[4]
    assert len({len(line) for line in lines[2:]}) == 1
    assert "static" in summary_table([StreamResult.from_json(one | {"static": True})])


def test_paper_rows_are_by_rising_cost(tmp_path: Path) -> None:
    for name, macs in (("dear", 12.34e6), ("cheap", 1.234e6)):
        edge_macs = write_run(tmp_path / name)
        for stream in ("town", "wood"):
            write_evaluation(tmp_path / name, edge_macs, stream=stream, macs_per_frame=macs)
    rows = paper_rows(stream_points(read_runs([tmp_path / "dear", tmp_path / "cheap"])))
    assert [row[0] for row in rows] == ["cheap", "dear"]
    assert rows[0][1:4] == ["SANAS λ=0.25", "100.0 ± 0.0", "50.0 ± 0.0"]
    assert [row[-1] for row in rows] == ["1.23 ± 0.00", "12.3 ± 0.0"]
    assert reference_rows()[0] == ["SANAS", "", "61.2", "53.8", "7.3", "0.7", "0.519"]
    assert len(reference_rows()[0]) == len(rows[0])


def test_summary_table_of_nothing_is_its_head() -> None:
    assert summary_table([]).count("\n") == 1
