"""What a day leaves: results.jsonl, a line as soon as it is known, and the same as a table.

{"asked": {...}}                                   first: what a run that resumes must share
{"part": name, "row": label, ...}                  something found; of benchmarks as in `records`
{"part": name, "row": label, "error": why}         a row that failed
{"part": name, "state": state, "seconds": s, "why": why}     how a part ended
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.command.cli import one_line

DONE, FAILED, CUT, LEFT_OUT = "done", "failed", "cut", "left out"
Line = dict[str, Any]

# Keys of rows that the table shows: title, factor, form.
COLUMNS = {
    "seconds": ("ms", 1e3, ".3g"),
    "ratio": ("ratio", 1, ".2f"),
    "macs_per_second": ("GMACs/s", 1e-9, ",.0f"),
    "share_of_matmul": ("of matmul", 100, ".1f %"),
    "bytes_per_second": ("GB/s", 1e-9, ",.0f"),
    "share_of_memory": ("of memory", 100, ".1f %"),
    "compile_seconds": ("compile s", 1, ".1f"),
    "memory_bytes": ("MB", 1e-6, ",.0f"),
    "host_idle": ("host idle", 100, ".1f %"),
    "hours_per_second": ("hours/s", 1, ".3g"),
    "seconds_for_5_hours": ("s for 5 h", 1, ".1f"),
    "difference": ("difference", 1, ".1e"),
    "passed": ("passed", 1, ".0f"),
    "failed": ("failed", 1, ".0f"),
    "skipped": ("skipped", 1, ".0f"),
    "loss": ("loss", 1, ".3f"),
    "frame_accuracy": ("accuracy", 100, ".1f %"),
}


def add(path: Path, **line: Any) -> None:
    """Append a line; on the disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        # One that was killed may have left half a line: it shall not spoil this one.
        file.write(("" if _ends_well(path) else "\n") + json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_well(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def read(path: Path) -> list[Line]:
    """All whole lines; ValueError for a file that holds something else."""
    lines = []
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    for text in texts:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # the end of one that was killed
            continue
        if not isinstance(line, dict) or not {"asked", "part"} & set(line):
            raise ValueError(f"{path}: expected results of benchmarks.accelerator, got {text[:60]}")
        lines.append(line)
    return lines


def rows_of(lines: Sequence[Line], part: str) -> dict[str, Line]:
    """What is known of a part, by label; the last line of a label counts."""
    return {line["row"]: line for line in lines if line.get("part") == part and "row" in line}


def state_of(lines: Sequence[Line], part: str) -> Line | None:
    """How a part ended last; None if it has not been begun."""
    ends = [line for line in lines if line.get("part") == part and "state" in line]
    return ends[-1] if ends else None


class Teller:
    """Where a part says what it finds, row by row."""

    def __init__(self, path: Path, part: str) -> None:
        """Rows that are there already are not found again."""
        self._path, self._part = path, part
        known = rows_of(read(path), part)
        self._known = {label: row for label, row in known.items() if "error" not in row}
        self.failed: list[str] = []

    def __call__(self, label: str, find: Callable[[], Line]) -> Line | None:
        """The row, known or found now; None where that fails, which is written instead."""
        if label in self._known:
            return self._known[label]
        try:
            row = find()
        except Exception as error:  # out of memory, a kernel that is not there: others may do
            traceback.print_exc()
            self.failed.append(label)
            add(self._path, part=self._part, row=label, error=one_line(error)[:300])
            return None
        add(self._path, part=self._part, row=label, **row)
        return row


def table(lines: Sequence[Line], parts: Sequence[str]) -> str:
    """The same for a reader: each part with its rows, and how it ended."""
    text = []
    for part in parts:
        end, rows = state_of(lines, part), rows_of(lines, part)
        if end is None and not rows:
            continue
        state = "going on" if end is None else f"{end['state']}, {end['seconds']:.0f} s"
        why = f": {end['why']}" if end and end.get("why") else ""
        text += ["", f"== {part} ({state}){why}", *_rows(rows)]
    return "\n".join(text[1:]) + "\n"


def _rows(rows: dict[str, Line]) -> list[str]:
    columns = [key for key in COLUMNS if any(_is_number(row.get(key)) for row in rows.values())]
    width = max(map(len, rows), default=0)
    head = " ".join(f"{COLUMNS[key][0]:>10}" for key in columns)
    lines = [f"{'':{width}} {head}"] if columns else []
    for label, row in rows.items():
        cells = " ".join(f"{_cell(row, key):>10}" for key in columns)
        said = f" failed: {row['error']}" if "error" in row else f" {row.get('text', '')}"
        lines.append(f"{label:{width}} {cells}{said}".rstrip())
    return lines


def _cell(row: Line, key: str) -> str:
    if not _is_number(row.get(key)):
        return "–"
    _, factor, form = COLUMNS[key]
    number, _, unit = form.partition(" ")
    return f"{row[key] * factor:{number}}{f' {unit}' if unit else ''}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
