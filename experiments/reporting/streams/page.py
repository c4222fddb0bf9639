"""The page of a report of streams: its sections in order; and what all reports are set in."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from experiments.config.wording import MILLION, short, verdict
from experiments.figures import training as training_figures
from experiments.figures.network import network_figure
from experiments.reporting import document, reproduce, sections
from experiments.reporting.document import MANY, Pngs
from experiments.reporting.run_record import Run, final_price, gate_table, shown_as
from experiments.reporting.sections import in_sight
from experiments.reporting.streams.curve_figure import cost_curve
from experiments.reporting.streams.excerpt_figure import ENVELOPE_S, liveliest, stream_figure
from experiments.reporting.streams.points import Point, points, shown
from experiments.reporting.streams.roc import read_rocs, roc_figure
from experiments.reporting.streams.tables import (
    COLUMNS,
    PAPER_COLUMNS,
    paper_rows,
    reference_rows,
    run_rows,
)


def make_page(runs: Sequence[Run], start_s: float | None, seconds: float) -> tuple[str, Pngs]:
    """The HTML, which needs no other file, and its figures as PNGs by name.

    Args:
      runs: at least one.
      start_s: where the excerpt of the stream begins; where most happens if None.
      seconds: its length.
    """
    pngs: Pngs = {}
    measured = points(runs)
    contents = {
        "Scores": scores(runs, measured),
        "Accuracy for cost": curve(measured, pngs),
        "Asked against reached": asked(runs, measured),
        "ROC": roc(runs, pngs),
        "Training": sections.training(runs, pngs),
        "Cost per word": cost_per_word(runs, pngs),
        "On the stream": streams(runs, pngs, start_s, seconds),
        "What runs when": usage(runs, pngs),
        "How it was made": sections.made(runs),
    }
    return document.whole_page("Keyword spotting under a budget", runs, contents), pngs


def scores(runs: Sequence[Run], points: Sequence[Point]) -> str:
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


def curve(points: Sequence[Point], pngs: Pngs) -> str:
    """Cost against accuracy."""
    if not points:
        return "<p>No run was evaluated on a stream yet.</p>"
    points = shown(points)
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


def asked(runs: Sequence[Run], points: Sequence[Point]) -> str:
    """The budgets that were asked for, and what was reached."""
    rows = "".join(
        _asked_rows(run, [p for p in shown(points) if p.run == run.name]) for run in runs
    )
    if not rows:
        return "<p>No run was asked for a budget: computation had a fixed price λ.</p>"
    head = ["run", "outcome", "asked", "validation", "streams", "reached / asked", "λ"]
    return f"""{document.table(head, rows, 2)}
<p class="note">MACs per frame of the edges that run. The price λ rises while training costs more
than was asked for and falls while it costs less. A budget counts as reached if validation is within
10 % of it; streams hold another mix of silence and words. A network that serves any price is told
the one that spent the budget in validation.</p>"""


def roc(runs: Sequence[Run], pngs: Pngs) -> str:
    """Hits against errors over thresholds."""
    rocs = read_rocs(runs)
    if not rocs:
        return "<p>No evaluation has it yet: run <code>evaluate</code> again.</p>"
    caption = (
        "As the detection threshold moves, means over streams: the most words found with at most "
        "so many false alarms, and words found against words taken for another. Dots: the "
        "threshold that all other figures are at; below the line where another threshold does "
        "better."
    )
    return document.figure(pngs, "roc", partial(roc_figure, rocs), caption)


def cost_per_word(runs: Sequence[Run], pngs: Pngs) -> str:
    """Cost of each class over training."""
    kept = [run for run in runs if run.lines and not run.static]
    if not kept:
        return "<p>A static network costs the same on every frame.</p>"
    caption = (
        "What a frame costs, by the word in it, during training (figure 6 of the SANAS paper). "
        "Thin lines are the words; the cheapest and the dearest at the end are named."
    )
    shown = in_sight(runs)
    out = ""
    for name, fold in (("cost_per_word", False), ("cost_per_word_others", True)):
        part = [run for run in kept if (run.name not in shown) == fold]
        if part:
            metrics = {run.name: run.lines for run in part}
            full = {run.name: float(run.full_macs) for run in part}
            draw = partial(training_figures.cost_per_word, metrics, full)
            drawn = document.figure(pngs, name, draw, caption)
            out += document.folded("The other runs", drawn) if fold else drawn
    return out


def streams(runs: Sequence[Run], pngs: Pngs, start_s: float | None, seconds: float) -> str:
    """One excerpt per run, of the stream that most runs share, at the same place."""
    shown = in_sight(runs)
    shared = Counter(e.result["stream"] for run in runs for e in run.typical)
    out = ""
    for run in runs:
        content = "<p>No stream to show yet.</p>"
        if run.evaluations:
            chosen = max(run.typical, key=lambda e: shared[e.result["stream"]])
            name, view = chosen.result["stream"], chosen.view
            same = [e.view for r in runs for e in r.typical if e.result["stream"] == name]
            start = liveliest(same, seconds) if start_s is None else start_s
            last = len(view.envelope) * ENVELOPE_S
            if not 0 <= start < last:
                raise ValueError(
                    f"--excerpt_start_s: expected 0 or more and less than the {last:g} s of "
                    f"{name}, got {start:g}"
                )
            end = min(start + seconds, last)
            caption = (
                f"{run.name} ({run.label}) on {shown_as(chosen)}, {start:g} to {end:g} s. What the "
                "network says of a window of 1 s is drawn at the window's middle, in fuller colour "
                "the higher the posterior; boxes and shades are the words spoken. A frame of the "
                f"stream costs {view.macs.mean() / MILLION:.3g}M MACs on average, the whole "
                f"network {view.full_macs / MILLION:.3g}M."
            )
            draw = partial(stream_figure, view, start, end)
            content = document.figure(pngs, f"stream_{run.name}", draw, caption)
        out += document.titled(run.name, content, run.name not in shown)
    return out


def usage(runs: Sequence[Run], pngs: Pngs) -> str:
    """Which edges run for which word, as a heat map and on the network itself."""
    shown = in_sight(runs)
    out = ""
    for run in runs:
        if run.static:
            content = "<p>Static: every edge runs on every frame.</p>"
        elif not (run.evaluations or run.last("training", "validation")):
            content = "<p>Nothing known yet.</p>"
        else:
            content = _usage_figures(run, pngs)
        out += document.titled(run.name, content, run.name not in shown)
    return out


def _detectors(points: Sequence[Point]) -> str:
    """Which detector is which, where a calibrated one was used."""
    if all(point.detector == "default" for point in points):
        return ""
    return (
        " Calibrated: the detector that was chosen on validation streams, in place of the "
        "protocol's. Where a run was evaluated with both, tables have both, figures the "
        "calibrated one."
    )


def _table_1(points: Sequence[Point]) -> str:
    head = ["model", *(f"{heading}<br><small>{unit}</small>" for heading, unit in PAPER_COLUMNS)]
    ours = "".join(
        document.row(document.under(run, label), numbers, 1)
        for run, label, *numbers in paper_rows(points)
    )
    paper = "".join(
        document.row(html.escape(model), numbers, 1) for model, _, *numbers in reference_rows()
    )
    return document.table(
        head,
        f'{ours}</tbody>\n<tbody class="reference">\n'
        f'<tr><th scope="rowgroup" colspan="{len(head)}">The paper</th></tr>\n{paper}',
        1,
    )


def _every_stream(runs: Sequence[Run]) -> str:
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
    table = document.table(["run", "stream", *columns], body, 2)
    return f"""{table}
<p class="note">Correct, wrong, match and false alarms are in % of the words spoken, counted as
TensorFlow's streaming test does: a detection near a word is correct if it is the first there and
names it, else wrong; near no word it is a false alarm. Costs are multiply-accumulates of the edges
that run, per frame: a step of the network. ± is the standard deviation over streams.</p>{hints}"""


def _asked_rows(run: Run, points: Sequence[Point]) -> str:
    """A row for what training was asked for, or for each budget asked of a conditioned run."""
    line = run.last("validation") or {}
    validated = line.get("charged", line.get("macs_per_frame"))
    out = ""
    if run.kind == "conditioned":
        for point in points:
            if point.budget:
                measured = point.values["macs_per_frame"].mean
                out += _asked_row(run, point.budget, None, measured, point.cost_weight)
    elif run.budget:
        # Streams are charged in MACs, whatever training was asked for.
        in_macs = run.info.config.train.cost == "macs"
        on_streams = points[0].values["macs_per_frame"].mean if points and in_macs else None
        out = _asked_row(run, run.budget, validated, on_streams, final_price(run))
    if run.diverged and not out:
        out = _asked_row(run, None, validated, None, final_price(run))
    return out


def _asked_row(
    run: Run,
    budget: float | None,
    validated: float | None,
    measured: float | None,
    price: float | None,
) -> str:
    """The verdict is on validation, or on the streams where the budget was asked of these."""
    reached = measured if run.kind == "conditioned" else validated
    ratio, word = "–", run.diverged or "not validated yet"
    if budget is not None and reached is not None:
        ratio = f"{reached / budget:.2f}"
        word = run.diverged or verdict(reached, budget, price)
    cells = [
        html.escape(word),
        *("–" if macs is None else short(macs) for macs in (budget, validated, measured)),
        ratio,
        "–" if price is None else f"{price:.3g}",
    ]
    return document.row(document.under(run.name, run.label), cells, 2)


def _usage_figures(run: Run, pngs: Pngs) -> str:
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
