"""Accuracy for cost of runs on images: a point per run, or per price that it was told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.config.costs import steps_on
from experiments.reporting.run_record import RunRecord
from experiments.runs.stored_results import SPLITS, ImageResult

UNITS = {
    "macs": "MACs",
    "params": "parameters",
    "memory": "bytes",
    "time": "µs",
}


class ImagePoint(NamedTuple):
    """A run on a split of its images, at one price.

    Fields:
      run: its name.
      kind: one of `run_record.KINDS`, or "extracted": static, of the edges of another run alone.
      label: the kind with the budget or price, as shown.
      family: of the network.
      split: "testing", or another.
      budget: asked for in training, in `unit`; None where none was.
      unit: of what was charged.
      charged: that cost, in `unit`.
      cost_weight: λ that a conditioned network was told.
      seed: of training.
      accuracy_pct: of the images, or of their pixels.
      mean_iou_pct: of pixels; None for images with a label each.
      costs: name → cost of the architecture; what was charged is among them.
      full_costs: name → cost of the whole network.
    """

    run: str
    kind: str
    label: str
    family: str
    split: str
    budget: float | None
    unit: str
    charged: float
    cost_weight: float | None
    seed: int
    accuracy_pct: float
    mean_iou_pct: float | None
    costs: dict[str, float]
    full_costs: dict[str, float]


def image_points(runs: Sequence[RunRecord]) -> list[ImagePoint]:
    """Points on the most telling split that any of the runs was evaluated on."""
    found = [point for run in runs for point in run_points(run)]
    split = min((point.split for point in found), key=SPLITS.index, default=None)
    return [point for point in found if point.split == split]


def run_points(run: RunRecord) -> list[ImagePoint]:
    """Points of a run on every split, "testing" first."""
    return [_point(run, result) for result in run.tested]


def kind_of(run: RunRecord) -> str:
    """The point's kind."""
    return "extracted" if run.static and run.info.config.model.edges else run.kind


def label_of(run: RunRecord, price: float | None = None) -> str:
    """The kind, with what was asked for or told."""
    if price is not None:
        return f"BSN told λ={price:.3g}"
    return "extracted" if kind_of(run) == "extracted" else run.label


def unit_of(name: str, run: RunRecord) -> str:
    """Unit of a cost by its name."""
    if name == charged_name(run):
        return run.charged.unit
    if name.startswith("parallel_"):
        return steps_on(int(name.removeprefix("parallel_")))
    return UNITS.get(name, "units of cost")


def charged_name(run: RunRecord) -> str:
    """Name of the cost that was charged; a config file's own has none."""
    return "charged" if run.info.hooks.build_cost else full_name(run.info.config.train.cost, run)


def full_name(name: str, run: RunRecord) -> str:
    """A cost's name with the number of workers: steps on other numbers do not compare."""
    return f"parallel_{run.info.config.train.workers}" if name == "parallel" else name


def _point(run: RunRecord, result: ImageResult) -> ImagePoint:
    config, name = run.info.config, charged_name(run)
    return ImagePoint(
        run=run.name,
        kind=kind_of(run),
        label=label_of(run, result.cost_weight),
        family=config.model.family,
        split=result.split,
        budget=result.budget,
        unit=result.unit,
        charged=result.charged,
        cost_weight=result.cost_weight,
        seed=config.train.seed,
        accuracy_pct=result.accuracy_pct,
        mean_iou_pct=result.mean_iou_pct,
        costs={name: result.charged, **_named(result.costs, run)},
        full_costs={name: result.full_charged, **_named(result.full_costs, run)},
    )


def _named(costs: dict[str, float], run: RunRecord) -> dict[str, float]:
    return {full_name(name, run): cost for name, cost in costs.items()}
