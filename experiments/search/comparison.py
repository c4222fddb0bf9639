"""Gates that learn beside random search and evolution, on images: found, trained, tested.

Architectures are chosen on the validation split with the shared weights of the super-network, and
told of on the testing split. What gates found sets the budget of the searches: its own cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.command.progress import Progress
from experiments.config.build import in_units
from experiments.config.costs import Charged, charged_of
from experiments.datasets.images import ImageSource
from experiments.runs.trained import TrainedModel, found_architecture
from experiments.search import record
from experiments.search.finetuning import finetuned, finetuning_config
from experiments.search.methods import METHODS, Score, Search, run_search
from experiments.search.scoring import Scorer, image_scorer
from experiments.search.space import Architecture, Space

GATES, WHOLE = "gates", "everything on"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked of a comparison.

    Fields:
      out: its folder.
      search: how much is looked at.
      seeds: of the searches, each on every super-network.
      budgets: in units of the cost, below 1 shares; none where gates set them.
      finetune_steps: the same for every architecture; 0: none.
      data: cache of images, if it has moved.
      trust: run what a config.py brings.
    """

    out: Path
    search: Search
    seeds: Sequence[int] = (0,)
    budgets: Sequence[float] = ()
    finetune_steps: int = 0
    data: str | None = None
    trust: bool = False


class Asked(NamedTuple):
    """A budget in units of the cost, in words, and the gates that set it, if any did."""

    budget: float
    words: str
    gates: TrainedModel | None


class Found(NamedTuple):
    """An architecture that a method found.

    Fields:
      network, seed: super-network, and what the search or the gates began with.
      method: "gates", "random", "evolution"; "everything on" is the whole network.
      asked: budget in words.
      share: its cost as a share of the whole network's.
      validation, testing: accuracy of the splits with the shared weights, 0 to 1.
      tuned: of testing after the same training for all, if there was any.
      own: of testing with the weights that were trained along with the gates.
      edges: that are live.
    """

    network: str
    seed: int
    method: str
    asked: str
    share: float
    validation: float
    testing: float
    tuned: float | None
    own: float | None
    edges: list[str]


class _Choice(NamedTuple):
    """What was chosen: by whom, for what budget, with which gates."""

    seed: int
    method: str
    asked: Asked
    architecture: Architecture


def compare_images(
    models: Sequence[TrainedModel], gates: Sequence[TrainedModel], options: Options
) -> list[Found]:
    """Search, train and test on every super-network.

    Args:
      models: super-networks.
      gates: runs with a constant Γ that began from them.
      options: of the comparison.
    """
    _check(models, gates, options)
    found = []
    for model in models:
        found += _on_one(model, [run for run in gates if began_from(run, model)], options)
    return found


def _check(models: Sequence[TrainedModel], gates: Sequence[TrainedModel], options: Options) -> None:
    """ValueError for what cannot be compared, before anything is scored."""
    if bool(gates) == bool(options.budgets):
        got = "both" if gates else "neither"
        raise ValueError(f"--gates, --budgets: expected one of them, got {got}")
    for model in models:
        if options.finetune_steps:
            finetuning_config(model, options.finetune_steps)
    for run in gates:
        config = run.info.config.model
        if config.static or config.cell != "constant" or config.conditioned:
            raise ValueError(
                "--gates: expected runs with one architecture for all inputs (model.cell=constant, "
                f"not static, not conditioned), got {run.workdir}"
            )
        if not any(began_from(run, model) for model in models):
            raise ValueError(
                f"--gates: expected runs that began from a --workdir, got {run.workdir}, which "
                f"began from {run.info.config.train.init_from}"
            )


def began_from(run: TrainedModel, model: TrainedModel) -> bool:
    """Whether a run started with the weights of another."""
    source = run.info.config.train.init_from
    return source is not None and Path(source).resolve() == model.workdir.resolve()


def space_of(model: TrainedModel) -> tuple[Space, Charged]:
    """A super-network's architectures by its own cost, and that cost."""
    charged = charged_of(model.info.config, model.sanas.net, model.info.hooks)
    return Space(model.sanas.net, charged.objective, 1 / charged.scale), charged


def _on_one(model: TrainedModel, gates: Sequence[TrainedModel], options: Options) -> list[Found]:
    space, charged = space_of(model)
    folder = options.out / model.workdir.name
    about = dataclasses.asdict(options.search) | {
        "step": model.step,
        "data": model.info.data_sha256,
    }
    kept = record.Record(folder / "search.jsonl", space, about)
    data = dataclasses.replace(
        model.info.config.data, cache=options.data or model.info.config.data.cache
    )
    source = ImageSource(data)
    validate, test = (
        image_scorer(model, source, split, options.search.at_once)
        for split in ("validation", "testing")
    )
    choices = list(_choose(model, space, charged, gates, options, validate, kept))
    everything = space.architecture(np.ones(len(model.sanas.net.edges), bool))
    seed = model.info.config.train.seed
    choices.append(_Choice(seed, WHOLE, Asked(charged.full, WHOLE, None), everything))
    lives = list({c.architecture.live.tobytes(): c.architecture.live for c in choices}.values())
    shared = _by_edges(lives, validate(model.params, lives))
    tested = _by_edges(lives, test(model.params, lives))
    tuned: dict[bytes, Score] = {}
    if options.finetune_steps:
        steps = options.finetune_steps
        runs = folder / f"finetuned_{steps}"
        weights = finetuned(model, lives, runs, steps, trust=options.trust)
        scores = [test(own, [live])[0] for own, live in zip(weights, lives, strict=True)]
        tuned = _by_edges(lives, scores)
    out = []
    for choice in choices:
        live, run = choice.architecture.live, choice.asked.gates
        key, by_gates = live.tobytes(), choice.method == GATES
        out.append(
            Found(
                network=model.workdir.name,
                seed=choice.seed,
                method=choice.method,
                asked=choice.asked.words,
                share=choice.architecture.cost / charged.full,
                validation=shared[key].accuracy,
                testing=tested[key].accuracy,
                tuned=tuned[key].accuracy if tuned else None,
                own=test(run.params, [live])[0].accuracy if by_gates and run else None,
                edges=space.names(live),
            )
        )
    return out


def _choose(
    model: TrainedModel,
    space: Space,
    charged: Charged,
    gates: Sequence[TrainedModel],
    options: Options,
    validate: Scorer,
    kept: record.Record,
) -> Iterator[_Choice]:
    """What gates found, and the best of every search."""
    asked = [
        Asked(in_units(budget, charged), budget_words(budget), None) for budget in options.budgets
    ]
    for run in gates:
        _, live = found_architecture(run.sanas, run.params, run.static)
        architecture = space.architecture(live > 0)
        config = run.info.config.train
        words = budget_words(config.budget) if config.budget else f"λ = {config.cost_weight:g}"
        asked.append(Asked(architecture.cost, words, run))
        yield _Choice(config.seed, GATES, asked[-1], architecture)
    total = len(asked) * len(options.seeds) * len(METHODS) * options.search.evaluations
    with Progress(total, "architecture", model.workdir.name) as shown:
        for one, seed, name in product(asked, options.seeds, METHODS):
            scorer = _Remembered(model, validate, kept, shown)
            keep = partial(kept.keep, record.Search(seed, name, one.budget))
            best = run_search(
                METHODS[name], space, one.budget, options.search, seed, scorer.score, keep
            )
            yield _Choice(seed, name, one, best.architecture)


class _Remembered(NamedTuple):
    """A scorer that asks for what the record does not know."""

    model: TrainedModel
    scorer: Scorer
    kept: record.Record
    shown: Progress

    def score(self, asked: Sequence[Architecture]) -> list[Score]:
        scores = self.kept.scored(asked, partial(self.scorer, self.model.params))
        self.shown.add(len(asked))
        return scores


def budget_words(budget: float) -> str:
    """A budget as it was asked for: a share, or units of cost."""
    return f"{100 * budget:g} %" if budget < 1 else f"{budget:,.6g}"


def _by_edges(lives: Sequence[np.ndarray], scores: Sequence[Score]) -> dict[bytes, Score]:
    return {live.tobytes(): score for live, score in zip(lives, scores, strict=True)}
