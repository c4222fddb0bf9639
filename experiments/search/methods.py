"""Random search and regularised evolution, in rounds of architectures that are scored together.

What a round asks for follows from the seed and from what was scored before: a search that was
stopped goes on with the same architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.search.space import Architecture, Space, mutated, random_architectures


class Score(NamedTuple):
    """Share of right answers, and the mean loss in nats, by which equals are told apart."""

    accuracy: float
    loss: float


class Scored(NamedTuple):
    """An architecture and what it is worth with the shared weights."""

    architecture: Architecture
    score: Score


@dataclass(frozen=True)
class Search:
    """How much is looked at.

    Fields:
      evaluations: architectures in all, the same for every method.
      population, tournament: of evolution: how many live, how many compete to be a parent.
      at_once: architectures of one round.
    """

    evaluations: int = 100
    population: int = 20
    tournament: int = 5
    at_once: int = 8

    def __post_init__(self) -> None:
        for name in ("evaluations", "population", "tournament", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if self.tournament > self.population:
            raise ValueError(
                f"--tournament: expected at most the population of {self.population}, "
                f"got {self.tournament}"
            )


# (space, budget, search, seed, history) → architectures to score next; none when it is over.
Method = Callable[[Space, float, Search, int, Sequence[Scored]], list[Architecture]]


def random_search(
    space: Space, budget: float, search: Search, seed: int, history: Sequence[Scored]
) -> list[Architecture]:
    """Different architectures within the budget."""
    drawn = random_architectures(space, budget, search.evaluations, np.random.default_rng(seed))
    return drawn[len(history) :][: search.at_once]


def evolution(
    space: Space, budget: float, search: Search, seed: int, history: Sequence[Scored]
) -> list[Architecture]:
    """Regularised evolution (Real, Aggarwal, Huang & Le, AAAI 2019), within the budget.

    The best of a few of those alive, drawn at random, has a child; the oldest dies, however good.
    `at_once` children are born of the same population, as of workers side by side.
    """
    left = search.evaluations - len(history)
    rng = np.random.default_rng([seed, len(history)])
    if not history:
        return random_architectures(space, budget, min(search.population, left), rng)
    alive = history[-search.population :]
    children = []
    for _ in range(min(search.at_once, left)):
        drawn = rng.choice(len(alive), min(search.tournament, len(alive)), replace=False)
        parent = best([alive[i] for i in drawn])
        children.append(mutated(space, parent.architecture, budget, rng))
    return children


METHODS: dict[str, Method] = {"random": random_search, "evolution": evolution}


def best(scored: Sequence[Scored]) -> Scored:
    """The most accurate; of equals that of least loss, then the cheapest, then the first."""
    return min(scored, key=lambda s: (-s.score.accuracy, s.score.loss, s.architecture.cost))


def run_search(
    method: Method,
    space: Space,
    budget: float,
    search: Search,
    seed: int,
    score: Callable[[Sequence[Architecture]], Sequence[Score]],
    keep: Callable[[Sequence[Scored]], None] = lambda history: None,
) -> Scored:
    """The best that a method finds; `keep` is given all that was scored, after every round."""
    history: list[Scored] = []
    while asked := method(space, budget, search, seed, history):
        history += [Scored(*pair) for pair in zip(asked, score(asked), strict=True)]
        keep(history)
    return best(history)
