"""The table of scores of runs on images: a row per run, split and price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.config.wording import format_columns, short, verdict
from experiments.reporting.images.points import (
    ImagePoint,
    charged_name,
    full_name,
    label_of,
    run_points,
    unit_of,
)
from experiments.reporting.run_record import RunRecord, final_price

Row = list[str]  # run, label, images, then a text per column

FIRST_NUMBER = 3


class Table(NamedTuple):
    """A table: (heading, unit) of each column, and rows."""

    head: list[tuple[str, str]]
    rows: list[Row]


def score_table(runs: Sequence[RunRecord]) -> Table:
    """Accuracy, every cost with its share of the whole network's, and what was asked for.

    A run that was not evaluated has what its last validation says.
    """
    found = {run.name: run_points(run) or _validated(run) for run in runs}
    every = [point for points in found.values() for point in points]
    costs = {name: unit_of(name, run) for run in runs for p in found[run.name] for name in p.costs}
    pixels = any(point.mean_iou_pct is not None for point in every)
    head = [("run", ""), ("kind", ""), ("images", ""), ("accuracy", "%")]
    head += [("mean IoU", "%")] if pixels else []
    head += [(name, unit) for name, unit in costs.items()]
    head += [("asked", ""), ("outcome", "")]
    rows = []
    for run in runs:
        for point in found[run.name]:
            iou = [_number(point.mean_iou_pct)] if pixels else []
            spent = [_cost(point, name) for name in costs]
            budget = f"{short(point.budget)} {point.unit}" if point.budget else "–"
            row = [run.name, point.label, point.split, _number(point.accuracy_pct), *iou]
            rows.append([*row, *spent, budget, outcome(run, point)])
        if not found[run.name]:
            rest = ["–"] * (len(head) - 4)
            rows.append([run.name, label_of(run), "nothing yet", *rest, run.diverged or "–"])
    return Table(head, rows)


def outcome(run: RunRecord, point: ImagePoint) -> str:
    """Whether the budget was reached."""
    if run.diverged or not point.budget:
        return run.diverged or "–"
    return verdict(point.charged, point.budget, final_price(run))


def format_table(table: Table) -> str:
    """A table as plain text."""
    return format_columns([*zip(*table.head, strict=True), *table.rows], FIRST_NUMBER)


def _validated(run: RunRecord) -> list[ImagePoint]:
    """A point for the last validation, if there is one."""
    line = run.last("validation")
    if line is None:
        return []
    config = run.info.config
    names = [name for name in config.train.report_costs if name != config.train.cost]
    costs = {charged_name(run): line["charged"], "macs": line["macs_per_frame"]}
    costs |= {full_name(name, run): line[f"cost_{name}"] for name in names}
    return [
        ImagePoint(
            run=run.name,
            kind=run.kind,
            label=label_of(run),
            family=config.model.family,
            split=f"validation, step {line['step']}",
            budget=run.budget,
            unit=run.charged.unit,
            charged=line["charged"],
            cost_weight=None,
            seed=config.train.seed,
            accuracy_pct=100 * line["frame_accuracy"],
            mean_iou_pct=None,
            costs=costs,
            full_costs={charged_name(run): run.charged.full, "macs": run.full_macs},
        )
    ]


def _cost(point: ImagePoint, name: str) -> str:
    if name not in point.costs:
        return "–"
    cost, full = point.costs[name], point.full_costs.get(name)
    return short(cost) + (f" ({100 * cost / full:.1f} %)" if full else "")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
