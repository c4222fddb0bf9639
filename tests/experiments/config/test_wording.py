"""Texts in columns."""

from experiments.config.wording import format_columns

ROWS = [["run", "cost"], ["a", "10"], ["long name", ""]]


def test_format_columns_aligns_each_column_and_ends_no_line_with_spaces() -> None:
    assert format_columns(ROWS) == "run        cost\na          10\nlong name"
    assert format_columns(ROWS, left=1) == "run        cost\na            10\nlong name"
    assert format_columns(ROWS, left=0) == "      run  cost\n        a    10\nlong name"
