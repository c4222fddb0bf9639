"""The tables of scores: the paper's, and a line per stream with means over a run's streams."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.config.wording import format_columns
from experiments.reporting.run_record import Run, Setting, shown_as
from experiments.reporting.streams.points import PAPER, Measured, Point
from experiments.runs.stored_results import detector_of, marked, told

Result = Mapping[str, Any]  # of evaluate
Row = list[str]  # run, kind, stream, a number per column


class Column(NamedTuple):
    """A column of the table: heading, unit, value of a result, digits after the point."""

    heading: str
    unit: str
    value: Callable[[Result], float]
    digits: int


def _incremental(result: Result) -> float:
    """MACs per frame of a runtime that remembers; results of before it was counted have none."""
    return result.get("macs_per_frame_incremental", math.nan)


COLUMNS = (
    Column("correct", "%", lambda r: r["correct_pct"], 1),
    Column("wrong", "%", lambda r: r["wrong_pct"], 1),
    Column("match", "%", lambda r: r["match_pct"], 1),
    Column("false alarms", "%", lambda r: r["false_alarm_pct"], 1),
    Column("false alarms", "per hour", lambda r: r["false_alarms_per_hour"], 1),
    Column("MACs", "M/frame", lambda r: r["macs_per_frame"] / 1e6, 3),
    Column("+ controller", "M/frame", lambda r: r["macs_per_frame_with_controller"] / 1e6, 3),
    Column("new rows only", "M/frame", lambda r: _incremental(r) / 1e6, 3),
    Column(
        "of the network", "%", lambda r: 100 * r["macs_per_frame"] / r["full_macs_per_frame"], 1
    ),
    Column("frame accuracy", "%", lambda r: 100 * r["frame_accuracy"], 1),
)


# Table 1 of the SANAS paper: heading, unit; MACs are in millions.
PAPER_COLUMNS = (
    ("match", "%"),
    ("correct", "%"),
    ("wrong", "%"),
    ("FA", "%"),
    ("MACs", "M/frame"),
)
_PAPER_METRICS = ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct")


def paper_rows(points: Sequence[Point]) -> list[Row]:
    """Rows of table 1 by rising cost: run, label, and a text per column."""
    rows = []
    for point in sorted(points, key=lambda point: point.values["macs_per_frame"].mean):
        numbers = [_spread(point.values[name], 1) for name in _PAPER_METRICS]
        mean, sd = point.values["macs_per_frame"]
        macs = Measured(mean / 1e6, None if sd is None else sd / 1e6)
        rows.append([point.run, point.label, *numbers, _spread(macs, _digits(macs.mean))])
    return rows


def reference_rows() -> list[Row]:
    """The paper's own rows, by rising cost, in the same columns; they have no label."""
    return [
        [
            row.model,
            "",
            *(f"{number:.1f}" for number in (row.match, row.correct, row.wrong, row.false_alarm)),
            f"{row.million_macs:.{_digits(row.million_macs)}f}",
        ]
        for row in sorted(PAPER, key=lambda row: row.million_macs)
    ]


def summary_table(results: Sequence[Result]) -> str:
    """The scores of `evaluate` as plain text: a line per result, and means over a run's streams.

    Args:
      results: JSON objects of `evaluate`.
    """
    groups: dict[tuple[str, Setting], list[Result]] = {}
    for result in results:
        setting = Setting(result.get("cost_weight"), detector_of(result))
        groups.setdefault((result["workdir"], setting), []).append(result)
    rows = []
    for (name, (price, detector)), group in groups.items():
        kind = "static" if group[0]["static"] else "SANAS"
        kind += ("" if price is None else f" told λ={price:.3g}") + marked(detector)
        rows += summarize(name, kind, group)
    return format_rows(rows)


def run_rows(run: Run) -> list[Row]:
    """The rows of a run; one that was not evaluated has what its last validation says."""
    if run.evaluations:
        groups = [
            [evaluation.result | {"stream": shown_as(evaluation)} for evaluation in group]
            for group in run.by_setting().values()
        ]
        return [row for group in groups for row in summarize(run.name, run.label, group)]
    known = run.last("validation") or {}
    stream = f"validation, step {known['step']}" if known else "nothing yet"
    known = known | {"stream": stream, "full_macs_per_frame": run.full_macs}
    return summarize(run.name, run.label, [defaultdict(lambda: math.nan, known)])


def summarize(name: str, kind: str, results: Sequence[Result]) -> list[Row]:
    """A row per result of a run; before several, their mean and standard deviation.

    Args:
      results: at one price, of one detector.
    """
    table = np.array([[column.value(result) for column in COLUMNS] for result in results])
    rows = [[name, kind, r["stream"], *_texts(v)] for r, v in zip(results, table, strict=True)]
    if len(rows) > 1:
        pairs = zip(_texts(table.mean(0)), _texts(table.std(0, ddof=1)), strict=True)
        mean = f"mean of {len(rows)}{told(results[0])}"
        rows.insert(0, [name, kind, mean, *map(" ± ".join, pairs)])
    return rows


def format_rows(rows: Iterable[Row]) -> str:
    """Rows as text in columns."""
    cells = [
        ["run", "kind", "stream", *(column.heading for column in COLUMNS)],
        ["", "", "", *(column.unit for column in COLUMNS)],
        *rows,
    ]
    return format_columns(cells, left=3)


def _texts(values: np.ndarray) -> list[str]:
    return [
        f"{value:.{column.digits}f}" if math.isfinite(value) else "–"
        for value, column in zip(values.tolist(), COLUMNS, strict=True)
    ]


def _spread(value: Measured, digits: int) -> str:
    """Mean ± standard deviation, as far as they are known."""
    known = [number for number in value if number is not None and math.isfinite(number)]
    return " ± ".join(f"{number:.{digits}f}" for number in known) or "–"


def _digits(millions: float) -> int:
    """Digits after the point that leave about three in all."""
    return 1 if millions >= 10 else 2 if millions >= 1 else 3
