"""Points of accuracy for cost: what those of streams and of images have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

# How a point is drawn, or what is said elsewhere.
_NOT_IN_JSON = ("label", "charged", "setting")


class Measured(NamedTuple):
    """Mean over streams, and standard deviation: None for a single stream."""

    mean: float
    sd: float | None


class Point(Protocol):
    """A point: a named tuple whose fields are the keys of its JSON object."""

    def _asdict(self) -> dict[str, Any]: ...


def points_to_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Points as JSON values; numbers that are not known are null."""
    return [
        {name: _plain(v) for name, v in point._asdict().items() if name not in _NOT_IN_JSON}
        for point in points
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Measured):
        return {name: _plain(number) for name, number in value._asdict().items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
