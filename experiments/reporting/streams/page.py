"""The report of runs on streams: its sections in order."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from experiments.config.wording import MILLION
from experiments.figures import training as training_figures
from experiments.figures.network import network_figure
from experiments.reporting import document, reproduce, sections
from experiments.reporting.document import MANY, Pngs, Report
from experiments.reporting.points import points_to_json
from experiments.reporting.run_record import RunRecord, final_price, gate_table
from experiments.reporting.sections import Asked, in_sight
from experiments.reporting.streams.curve_figure import cost_curve
from experiments.reporting.streams.excerpt_figure import ENVELOPE_S, liveliest, stream_figure
from experiments.reporting.streams.points import StreamPoint, one_detector_per_run, stream_points
from experiments.reporting.streams.roc import read_rocs, roc_figure
from experiments.reporting.streams.tables import (
    COLUMNS,
    PAPER_COLUMNS,
    format_rows,
    paper_rows,
    reference_rows,
    run_rows,
)


def stream_report(runs: Sequence[RunRecord], start_s: float | None, seconds: float) -> Report:
    """The page, its figures, the curve and the table of scores.

    Args:
      runs: at least one.
      start_s: where the excerpt of the stream begins; where most happens if None.
      seconds: its length.
    """
    pngs: Pngs = {}
    points = stream_points(runs)
    contents = {
        "Scores": scores_section(runs, points),
        "Accuracy for cost": curve_section(points, pngs),
        "Asked against reached": budget_section(runs, points),
        "ROC": roc_section(runs, pngs),
        "Training": sections.training_section(runs, pngs),
        "Cost per word": cost_per_word_section(runs, pngs),
        "On the stream": excerpt_section(runs, pngs, start_s, seconds),
        "What runs when": usage_section(runs, pngs),
        "How it was made": sections.made_section(runs),
    }
    page = document.whole_page("Keyword spotting under a budget", runs, contents)
    table = format_rows(row for run in runs for row in run_rows(run))
    return Report(page, pngs, points_to_json(points), table)


def scores_section(runs: Sequence[RunRecord], points: Sequence[StreamPoint]) -> str:
    """Table 1 of the paper, then every stream."""
    every = _every_stream(runs)
    if not points:
        return every
    every = document.folded("Every stream", every) if len(runs) >= MANY else every
    return f"""{_table_1(points)}
<p class="note">Mean ± standard deviation over streams, in the layout of table 1 of the SANAS paper,
cheapest first. FA: false alarms. The paper's rows are of other data (an hour of stream, all of
Speech Commands v0.01) and of a network of 137.3M MACs.{_detectors(points)}</p>
{every}"""


def curve_section(points: Sequence[StreamPoint], pngs: Pngs) -> str:
    """Cost against accuracy."""
    if not points:
        return "<p>No run was evaluated on a stream yet.</p>"
    points = one_detector_per_run(points)
    static = any(point.kind == "static" for point in points)
    dashed = " Dashed: the best static network." if static else ""
    several = any(len(point.streams) > 1 for point in points)
    bars = ", with the standard deviation over streams" if several else ""
    caption = (
        f"Words found for what a frame costs, without the controller (figure 5 of the SANAS "
        f"paper){bars}.{dashed} Labels say which budget or price was asked for. The paper's own "
        "networks, hollow (squares: static), are placed by their share of its whole network "
        "(137.3M MACs per frame); it used other data, an hour of stream and all of Speech Commands "
        "v0.01, so only the shape compares."
        f"{_detectors(points)}"
    )
    return document.figure(pngs, "curve", partial(cost_curve, points), caption)


def budget_section(runs: Sequence[RunRecord], points: Sequence[StreamPoint]) -> str:
    """The budgets that were asked for, and what was reached."""
    drawn = one_detector_per_run(points)
    asked = [row for run in runs for row in _asked(run, [p for p in drawn if p.run == run.name])]
    note = """MACs per frame of the edges that run. The price λ rises while training costs more
than was asked for and falls while it costs less. A budget counts as reached if validation is within
10 % of it; streams hold another mix of silence and words. A network that serves any price is told
the one that spent the budget in validation."""
    return sections.asked_section(asked, "streams", note)


def roc_section(runs: Sequence[RunRecord], pngs: Pngs) -> str:
    """Hits against errors over thresholds."""
    rocs = read_rocs(runs)
    if not rocs:
        return "<p>No evaluation has it yet: run <code>evaluate</code> again.</p>"
    caption = (
        "As the detection threshold moves, means over streams: the most words found with at most "
        "so many false alarms, and words found against words taken for another. Dots: the "
        "threshold that all other figures are at; below the line where another threshold does "
        "better. Where it is known, on the right: words found against false alarms where no words "
        "are."
    )
    return document.figure(pngs, "roc", partial(roc_figure, rocs), caption)


def cost_per_word_section(runs: Sequence[RunRecord], pngs: Pngs) -> str:
    """Cost of each class over training."""
    kept = [run for run in runs if run.lines and not run.static]
    if not kept:
        return "<p>A static network costs the same on every frame.</p>"
    caption = (
        "What a frame costs, by the word in it, during training (figure 6 of the SANAS paper). "
        "Thin lines are the words; the cheapest and the dearest at the end are named."
    )
    unfolded = in_sight(runs)
    out = ""
    for name, fold in (("cost_per_word", False), ("cost_per_word_others", True)):
        part = [run for run in kept if (run.name not in unfolded) == fold]
        if part:
            metrics = {run.name: run.lines for run in part}
            full = {run.name: float(run.full_macs) for run in part}
            draw = partial(training_figures.cost_per_word, metrics, full)
            drawn = document.figure(pngs, name, draw, caption)
            out += document.folded("The other runs", drawn) if fold else drawn
    return out


def excerpt_section(
    runs: Sequence[RunRecord], pngs: Pngs, start_s: float | None, seconds: float
) -> str:
    """One excerpt per run, of the stream that most runs share, at the same place."""
    shared = Counter(e.result.stream for run in runs for e in run.typical)

    def excerpt(run: RunRecord) -> str:
        if not run.evaluations:
            return "<p>No stream to show yet.</p>"
        chosen = max(run.typical, key=lambda e: shared[e.result.stream])
        name, view = chosen.result.stream, chosen.view
        same = [e.view for r in runs for e in r.typical if e.result.stream == name]
        start = liveliest(same, seconds) if start_s is None else start_s
        last = len(view.envelope) * ENVELOPE_S
        if not 0 <= start < last:
            raise ValueError(
                f"--excerpt_start_s: expected 0 or more and less than the {last:g} s of "
                f"{name}, got {start:g}"
            )
        end = min(start + seconds, last)
        caption = (
            f"{run.name} ({run.label}) on {run.shown_as(chosen.result)}, {start:g} to {end:g} s. "
            "What the network says of a window of 1 s is drawn at the window's middle, in fuller "
            "colour the higher the posterior; boxes and shades are the words spoken. A frame of "
            f"the stream costs {view.macs.mean() / MILLION:.3g}M MACs on average, the whole "
            f"network {view.full_macs / MILLION:.3g}M."
        )
        draw = partial(stream_figure, view, start, end)
        return document.figure(pngs, f"stream_{run.name}", draw, caption)

    return sections.run_by_run(runs, excerpt)


def usage_section(runs: Sequence[RunRecord], pngs: Pngs) -> str:
    """Which edges run for which word, as a heat map and on the network itself."""

    def usage(run: RunRecord) -> str:
        if run.static:
            return "<p>Static: every edge runs on every frame.</p>"
        if not (run.evaluations or run.last("training", "validation")):
            return "<p>Nothing known yet.</p>"
        return _usage_figures(run, pngs)

    return sections.run_by_run(runs, usage)


def _detectors(points: Sequence[StreamPoint]) -> str:
    """Which detector is which, where a calibrated one was used."""
    if all(point.detector == "default" for point in points):
        return ""
    return (
        " Calibrated: the detector that was chosen on validation streams, in place of the "
        "protocol's, for a rate of false alarms an hour where one is named. Where a run was "
        "evaluated with several, tables have all, figures one, a calibrated one."
    )


def _table_1(points: Sequence[StreamPoint]) -> str:
    head = ["model", *(f"{heading}<br><small>{unit}</small>" for heading, unit in PAPER_COLUMNS)]
    ours = "".join(
        document.row(document.under(run, label), numbers, 1)
        for run, label, *numbers in paper_rows(points)
    )
    paper = "".join(
        document.row(html.escape(model), numbers, 1) for model, _, *numbers in reference_rows()
    )
    return document.html_table(
        head,
        f'{ours}</tbody>\n<tbody class="reference">\n'
        f'<tr><th scope="rowgroup" colspan="{len(head)}">The paper</th></tr>\n{paper}',
        1,
    )


def _every_stream(runs: Sequence[RunRecord]) -> str:
    columns = [f"{column.heading}<br><small>{column.unit}</small>" for column in COLUMNS]
    body = hints = ""
    for run in runs:
        rows = run_rows(run)
        name = (
            f'<th scope="rowgroup" rowspan="{len(rows)}">{document.under(run.name, run.label)}</th>'
        )
        for _, _, stream, *numbers in rows:
            cells = "".join(document.cell(number, True) for number in numbers)
            body += f"<tr>{name}{document.cell(html.escape(stream), False)}{cells}</tr>\n"
            name = ""
        if not run.evaluations:
            command = document.commands([reproduce.evaluate(run, "stream")])
            hints += f"<p>{html.escape(run.name)} was not run through a stream yet:</p>{command}"
    table = document.html_table(["run", "stream", *columns], body, 2)
    return f"""{table}
<p class="note">Correct, wrong, match and false alarms are in % of the words spoken, counted as
TensorFlow's streaming test does: a detection near a word is correct if it is the first there and
names it, else wrong; near no word it is a false alarm. Of audio without words, false alarms an hour
have exact 95 % bounds, and ≤ is the bound where there were none. Costs are multiply-accumulates of
the edges that run, per frame: a step of the network. ± is the standard deviation over
streams.</p>{hints}"""


def _asked(run: RunRecord, points: Sequence[StreamPoint]) -> list[Asked]:
    """What training was asked for, or each budget that was asked of a conditioned run.

    The verdict is on validation, or on the streams where the budget was asked of these.
    """
    if run.kind == "conditioned":
        told = [
            Asked(run, run.label, point.budget, None, macs, macs, point.cost_weight)
            for point in points
            if point.budget
            for macs in [point.macs_per_frame.mean]
        ]
        if told or not run.diverged:
            return told
    elif not (run.budget or run.diverged):
        return []
    line = run.last("validation") or {}
    validated = line.get("charged", line.get("macs_per_frame"))
    # Streams are charged in MACs, whatever training was asked for.
    in_macs = run.budget and run.info.config.train.cost == "macs"
    measured = points[0].macs_per_frame.mean if points and in_macs else None
    reached = None if run.kind == "conditioned" else validated
    price = final_price(run)
    return [Asked(run, run.label, run.budget or None, validated, measured, reached, price)]


def _usage_figures(run: RunRecord, pngs: Pngs) -> str:
    """The heat map, and the network in silence and at words, or in all frames."""
    table, rows, source = gate_table(run)
    caption = f"{run.name} ({run.label}): how often each edge runs, by class; {source}."
    draw_table = partial(training_figures.gate_usage, table, rows, run.edge_macs)
    panels = {"All frames": table[0]}
    if run.evaluations:
        labels = np.concatenate([e.labels for e in run.typical])
        live = np.concatenate([e.live for e in run.typical])
        parts = {"In silence": live[labels == 0], "At words": live[labels > 0]}
        panels = {name: part.mean(0) for name, part in parts.items() if len(part)}
    network_caption = (
        f"The network of {run.name}, an edge as wide as it is used: its name, its MACs per frame "
        f"when it runs, and the share of the frames in which it does; {source}."
    )
    draw = partial(network_figure, run.net, run.edge_macs, panels)
    return document.figure(pngs, f"gates_{run.name}", draw_table, caption) + document.figure(
        pngs, f"network_{run.name}", draw, network_caption
    )
