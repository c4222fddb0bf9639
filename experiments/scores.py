"""The table of scores: a line per stream, and means over a run's streams."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.results import Run

Result = Mapping[str, Any]  # of evaluate
Row = list[str]  # run, kind, stream, a number per column


class Column(NamedTuple):
    """A column of the table: heading, unit, value of a result, digits after the point."""

    heading: str
    unit: str
    value: Callable[[Result], float]
    digits: int


COLUMNS = (
    Column("correct", "%", lambda r: r["correct_pct"], 1),
    Column("wrong", "%", lambda r: r["wrong_pct"], 1),
    Column("match", "%", lambda r: r["match_pct"], 1),
    Column("false alarms", "%", lambda r: r["false_alarm_pct"], 1),
    Column("false alarms", "per hour", lambda r: r["false_alarms_per_hour"], 1),
    Column("MACs", "M/frame", lambda r: r["macs_per_frame"] / 1e6, 3),
    Column("+ controller", "M/frame", lambda r: r["macs_per_frame_with_controller"] / 1e6, 3),
    Column(
        "of the network", "%", lambda r: 100 * r["macs_per_frame"] / r["full_macs_per_frame"], 1
    ),
    Column("frame accuracy", "%", lambda r: 100 * r["frame_accuracy"], 1),
)


def summary_table(results: Sequence[Result]) -> str:
    """The scores of `evaluate` as plain text: a line per result, and means over a run's streams.

    Args:
      results: JSON objects of `evaluate`.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["workdir"], []).append(result)
    return format_rows(
        row
        for name, group in groups.items()
        for row in summarize(name, "static" if group[0]["static"] else "SANAS", group)
    )


def run_rows(run: Run) -> list[Row]:
    """The rows of a run; one that was not evaluated has what its last validation says."""
    results: list[Result] = [evaluation.result for evaluation in run.evaluations.values()]
    if not results:
        validations = [line for line in run.lines if line["split"] == "validation"]
        known = validations[-1] if validations else {}
        stream = f"validation, step {known['step']}" if known else "nothing yet"
        known = known | {"stream": stream, "full_macs_per_frame": run.full_macs}
        results = [defaultdict(lambda: math.nan, known)]
    return summarize(run.name, run.kind, results)


def summarize(name: str, kind: str, results: Sequence[Result]) -> list[Row]:
    """A row per result of a run; before several, their mean and standard deviation."""
    table = np.array([[column.value(result) for column in COLUMNS] for result in results])
    rows = [[name, kind, r["stream"], *_texts(v)] for r, v in zip(results, table, strict=True)]
    if len(rows) > 1:
        pairs = zip(_texts(table.mean(0)), _texts(table.std(0, ddof=1)), strict=True)
        rows.insert(0, [name, kind, f"mean of {len(rows)}", *map(" ± ".join, pairs)])
    return rows


def format_rows(rows: Iterable[Row]) -> str:
    """Rows as text in columns."""
    cells = [
        ["run", "kind", "stream", *(column.heading for column in COLUMNS)],
        ["", "", "", *(column.unit for column in COLUMNS)],
        *rows,
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligns = ["<"] * 3 + [">"] * len(COLUMNS)
    formats = [f"{align}{width}" for align, width in zip(aligns, widths, strict=True)]
    return "\n".join("  ".join(map(format, line, formats)).rstrip() for line in cells)


def _texts(values: np.ndarray) -> list[str]:
    return [
        f"{value:.{column.digits}f}" if math.isfinite(value) else "–"
        for value, column in zip(values.tolist(), COLUMNS, strict=True)
    ]
