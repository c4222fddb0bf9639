"""What a comparison found, in tables: per budget and method, and one number for a front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.config.wording import format_columns
from experiments.search.comparison import GATES, WHOLE, Found
from experiments.search.front import hypervolume
from experiments.search.methods import METHODS

ORDER = (GATES, *METHODS)
COLUMNS = {
    "validation": "validation %",
    "testing": "testing %",
    "tuned": "trained on %",
    "own": "as gates left it %",
}


def found_table(found: Sequence[Found]) -> str:
    """A line per budget and method: means ± standard deviations over networks and seeds."""
    rows = [("asked", "found by", "n", "share of cost %", *COLUMNS.values())]
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        groups.setdefault((one.asked, one.method), []).append(one)
    asked = sorted({a for a, _ in groups}, key=lambda a: _mean_share(groups, a))
    for words in asked:
        for method in (*ORDER, WHOLE):
            same = groups.get((words, method), [])
            if same:
                shares = spread([100 * one.share for one in same])
                cells = [_percent(same, column) for column in COLUMNS]
                rows.append((words, method, str(len(same)), shares, *cells))
    return format_columns(rows, left=2)


def hypervolumes(found: Sequence[Found], column: str) -> dict[str, list[float]]:
    """Of each method, a number for each network and seed.

    The area under the front of the architectures that it found at all budgets, costs as shares of
    the whole network's, accuracies from 0 to 1; empty where a column is not known.
    """
    out: dict[str, list[float]] = {}
    for method in ORDER:
        own = [one for one in found if one.method == method]
        fronts: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for one in own:
            accuracy = getattr(one, column)
            if accuracy is not None:
                fronts.setdefault((one.network, one.seed), []).append((one.share, accuracy))
        if fronts:
            out[method] = [hypervolume(points) for points in fronts.values()]
    return out


def hypervolume_table(found: Sequence[Found]) -> str:
    """A line per method: means ± standard deviations over networks and seeds."""
    columns = ("validation", "testing", "tuned")
    by_column = {column: hypervolumes(found, column) for column in columns}
    rows: list[Sequence[str]] = [("hypervolume of", *columns)]
    for method in ORDER:
        if any(method in volumes for volumes in by_column.values()):
            cells = [spread(by_column[column].get(method, []), ".4f") for column in columns]
            rows.append((method, *cells))
    return format_columns(rows, left=1)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Mean ± standard deviation; a single value by itself, and – for none."""
    if not values:
        return "–"
    text = format(float(np.mean(values)), form)
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):{form}}"


def _percent(found: Sequence[Found], column: str) -> str:
    values = [getattr(one, column) for one in found]
    return spread([100 * value for value in values if value is not None])


def _mean_share(groups: dict[tuple[str, str], list[Found]], asked: str) -> float:
    return float(np.mean([one.share for (a, _), f in groups.items() if a == asked for one in f]))


def panels(found: Sequence[Found]) -> dict[str, dict[str, list[list[tuple[float, float]]]]]:
    """What `search_figure` draws: testing with the shared weights, and after training on."""
    out: dict[str, dict[str, list[list[tuple[float, float]]]]] = {}
    for column, title in (("testing", "shared weights"), ("tuned", "trained on alike")):
        by_method: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for one in found:
            accuracy = getattr(one, column)
            if accuracy is not None:
                groups = by_method.setdefault(one.method, {})
                groups.setdefault(one.asked, []).append((one.share, accuracy))
        if by_method:
            out[title] = {m: list(by_method[m].values()) for m in (*ORDER, WHOLE) if m in by_method}
    return out
