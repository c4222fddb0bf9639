"""Two results of the same benchmarks: new over old, for every quantity of every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.benchmarks.harness.records import Result, cpu_ratio

# What compares between machines comes first.
QUANTITIES = {
    "ratio": "ratio",
    "cpu_ratio": "of CPU",
    "share_of_matmul": "of matmul",
    "share_of_memory": "of memory",
    "seconds": "seconds",
    "compile_seconds": "compile",
    "memory_bytes": "memory",
}


def compare(old: Mapping[str, Result], new: Mapping[str, Result]) -> str:
    """Text: new/old of each quantity that both have; what only one has, and what differs."""
    lines = [
        "new / old; above 1: more seconds or bytes, a larger ratio to the base, a larger share"
    ]
    for name, result in new.items():
        if name not in old:
            lines.append(f"{name}: not in the old file")
            continue
        lines += _compare_one(name, old[name], result)
    lines += [f"{name}: in the old file only" for name in old if name not in new]
    return "\n".join(lines)


def _compare_one(name: str, old: Result, new: Result) -> list[str]:
    """Lines of one benchmark."""
    if old["settings"] != new["settings"]:
        other = _differences(old["settings"], new["settings"])
        return [f"{name}: not compared, since the settings differ: {other}"]
    lines = []
    same = {part: _fixed(old[part]) == _fixed(new[part]) for part in ("machine", "versions")}
    for part in ("machine", "versions"):
        if not same[part]:
            other = _differences(_fixed(old[part]), _fixed(new[part]))
            lines.append(f"{name}: another {part.removesuffix('s')}: {other}")
    if not same["machine"]:
        lines.append(f"{name}: of two machines only ratios and shares of the limits compare")
    rows = _with_cpu(old["rows"]), _with_cpu(new["rows"])
    width = max(len(label) for label in (*rows[0], *rows[1]))
    lines.append(f"{name:{width}} " + " ".join(f"{title:>10}" for title in QUANTITIES.values()))
    for label, row in rows[1].items():
        if label in rows[0]:
            cells = (_quotient(rows[0][label], row, quantity) for quantity in QUANTITIES)
            lines.append(f"{label:{width}} " + " ".join(f"{cell:>10}" for cell in cells))
        else:
            lines.append(f"{label:{width}} not in the old file")
    lines += [f"{label:{width}} in the old file only" for label in rows[0] if label not in rows[1]]
    return lines


def _with_cpu(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {label: row | {"cpu_ratio": cpu_ratio(rows, label)} for label, row in rows.items()}


def _quotient(old: Mapping[str, Any], new: Mapping[str, Any], quantity: str) -> str:
    if not old.get(quantity) or new.get(quantity) is None:
        return "–"
    return f"{new[quantity] / old[quantity]:.2f}"


def _fixed(described: Mapping[str, Any]) -> dict[str, Any]:
    """Without what changes from minute to minute."""
    return {name: value for name, value in described.items() if name != "load_average"}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} → {new.get(name)}" for name in names)
