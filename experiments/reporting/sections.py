"""Sections that all reports have: each from runs to HTML, adding its figures to `pngs`."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from experiments.config import flatten, to_json
from experiments.config.wording import plain, short, verdict
from experiments.figures import training as training_figures
from experiments.reporting import document, reproduce
from experiments.reporting.document import MANY, Pngs
from experiments.reporting.run_record import RunRecord


def training_section(
    runs: Sequence[RunRecord],
    pngs: Pngs,
    panels: Sequence[training_figures.Panel] = training_figures.PANELS,
) -> str:
    """How far each run is, and its curves."""
    names: dict[str, list[str]] = {}
    for run in runs:
        names.setdefault(_progress(run), []).append(run.name)
    state = document.listed(f"{', '.join(same)}: {text}" for text, same in names.items())
    metrics = {run.name: run.lines for run in runs}
    if not any(metrics.values()):
        return state
    caption = (
        "Loss, accuracy and cost during training. Training batches: architectures are drawn from "
        "their probabilities; validation: the most probable one, fixed batches."
    )
    draw = partial(training_figures.training_curves, metrics, panels=panels)
    return state + document.figure(pngs, "training", draw, caption)


def made_section(runs: Sequence[RunRecord]) -> str:
    """Data, commands and config of each run."""

    def made(run: RunRecord) -> str:
        macs = f"network {run.full_macs:,}, controller {run.controller_macs:,}"
        facts = {
            "about": run.info.config.description,
            "MACs per image" if run.of_images else "MACs per frame": macs,
            "classes": ", ".join(map(plain, run.info.classes)),
            "data (SHA-256)": run.info.data_sha256,
        }
        lines = [*reproduce.launch(run), *reproduce.evaluations(run)]
        config = document.facts(flatten(to_json(run.info.config)))
        content = document.facts(facts) + document.commands(lines)
        return content + document.folded("The whole config", config)

    return run_by_run(runs, made)


def run_by_run(runs: Sequence[RunRecord], content_of: Callable[[RunRecord], str]) -> str:
    """Each run's content under its name; of many runs most are folded away."""
    unfolded = in_sight(runs)
    return "".join(
        document.titled(run.name, content_of(run), run.name not in unfolded) for run in runs
    )


class Asked(NamedTuple):
    """A budget that was asked of a run, and what it spends.

    Fields:
      run: of which it was asked.
      label: of the run, as shown.
      budget: in the unit of what was charged; None where a run diverged before there was one.
      validated: cost of the last validation, if there was one.
      measured: cost where it was evaluated, if it was.
      reached: the one of the two that the verdict is on.
      price: λ at the end of training, or told.
    """

    run: RunRecord
    label: str
    budget: float | None
    validated: float | None
    measured: float | None
    reached: float | None
    price: float | None


def asked_section(asked: Sequence[Asked], measured_on: str, note: str) -> str:
    """The budgets that were asked for, and what was reached.

    Args:
      asked: a row each; runs all of images or all of audio.
      measured_on: heading of what was measured.
      note: HTML of a line below.
    """
    if not asked:
        return "<p>No run was asked for a budget: computation had a fixed price λ.</p>"
    share = ["of the network"] if asked[0].run.of_images else []
    head = ["run", "outcome", "asked", *share, "validation", measured_on, "reached / asked", "λ"]
    rows = "".join(map(_asked_row, asked))
    return f"""{document.html_table(head, rows, 2)}
<p class="note">{note}</p>"""


def in_sight(runs: Sequence[RunRecord]) -> Collection[str]:
    """Runs not folded away: all of a few; of many, the static ones and the first that is not."""
    if len(runs) < MANY:
        return {run.name for run in runs}
    adaptive = [run.name for run in runs if not run.static]
    return {run.name for run in runs if run.static} | set(adaptive[:1])


def _progress(run: RunRecord) -> str:
    steps = run.info.config.train.steps
    if run.diverged:
        return run.diverged
    if not run.lines:
        return f"no metrics yet, of {steps} steps"
    step = run.lines[-1]["step"]
    return f"step {step} of {steps}" + (", not finished" if step < steps else "")


def _asked_row(asked: Asked) -> str:
    run, budget, reached = asked.run, asked.budget, asked.reached
    ratio, word = "–", run.diverged or "not validated yet"
    if budget is not None and reached is not None:
        ratio = f"{reached / budget:.2f}"
        word = run.diverged or verdict(reached, budget, asked.price)
    amounts = [_amount(budget)]
    if run.of_images and budget is not None:  # what is charged is not always MACs
        amounts[0] += f" {html.escape(run.charged.unit)}"
        amounts.append(f"{100 * budget / run.charged.full:.1f} %")
    cells = [
        html.escape(word),
        *amounts,
        *map(_amount, (asked.validated, asked.measured)),
        ratio,
        "–" if asked.price is None else f"{asked.price:.3g}",
    ]
    return document.row(document.under(run.name, asked.label), cells, 2)


def _amount(cost: float | None) -> str:
    return "–" if cost is None else short(cost)
