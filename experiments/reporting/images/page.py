"""The page of a report of runs on images: what was found, what it costs, how it looks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial

import numpy as np

from experiments.config.wording import short, verdict
from experiments.figures import training as training_figures
from experiments.figures.architecture import Found, architecture_figure
from experiments.reporting import document, reproduce, sections
from experiments.reporting.document import Pngs
from experiments.reporting.images.curve_figure import image_curve
from experiments.reporting.images.points import Point, label_of, points, run_points, unit_of
from experiments.reporting.images.tables import FIRST_NUMBER, score_table
from experiments.reporting.run_record import Run, final_price


def make_page(runs: Sequence[Run]) -> tuple[str, Pngs]:
    """The HTML, which needs no other file, and its figures as PNGs by name.

    Args:
      runs: at least one, all of images.
    """
    pngs: Pngs = {}
    measured = points(runs)
    contents = {
        "Scores": scores(runs),
        "Accuracy for cost": curve(runs, measured, pngs),
        "Asked against reached": asked(runs, measured),
        "Training": sections.training(runs, pngs, training_figures.IMAGE_PANELS),
        "Architectures": architectures(runs, pngs),
        "How it was made": sections.made(runs),
    }
    return document.whole_page("Architectures under a budget", runs, contents), pngs


def scores(runs: Sequence[Run]) -> str:
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
    return f"""{document.table(head, body, FIRST_NUMBER - 1)}
<p class="note">Of the most probable architecture, with the share of the whole network's cost. A
budget counts as reached within 10 %.</p>{hints}"""


def curve(runs: Sequence[Run], measured: Sequence[Point], pngs: Pngs) -> str:
    """Accuracy against every cost."""
    if not measured:
        return "<p>No run was evaluated yet.</p>"
    by_name = {run.name: run for run in runs}
    units = {name: unit_of(name, by_name[p.run]) for p in measured for name in p.costs}
    whole = any(point.kind == "static" for point in measured)
    dashed = " Squares and dashes: the whole network, trained without gates." if whole else ""
    caption = (
        f"Accuracy on {measured[0].split} images for what the architecture costs.{dashed} Labels "
        "say which budget was asked for, in the unit of what was charged."
    )
    return document.figure(pngs, "curve", partial(image_curve, measured, units), caption)


def asked(runs: Sequence[Run], measured: Sequence[Point]) -> str:
    """The budgets that were asked for, and what was reached."""
    split = measured[0].split if measured else "testing"
    rows = "".join(
        _asked_row(run, next((p for p in measured if p.run == run.name), None))
        for run in runs
        if run.budget
    )
    if not rows:
        return "<p>No run was asked for a budget: computation had a fixed price λ.</p>"
    head = ["run", "outcome", "asked", "of the network", "validation", split]
    return f"""{document.table([*head, "reached / asked", "λ"], rows, 2)}
<p class="note">In the unit of what was charged. The price λ rises while training costs more than
was asked for and falls while it costs less. A budget counts as reached if the architecture that was
found is within 10 % of it.</p>"""


def architectures(runs: Sequence[Run], pngs: Pngs) -> str:
    """The network of each run, and what was found in it."""
    shown = sections.in_sight(runs)
    return "".join(
        document.titled(run.name, _architecture(run, pngs), run.name not in shown) for run in runs
    )


def found_in(run: Run, result: dict) -> Found:
    """The architecture of a result of `evaluate`."""
    names, live = list(run.net.index), set(result["live"])
    return Found(
        np.array([result["probability"][name] for name in names]),
        np.array([name in live for name in names]),
    )


def _asked_row(run: Run, point: Point | None) -> str:
    """The verdict is on the evaluation, or on the last validation while there is none."""
    assert run.budget is not None, "the caller asks only where there is one"
    validated = (run.last("validation") or {}).get("charged")
    reached = validated if point is None else point.charged
    price = final_price(run)
    word = "not validated yet" if reached is None else verdict(reached, run.budget, price)
    cells = [
        html.escape(run.diverged or word),
        f"{short(run.budget)} {html.escape(run.charged.unit)}",
        f"{100 * run.budget / run.charged.full:.1f} %",
        *("–" if cost is None else short(cost) for cost in (validated, point and point.charged)),
        "–" if reached is None else f"{reached / run.budget:.2f}",
        "–" if price is None else f"{price:.3g}",
    ]
    return document.row(document.under(run.name, label_of(run)), cells, 2)


def _architecture(run: Run, pngs: Pngs) -> str:
    if not run.tested:
        return "<p>Not evaluated yet: what was found is not known.</p>"
    if run.static and label_of(run) == "static":
        return "<p>Static: every edge is on.</p>"
    split = run.tested[0]["split"]
    panels = {}
    for result, point in zip(run.tested, run_points(run), strict=True):
        if result["split"] == split:
            share = 100 * point.costs["macs"] / point.full_costs["macs"]
            title = f"{point.label}: {point.accuracy_pct:.1f} %, {share:.1f} % of the MACs"
            panels[title] = found_in(run, result)
    caption = (
        f"The network of {run.name}, an edge as wide as it is likely to be on. In colour: the most "
        "probable architecture. Numbers: MACs of an edge. Sizes at the left: of the images there."
    )
    draw = partial(architecture_figure, run.net, panels, run.edge_macs)
    return document.figure(pngs, f"architecture_{run.name}", draw, caption)
