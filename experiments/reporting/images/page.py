"""The report of runs on images: what was found, what it costs, how it looks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial

import numpy as np

from experiments.figures import training as training_figures
from experiments.figures.architecture import Found, architecture_figure
from experiments.reporting import document, reproduce, sections
from experiments.reporting.document import Pngs, Report
from experiments.reporting.images.curve_figure import image_curve
from experiments.reporting.images.points import (
    ImagePoint,
    image_points,
    label_of,
    run_points,
    unit_of,
)
from experiments.reporting.images.tables import FIRST_NUMBER, format_table, score_table
from experiments.reporting.points import points_to_json
from experiments.reporting.run_record import RunRecord, final_price
from experiments.reporting.sections import Asked
from experiments.runs.stored_results import ImageResult


def image_report(runs: Sequence[RunRecord]) -> Report:
    """The page, its figures, the curve and the table of scores.

    Args:
      runs: at least one, all of images.
    """
    pngs: Pngs = {}
    points = image_points(runs)
    contents = {
        "Scores": scores_section(runs),
        "Accuracy for cost": curve_section(runs, points, pngs),
        "Asked against reached": budget_section(runs, points),
        "Training": sections.training_section(runs, pngs, training_figures.IMAGE_PANELS),
        "Architectures": architecture_section(runs, pngs),
        "How it was made": sections.made_section(runs),
    }
    page = document.whole_page("Architectures under a budget", runs, contents)
    return Report(page, pngs, points_to_json(points), format_table(score_table(runs)))


def scores_section(runs: Sequence[RunRecord]) -> str:
    """Accuracy and costs of every run."""
    table = score_table(runs)
    head = [f"{name}<br><small>{unit}</small>" if unit else name for name, unit in table.head]
    del head[1]  # the label stands under the name
    body = "".join(
        document.row(
            document.under(row[0], row[1]), list(map(html.escape, row[2:])), FIRST_NUMBER - 1
        )
        for row in table.rows
    )
    hints = "".join(
        f"<p>{html.escape(run.name)} was not evaluated yet:</p>"
        + document.commands([reproduce.evaluate_images(run, "testing")])
        for run in runs
        if not run.tested
    )
    return f"""{document.html_table(head, body, FIRST_NUMBER - 1)}
<p class="note">Of the most probable architecture, with the share of the whole network's cost. A
budget counts as reached within 10 %.</p>{hints}"""


def curve_section(runs: Sequence[RunRecord], points: Sequence[ImagePoint], pngs: Pngs) -> str:
    """Accuracy against every cost."""
    if not points:
        return "<p>No run was evaluated yet.</p>"
    by_name = {run.name: run for run in runs}
    units = {name: unit_of(name, by_name[p.run]) for p in points for name in p.costs}
    whole = any(point.kind == "static" for point in points)
    dashed = " Squares and dashes: the whole network, trained without gates." if whole else ""
    caption = (
        f"Accuracy on {points[0].split} images for what the architecture costs.{dashed} Labels "
        "say which budget was asked for, in the unit of what was charged."
    )
    return document.figure(pngs, "curve", partial(image_curve, points, units), caption)


def budget_section(runs: Sequence[RunRecord], points: Sequence[ImagePoint]) -> str:
    """The budgets that were asked for, and what was reached."""
    charged = {point.run: point.charged for point in reversed(points)}
    asked = [_asked(run, charged.get(run.name)) for run in runs if run.budget]
    note = """In the unit of what was charged. The price λ rises while training costs more than
was asked for and falls while it costs less. A budget counts as reached if the architecture that was
found is within 10 % of it."""
    return sections.asked_section(asked, points[0].split if points else "testing", note)


def architecture_section(runs: Sequence[RunRecord], pngs: Pngs) -> str:
    """The network of each run, and what was found in it."""
    return sections.run_by_run(runs, lambda run: _architecture(run, pngs))


def found_in(run: RunRecord, result: ImageResult) -> Found:
    """The architecture of a result of `evaluate`."""
    names, live = list(run.net.index), set(result.live)
    return Found(
        np.array([result.probability[name] for name in names]),
        np.array([name in live for name in names]),
    )


def _asked(run: RunRecord, measured: float | None) -> Asked:
    """The verdict is on the evaluation, or on the last validation while there is none."""
    validated = (run.last("validation") or {}).get("charged")
    reached = validated if measured is None else measured
    price = final_price(run)
    return Asked(run, label_of(run), run.budget, validated, measured, reached, price)


def _architecture(run: RunRecord, pngs: Pngs) -> str:
    if not run.tested:
        return "<p>Not evaluated yet: what was found is not known.</p>"
    if run.static and label_of(run) == "static":
        return "<p>Static: every edge is on.</p>"
    split = run.tested[0].split
    panels = {}
    for result, point in zip(run.tested, run_points(run), strict=True):
        if result.split == split:
            share = 100 * point.costs["macs"] / point.full_costs["macs"]
            title = f"{point.label}: {point.accuracy_pct:.1f} %, {share:.1f} % of the MACs"
            panels[title] = found_in(run, result)
    caption = (
        f"The network of {run.name}, an edge as wide as it is likely to be on. In colour: the most "
        "probable architecture. Numbers: MACs of an edge. Sizes at the left: of the images there."
    )
    draw = partial(architecture_figure, run.net, panels, run.edge_macs)
    return document.figure(pngs, f"architecture_{run.name}", draw, caption)
