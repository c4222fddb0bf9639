"""search.jsonl: what was asked on the first line, then a line per architecture that was scored.

It only grows. A search that goes on scores no architecture again whose line is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.command.reading import decoded, naming, read_bytes
from experiments.search.methods import Score, Scored
from experiments.search.space import Architecture, Space


class Search(NamedTuple):
    """Which search a line is of."""

    seed: int
    method: str
    budget: float


class Record:
    """The file of the searches on one super-network."""

    def __init__(self, path: Path, space: Space, about: Mapping[str, Any]) -> None:
        """Open it, or begin it; ValueError where it is of other searches.

        Args:
          path: of the file.
          space: whose architectures are scored.
          about: whatever must be the same for its lines to be of use.
        """
        self._path, self._space = path, space
        lines = list(_read(path)) if path.is_file() else []
        about = json.loads(json.dumps(about))
        if lines and lines[0] != about:
            changed = sorted(k for k in {*lines[0], *about} if lines[0].get(k) != about.get(k))
            raise ValueError(
                f"{path}: expected a search with the same {', '.join(changed)}, or a new --out"
            )
        self._lines: dict[Search, int] = {}
        self._scores: dict[tuple[str, ...], Score] = {}
        for number, line in enumerate(lines[1:], 2):
            with naming(f"{path}:{number}", "a scored architecture"):
                search = Search(*(line[field] for field in Search._fields))
                score = Score(float(line["accuracy"]), float(line["loss"]))
                self._scores[tuple(line["edges"])] = score
            self._lines[search] = self._lines.get(search, 0) + 1
        if path.is_file():  # a line that a kill cut short goes
            whole = read_bytes(path).rpartition(b"\n")
            if whole[2]:
                path.write_bytes(b"".join(whole[:2]))
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")

    def scored(
        self,
        asked: Sequence[Architecture],
        score: Callable[[list[np.ndarray]], Sequence[Score]],
    ) -> list[Score]:
        """Scores of architectures; `score` is asked for those [E] of which there is no line."""
        known = [self._scores.get(tuple(self._space.names(found.live))) for found in asked]
        new = [found.live for found, old in zip(asked, known, strict=True) if old is None]
        found = iter(score(new) if new else [])
        return [next(found) if old is None else old for old in known]

    def keep(self, search: Search, history: Sequence[Scored]) -> None:
        """Write those of a search that have no line yet."""
        begin = self._lines.get(search, 0)
        text = ""
        for number, (found, score) in enumerate(history[begin:], begin):
            edges = self._space.names(found.live)
            line = search._asdict() | {
                "evaluation": number,
                "cost": found.cost,
                "accuracy": score.accuracy,
                "loss": score.loss,
                "edges": edges,
            }
            text += json.dumps(line) + "\n"
            self._scores[tuple(edges)] = score
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)
        self._lines[search] = max(begin, len(history))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, each an object."""
    for number, line in enumerate(read_bytes(path).split(b"\n")[:-1], 1):
        with naming(f"{path}:{number}", "a JSON object"):
            found = json.loads(decoded(line))
            if not isinstance(found, dict):
                raise ValueError(str(found)[:40])
            yield found
