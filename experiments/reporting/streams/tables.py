"""The tables of scores: the paper's, and a line per stream with means over a run's streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.config.wording import format_columns
from experiments.reporting.paper import PAPER
from experiments.reporting.points import Measured
from experiments.reporting.run_record import RunRecord
from experiments.reporting.streams.points import StreamPoint
from experiments.runs.stored_negatives import NegativeResult
from experiments.runs.stored_results import Setting, StreamResult, detector_suffix

Row = list[str]  # run, kind, stream, a number per column


class Scores(NamedTuple):
    """What a row of the table shows: of a result the fields of these names; nan: not known."""

    correct_pct: float = math.nan
    wrong_pct: float = math.nan
    match_pct: float = math.nan
    false_alarm_pct: float = math.nan
    false_alarms_per_hour: float = math.nan
    macs_per_frame: float = math.nan
    macs_per_frame_with_controller: float = math.nan
    macs_per_frame_incremental: float = math.nan
    frontend_macs: float = math.nan
    full_macs_per_frame: float = math.nan
    frame_accuracy: float = math.nan


class Column(NamedTuple):
    """A column of the table: heading, unit, its value, digits after the point."""

    heading: str
    unit: str
    value: Callable[[Scores], float]
    digits: int


COLUMNS = (
    Column("correct", "%", lambda r: r.correct_pct, 1),
    Column("wrong", "%", lambda r: r.wrong_pct, 1),
    Column("match", "%", lambda r: r.match_pct, 1),
    Column("false alarms", "%", lambda r: r.false_alarm_pct, 1),
    Column("false alarms", "per hour", lambda r: r.false_alarms_per_hour, 1),
    Column("MACs", "M/frame", lambda r: r.macs_per_frame / 1e6, 3),
    Column("+ controller", "M/frame", lambda r: r.macs_per_frame_with_controller / 1e6, 3),
    Column("front end", "M/frame", lambda r: r.frontend_macs / 1e6, 3),
    Column("new rows only", "M/frame", lambda r: r.macs_per_frame_incremental / 1e6, 3),
    Column("of the network", "%", lambda r: 100 * r.macs_per_frame / r.full_macs_per_frame, 1),
    Column("frame accuracy", "%", lambda r: 100 * r.frame_accuracy, 1),
)


PER_HOUR = next(i for i, column in enumerate(COLUMNS) if column.unit == "per hour")

# Table 1 of the SANAS paper: heading, unit; MACs are in millions.
PAPER_COLUMNS = (
    ("match", "%"),
    ("correct", "%"),
    ("wrong", "%"),
    ("FA", "%"),
    ("MACs", "M/frame"),
)
_PAPER_METRICS = ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct")


def paper_rows(points: Sequence[StreamPoint]) -> list[Row]:
    """Rows of table 1 by rising cost: run, label, and a text per column."""
    rows = []
    for point in sorted(points, key=lambda point: point.macs_per_frame.mean):
        numbers = [_spread(getattr(point, name), 1) for name in _PAPER_METRICS]
        mean, sd = point.macs_per_frame
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


def summary_table(results: Sequence[StreamResult], negatives: Sequence[NegativeResult] = ()) -> str:
    """The scores of `evaluate` as plain text: a line per result, and means over a run's streams."""
    groups: dict[tuple[str, Setting], tuple[list[StreamResult], list[NegativeResult]]] = {}
    for result in results:
        groups.setdefault((result.workdir, result.setting), ([], []))[0].append(result)
    for found in negatives:
        groups.setdefault((found.workdir, found.setting), ([], []))[1].append(found)
    rows = []
    for (name, setting), (streams, alarms) in groups.items():
        first: StreamResult | NegativeResult = streams[0] if streams else alarms[0]
        kind = "static" if first.static else "SANAS"
        kind += "" if setting.price is None else f" told λ={setting.price:.3g}"
        kind += detector_suffix(setting.detector, setting.rate)
        if streams:
            rows += score_rows(
                name, kind, [(r.stream, scores_of(r)) for r in streams], first.suffix
            )
        rows += [negative_row(name, kind, each, each.shown) for each in alarms]
    return format_rows(rows)


def run_rows(run: RunRecord) -> list[Row]:
    """The rows of a run; one that was not evaluated has what its last validation says."""
    alarms = [negative_row(run.name, run.label, each, run.shown_as(each)) for each in run.negatives]
    if run.evaluations or alarms:
        return [
            row
            for setting, group in run.by_setting().items()
            for row in score_rows(
                run.name,
                run.label,
                [(run.shown_as(result), scores_of(result)) for result, *_ in group],
                group[0].result.suffix + run.step_suffix(setting.step),
            )
        ] + alarms
    line = run.last("validation") or {}
    stream = f"validation, step {line['step']}" if line else "nothing yet"
    known = {name: line[name] for name in Scores._fields if name in line}
    scores = Scores(**known | {"full_macs_per_frame": run.full_macs})
    return score_rows(run.name, run.label, [(stream, scores)])


def negative_row(name: str, kind: str, result: NegativeResult, shown: str) -> Row:
    """The row of audio without words: its false alarms with their bounds, and costs.

    Args:
      name, kind: of the run.
      result: what was found.
      shown: name of the audio.
    """
    known = Scores(
        macs_per_frame=result.macs_per_frame,
        macs_per_frame_with_controller=result.macs_per_frame_with_controller,
        frontend_macs=math.nan if result.frontend_macs is None else result.frontend_macs,
        full_macs_per_frame=result.full_macs_per_frame,
    )
    texts = _texts(np.array([column.value(known) for column in COLUMNS]))
    low, high = result.alarms_per_hour_low, result.alarms_per_hour_high
    texts[PER_HOUR] = (
        f"{result.alarms_per_hour:.1f} ({low:.1f} to {high:.1f})"
        if result.alarms
        else f"≤ {high:.1f}"
    )
    hours = result.seconds / 3600
    length = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return [name, kind, f"{shown}, {length}", *texts]


def scores_of(result: StreamResult) -> Scores:
    """What the table shows of a result; older ones do not say all of it."""
    values = {name: getattr(result, name) for name in Scores._fields}
    return Scores(**{name: value for name, value in values.items() if value is not None})


def score_rows(
    name: str, kind: str, scores: Sequence[tuple[str, Scores]], suffix: str = ""
) -> list[Row]:
    """A row per stream of a run; before several, their mean and standard deviation.

    Args:
      name, kind: of the run.
      scores: name of each stream and its scores, at one price and of one detector.
      suffix: what says these two.
    """
    table = np.array([[column.value(each) for column in COLUMNS] for _, each in scores])
    rows = [[name, kind, stream, *_texts(v)] for (stream, _), v in zip(scores, table, strict=True)]
    if len(rows) > 1:
        pairs = zip(_texts(table.mean(0)), _texts(table.std(0, ddof=1)), strict=True)
        rows.insert(0, [name, kind, f"mean of {len(rows)}{suffix}", *map(" ± ".join, pairs)])
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
