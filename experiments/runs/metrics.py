"""metrics.jsonl: lines read, and those after a checkpoint dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.command.atomic import write_atomic


def read_metrics(workdir: Path) -> Iterator[dict[str, Any]]:
    """Lines of metrics.jsonl; a last line cut off by a kill is left out."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def truncate_metrics(workdir: Path, step: int) -> None:
    """Drop the lines after `step`: they will be computed again, equal, from the checkpoint."""
    kept = [line for line in read_metrics(workdir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_atomic(workdir / "metrics.jsonl", text)
