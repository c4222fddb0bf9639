"""The result of `benchmarks.streaming` as text: one line per architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.benchmarks.harness import records
from experiments.benchmarks.peers import pytorch

OURS, OWN = "ours", "own"
FEATURES = "features of 200 ms"
WIDTH = 34


def table(result: records.Result) -> str:
    """MACs; ms of every side; ratios to ours; what is saved of the line "everything" above."""
    rows = result["rows"]
    lines = [result["what"], _head()]
    whole = ""
    for name, row in rows.items():
        if "window_macs" in row and row["base"] == name:
            whole = name if name.endswith(", everything") else whole
            lines.append(_line(name, whole, rows))
    if FEATURES in rows:
        lines.append(f"{FEATURES}: {1000 * rows[FEATURES]['seconds']:.3f} ms")
    if result["agreement"]:
        lines.append(f"posteriors agree to {max(result['agreement'].values()):.1e} of log p")
    return "\n".join([*lines, *records.footer(result, result["limits"])])


def _head() -> str:
    titles = ["ms", OWN, pytorch.EAGER, "compiled", "ratio", OWN, "compiled"]
    columns = " ".join(f"{title:>8}" for title in titles)
    saved = "saved: MACs, ms, own   of max: memory, matmul"
    return f"{'':{WIDTH}} {'MACs  (new rows)':20} {columns}   {saved}"


def _line(name: str, whole: str, rows: Mapping[str, Any]) -> str:
    ours, full = rows[name], rows[whole]
    own, eager, compiled = (
        rows.get(f"{name}, {s}") for s in (OWN, pytorch.EAGER, pytorch.COMPILED)
    )
    full_own = rows.get(f"{whole}, {OWN}")
    times = (_cell(side, 1000) for side in (ours, own, eager, compiled))
    ratios = (
        "–" if a is None or b is None else f"{a['seconds'] / b['seconds']:.1f}x"
        for a, b in ((eager, ours), (eager, own), (compiled, ours))
    )
    # Of what everything costs with rows kept: what is saved in arithmetic, and in time.
    saved = [1 - ours["macs"] / full["macs"], 1 - ours["seconds"] / full["seconds"]]
    if own and full_own:
        saved.append(1 - own["seconds"] / full_own["seconds"])
    return (
        f"{name:{WIDTH}} {ours['window_macs'] / 1e6:7.3f}M ({ours['macs'] / 1e6:6.3f}M) "
        + " ".join(f"{cell:>8}" for cell in (*times, *ratios))
        + "   "
        + " ".join(f"{part:6.1%}" for part in saved)
        + f"   {ours['share_of_memory']:6.1%} {ours['share_of_matmul']:6.1%}"
    )


def _cell(row: Mapping[str, Any] | None, factor: float) -> str:
    return "–" if row is None else f"{factor * row['seconds']:.3f}"
