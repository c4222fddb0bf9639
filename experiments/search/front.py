"""What is worth having among costs and accuracies, and how much that is."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # cost, accuracy


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, cheapest first."""
    kept: list[Point] = []
    for cost, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def hypervolume(points: Sequence[Point], most: float = 1.0, least: float = 0.0) -> float:
    """Area that the points dominate, below the cost `most` and above the accuracy `least`.

    With costs as shares of the whole network's and accuracies from 0 to 1 it is at most 1.
    """
    kept = front([(c, a) for c, a in points if c <= most and a >= least])
    area, right = 0.0, most
    for cost, accuracy in reversed(kept):
        area += (right - cost) * (accuracy - least)
        right = cost
    return area
