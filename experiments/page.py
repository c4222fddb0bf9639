"""The page of the report: HTML and CSS around the table of scores and the figures."""

from __future__ import annotations

import dataclasses
import html
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from experiments import config as config_lib
from experiments import figures
from experiments.drawing import MILLION, NARROW, WIDE, css_colors, to_png, to_svg
from experiments.figures import plain
from experiments.results import Run, gate_table
from experiments.scores import COLUMNS, run_rows
from experiments.stream_figure import ENVELOPE_S, liveliest, stream_figure

Pngs = dict[str, bytes]  # figures by name; each section adds its own


def make_page(runs: Sequence[Run], start_s: float | None, seconds: float) -> tuple[str, Pngs]:
    """The HTML, which needs no other file, and its figures as PNGs by name.

    Args:
      runs: at least one.
      start_s: where the excerpt of the stream begins; where most happens if None.
      seconds: its length.
    """
    pngs: Pngs = {}
    sections = {
        "Scores": _scores(runs),
        "Training": _training(runs, pngs),
        "Cost per word": _cost_per_word(runs, pngs),
        "On the stream": _streams(runs, pngs, start_s, seconds),
        "What runs when": _gates(runs, pngs),
        "How it was made": _made(runs),
    }
    body = "\n".join(
        f"<section><h2>{title}</h2>\n{content}\n</section>" for title, content in sections.items()
    )
    title = html.escape(", ".join(run.name for run in runs))
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report: {title}</title>
<style>
:root {{ {css_colors(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {css_colors(1)} }} }}
{_CSS}</style></head>
<body><main><h1>Keyword spotting under a budget</h1>
<p class="lead">{title}</p>
{body}
</main></body></html>
"""
    return text, pngs


def _scores(runs: Sequence[Run]) -> str:
    head = "".join(
        f'<th class="number">{column.heading}<br><small>{column.unit}</small></th>'
        for column in COLUMNS
    )
    body = hints = ""
    for run in runs:
        rows = run_rows(run)
        name = (
            f'<th scope="rowgroup" rowspan="{len(rows)}">{html.escape(run.name)}<br>'
            f"<small>{html.escape(run.kind)}</small></th>"
        )
        for _, _, stream, *numbers in rows:
            cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
            body += f"<tr>{name}<td>{html.escape(stream)}</td>{cells}</tr>\n"
            name = ""
        if not run.evaluations:
            command = _commands([_evaluate(run, "stream")])
            hints += f"<p>{html.escape(run.name)} was not run through a stream yet:</p>{command}"
    return f"""<div class="scroll"><table>
<thead><tr><th>run</th><th>stream</th>{head}</tr></thead>
<tbody>
{body}</tbody></table></div>
<p class="note">Correct, wrong, match and false alarms are in % of the words spoken, counted as
TensorFlow's streaming test does: a detection near a word is correct if it is the first there and
names it, else wrong; near no word it is a false alarm. Costs are multiply-accumulates of the edges
that run, per frame: a step of the network. ± is the standard deviation over streams.</p>{hints}"""


def _training(runs: Sequence[Run], pngs: Pngs) -> str:
    state = "".join(f"<li>{html.escape(f'{run.name}: {_progress(run)}')}</li>" for run in runs)
    metrics = {run.name: run.lines for run in runs}
    if not any(metrics.values()):
        return f"<ul>{state}</ul>"
    caption = (
        "Loss, frame accuracy and cost during training. Training batches: architectures are drawn "
        "from the controller's probabilities; validation: the most probable one, fixed batches."
    )
    figure = _figure(pngs, "training", partial(figures.training_curves, metrics), caption)
    return f"<ul>{state}</ul>{figure}"


def _progress(run: Run) -> str:
    steps = run.info.config.train.steps
    if not run.lines:
        return f"no metrics yet, of {steps} steps"
    step = run.lines[-1]["step"]
    return f"step {step} of {steps}" + (", not finished" if step < steps else "")


def _cost_per_word(runs: Sequence[Run], pngs: Pngs) -> str:
    metrics = {run.name: run.lines for run in runs if run.lines and not run.static}
    if not metrics:
        return "<p>A static network costs the same on every frame.</p>"
    full = {run.name: float(run.full_macs) for run in runs}
    caption = (
        "What a frame costs, by the word in it, during training (figure 6 of the SANAS paper). "
        "Thin lines are the words; the cheapest and the dearest at the end are named."
    )
    return _figure(pngs, "cost_per_word", partial(figures.cost_per_word, metrics, full), caption)


def _streams(runs: Sequence[Run], pngs: Pngs, start_s: float | None, seconds: float) -> str:
    """One excerpt per run, of the stream that most runs share, at the same place."""
    shared = Counter(name for run in runs for name in run.evaluations)
    out = ""
    for run in runs:
        out += f"<h3>{html.escape(run.name)}</h3>"
        if not run.evaluations:
            out += "<p>No stream to show yet.</p>"
            continue
        name = max(run.evaluations, key=shared.__getitem__)
        view = run.evaluations[name].view
        same = [r.evaluations[name].view for r in runs if name in r.evaluations]
        start = liveliest(same, seconds) if start_s is None else start_s
        last = len(view.envelope) * ENVELOPE_S
        if not 0 <= start < last:
            raise ValueError(
                f"--excerpt_start_s: expected 0 or more and less than the {last:g} s of {name}, "
                f"got {start:g}"
            )
        end = min(start + seconds, last)
        caption = (
            f"{run.name} ({run.kind}) on {name}, {start:g} to {end:g} s. "
            "What the network says of a window of 1 s is drawn at the window's middle, in fuller "
            "colour the higher the posterior; boxes and shades are the words spoken. "
            f"A frame of the stream costs {view.macs.mean() / MILLION:.3g}M MACs on average, the "
            f"whole network {view.full_macs / MILLION:.3g}M."
        )
        draw = partial(stream_figure, view, start, end)
        out += _figure(pngs, f"stream_{run.name}", draw, caption)
    return out


def _gates(runs: Sequence[Run], pngs: Pngs) -> str:
    out = ""
    for run in runs:
        out += f"<h3>{html.escape(run.name)}</h3>"
        if run.static:
            out += "<p>Static: every edge runs on every frame.</p>"
        elif not (run.evaluations or run.lines):
            out += "<p>Nothing known yet.</p>"
        else:
            usage, rows, source = gate_table(run)
            caption = f"{run.name} ({run.kind}): how often each edge runs, by class; {source}."
            draw = partial(figures.gate_usage, usage, rows, run.edge_macs)
            out += _figure(pngs, f"gates_{run.name}", draw, caption)
    return out


def _made(runs: Sequence[Run]) -> str:
    out = ""
    for run in runs:
        facts = {
            "about": run.info.config.description,
            "MACs per frame": f"network {run.full_macs:,}, controller {run.controller_macs:,}",
            "classes": ", ".join(map(plain, run.info.classes)),
            "data (SHA-256)": run.info.data_sha256,
        }
        commands = [_launch(run)]
        for name, (result, *_) in run.evaluations.items():
            settings = ["--checkpoint", result["step"], "--threshold", result["threshold"]]
            settings += ["--tolerance_ms", result["tolerance_ms"]]
            commands.append([*_evaluate(run, name), *map(str, settings)])
        config = config_lib.flatten(config_lib.to_json(run.info.config))
        out += (
            f"<h3>{html.escape(run.name)}</h3>{_facts(facts)}{_commands(commands)}"
            f"<details><summary>The whole config</summary>{_facts(config)}</details>"
        )
    return out


def _launch(run: Run) -> list[str]:
    """The command that trains the run again: the config file it kept, and what was overridden."""
    config_file = str(run.path / "config.py")
    default, _ = config_lib.load_config(config_file)
    before = config_lib.flatten(dataclasses.asdict(default))
    words = ["python", "-m", "experiments.launch", "--config", config_file]
    words += ["--data", run.info.config.data.cache, "--workdir", f"{run.path}_again"]
    for key, value in config_lib.flatten(dataclasses.asdict(run.info.config)).items():
        if value != before[key] and key != "data.cache":
            words += ["--set", f"{key}={value}"]
    return words


def _evaluate(run: Run, stream: str) -> list[str]:
    """The command that runs a stream through the run."""
    words = ["python", "-m", "experiments.evaluate", "--workdir", str(run.path)]
    return [*words, "--stream", f"{stream}.wav", "--labels", f"{stream}_labels.txt"]


def _figure(pngs: Pngs, name: str, draw: Callable[[float], Figure], caption: str) -> str:
    """A figure, wide and narrow; `draw` takes a width in inches."""
    wide = draw(WIDE)
    pngs[name] = to_png(wide)
    return (
        f'<figure><div class="wide">{to_svg(wide, f"{name} wide", caption)}</div>'
        f'<div class="narrow">{to_svg(draw(NARROW), f"{name} narrow", caption)}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _facts(facts: Mapping[str, Any]) -> str:
    cells = (
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in facts.items()
    )
    return f"<dl>{''.join(cells)}</dl>"


def _commands(commands: Iterable[Sequence[str]]) -> str:
    return f"<pre>{html.escape(chr(10).join(map(shlex.join, commands)))}</pre>"


_CSS = """\
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; border-top: 1px solid var(--grid);
  padding-top: 1.2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.lead { color: var(--muted); margin: 0; }
.note, figcaption { color: var(--muted); font-size: .875rem; }
figure { margin: .8rem 0 1.6rem; max-width: 64rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto,
  sans-serif !important; }
/* Cells that touch must not let the page through between them. */
.crisp { shape-rendering: crispEdges; }
.narrow { display: none; }
.narrow svg { max-width: 30rem; }
@media (max-width: 640px) { .wide { display: none; } .narrow { display: block; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; white-space: nowrap;
  vertical-align: bottom; font-weight: normal; }
thead th { white-space: normal; line-height: 1.25; color: var(--muted);
  border-bottom: 1px solid var(--muted); }
tbody th { vertical-align: top; font-weight: 600; max-width: 12rem; overflow: hidden;
  text-overflow: ellipsis; }
tbody tr:has(th) > * { border-top: 1px solid var(--grid); }
th:first-child { position: sticky; left: 0; background: var(--surface); }
small { font-weight: normal; color: var(--muted); }
.number { text-align: right; }
pre { white-space: pre-wrap; background: color-mix(in srgb, var(--grid) 35%, var(--surface));
  padding: .7rem .9rem; border-radius: 6px; font-size: .8125rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1rem;
  font-size: .875rem; margin: .5rem 0; }
dt { color: var(--muted); } dd { margin: 0; }
details { margin: .5rem 0; } summary { cursor: pointer; font-size: .875rem; }
"""
