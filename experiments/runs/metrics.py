"""metrics.jsonl: lines read, and those after a checkpoint dropped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.command.atomic import write_atomic
from data_prep.command.reading import decoded, naming, read_bytes


def read_metrics(workdir: Path) -> Iterator[dict[str, Any]]:
    """Lines of metrics.jsonl, each an object with its step.

    What follows the last line end was cut off by a kill, and is left out; any other line that
    cannot be read is a ValueError that says which.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path}: expected a file of metrics, got a folder, a pipe or a device")
    with naming(path, "lines of metrics"):
        lines = read_bytes(path).split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        with naming(f"{path}:{number}", "a JSON object with a step"):
            yield _checked(json.loads(decoded(line)))


def truncate_metrics(workdir: Path, step: int) -> None:
    """Drop the lines after `step`: they will be computed again, equal, from the checkpoint."""
    kept = [line for line in read_metrics(workdir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_atomic(workdir / "metrics.jsonl", text)


def _checked(line: Any) -> dict[str, Any]:
    """A line whose step is a number, and whose table of prices, if it has one, is of numbers."""
    if not isinstance(line, dict) or type(line["step"]) is not int:
        raise ValueError(f"{str(line)[:40]!r}")
    for row in line.get("calibration", []):
        price, macs = (float(row[name]) for name in ("cost_weight", "macs_per_frame"))
        if not (0 < price < math.inf and 0 <= macs < math.inf):  # 0: everything is off
            raise ValueError(f"{price} and {macs} in its calibration")
    return line
