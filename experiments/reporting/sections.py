"""The sections of the report: each from runs to HTML, adding its figures to `pngs`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from experiments.config import flatten, to_json
from experiments.config.wording import plain
from experiments.figures import training as training_figures
from experiments.reporting import document, reproduce
from experiments.reporting.document import MANY, Pngs
from experiments.reporting.run_record import Run


def training(
    runs: Sequence[Run],
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


def made(runs: Sequence[Run]) -> str:
    """Data, commands and config of each run."""
    shown = in_sight(runs)
    out = ""
    for run in runs:
        macs = f"network {run.full_macs:,}, controller {run.controller_macs:,}"
        facts = {
            "about": run.info.config.description,
            "MACs per image" if run.of_images else "MACs per frame": macs,
            "classes": ", ".join(map(plain, run.info.classes)),
            "data (SHA-256)": run.info.data_sha256,
        }
        lines = [reproduce.launch(run), *reproduce.evaluations(run)]
        config = document.facts(flatten(to_json(run.info.config)))
        content = document.facts(facts) + document.commands(lines)
        content += document.folded("The whole config", config)
        out += document.titled(run.name, content, run.name not in shown)
    return out


def in_sight(runs: Sequence[Run]) -> Collection[str]:
    """Runs not folded away: all of a few; of many, the static ones and the first that is not."""
    if len(runs) < MANY:
        return {run.name for run in runs}
    adaptive = [run.name for run in runs if not run.static]
    return {run.name for run in runs if run.static} | set(adaptive[:1])


def _progress(run: Run) -> str:
    steps = run.info.config.train.steps
    if run.diverged:
        return run.diverged
    if not run.lines:
        return f"no metrics yet, of {steps} steps"
    step = run.lines[-1]["step"]
    return f"step {step} of {steps}" + (", not finished" if step < steps else "")
