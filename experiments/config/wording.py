"""How budgets are written and read, and texts are set in columns; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}

MILLION = 1e6


def parse_macs(word: str) -> float:
    """`800k`, `5M`, `1.2e6` → MACs."""
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([kMG]?)", word)
    try:
        amount = float(match[1]) * _UNITS[match[2]] if match else 0.0
    except ValueError:
        amount = 0.0
    if not amount > 0:
        raise ValueError(f"budget: expected MACs above 0 such as 800k or 5M, got {word!r}")
    return amount


def parse_budget(word: str) -> float:
    """`800k`, `5M`, `1.2e6` → units of cost; `25%` → 0.25, a share of the whole network's cost."""
    if not word.endswith("%"):
        return parse_macs(word)
    try:
        share = float(word[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"--budgets: expected a share between 0% and 100%, got {word!r}")
    return share


def format_macs(macs: float) -> str:
    """The inverse of `parse_macs`, in the largest unit below the amount."""
    unit = max((u for u in _UNITS if _UNITS[u] <= max(macs, 1)), key=_UNITS.__getitem__)
    return f"{macs / _UNITS[unit]:.6g}{unit}"


def verdict(reached: float, asked: float, price: float | None = None) -> str:
    """Whether a budget was reached, within 10 %.

    At a price λ of 0 a cost below the budget is no miss: more of it was of no use.
    """
    error = reached / asked - 1
    if abs(error) <= 0.1:
        return "reached"
    share = f"{abs(error):.0%}".replace("%", " %")
    if error < 0 and price == 0:
        return f"kept, {share} of it unused"
    return f"missed by {share}, " + ("above" if error > 0 else "below")


def plain(name: str) -> str:
    """A class's name as shown: `_silence_` and `_unknown_` without the underscores."""
    return name.strip("_") if name in ("_silence_", "_unknown_") else name


def short(macs: float) -> str:
    """1234567 → "1.23M"."""
    macs = float(f"{macs:.3g}")
    for size, unit in ((1e9, "G"), (MILLION, "M"), (1e3, "k")):
        if macs >= size:
            return f"{macs / size:.3g}{unit}"
    return f"{macs:g}"


def shorten(name: str) -> str:
    """A name of at most 40 letters."""
    return name if len(name) <= 40 else f"{name[:28]}…{name[-11:]}"


def format_columns(rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """Rows of texts in columns, two spaces apart: the first `left` flush left, the others right.

    All are flush left if `left` is not given. A line has no spaces at its end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = len(widths) if left is None else left
    formats = [f"{'<' if i < flush else '>'}{width}" for i, width in enumerate(widths)]
    return "\n".join("  ".join(map(format, row, formats)).rstrip() for row in rows)
