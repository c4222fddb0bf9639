"""The page of a report of streams: its sections in order; and what all reports are set in."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from experiments.figures.style import css_colors
from experiments.reporting import sections
from experiments.reporting.document import Pngs
from experiments.reporting.run_record import Run
from experiments.reporting.streams.points import points


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
        "Scores": sections.scores(runs, measured),
        "Accuracy for cost": sections.curve(measured, pngs),
        "Asked against reached": sections.asked(runs, measured),
        "ROC": sections.roc(runs, pngs),
        "Training": sections.training(runs, pngs),
        "Cost per word": sections.cost_per_word(runs, pngs),
        "On the stream": sections.streams(runs, pngs, start_s, seconds),
        "What runs when": sections.usage(runs, pngs),
        "How it was made": sections.made(runs),
    }
    return document("Keyword spotting under a budget", runs, contents), pngs


def document(heading: str, runs: Sequence[Run], contents: Mapping[str, str]) -> str:
    """HTML that needs no other file.

    Args:
      heading: of the page.
      runs: at least one.
      contents: title of a section → its HTML.
    """
    body = "\n".join(
        f"<section><h2>{title}</h2>\n{content}\n</section>" for title, content in contents.items()
    )
    names = [run.name for run in runs]
    title = ", ".join(names)
    if len(names) >= sections.MANY:
        title = f"{len(names)} runs: {names[0]}, …, {names[-1]}"
    title = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report: {title}</title>
<style>
:root {{ {css_colors(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {css_colors(1)} }} }}
{_CSS}</style></head>
<body><main><h1>{html.escape(heading)}</h1>
<p class="lead">{title}</p>
{body}
</main></body></html>
"""


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
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; white-space: nowrap;
  vertical-align: baseline; font-weight: normal; }
thead th { white-space: normal; line-height: 1.25; vertical-align: bottom; color: var(--muted);
  border-bottom: 1px solid var(--muted); }
tbody th { font-weight: 600; min-width: 6rem; max-width: 12rem; overflow-wrap: anywhere;
  overflow: hidden; text-overflow: ellipsis; }
.reference :is(th, td) { color: var(--muted); font-weight: normal; max-width: none; }
.reference tr + tr > * { border: 0; padding-block: .15rem; }
tbody tr:has(th) > * { border-top: 1px solid var(--grid); }
th:first-child { position: sticky; left: 0; background: var(--surface); }
small { font-weight: normal; color: var(--muted); }
.number { text-align: right; }
@media (max-width: 640px) {
  table { font-size: .8125rem; }
  th, td { padding-right: .5rem; }
  td, tbody th { white-space: normal; }
}
pre { white-space: pre-wrap; background: color-mix(in srgb, var(--grid) 35%, var(--surface));
  padding: .7rem .9rem; border-radius: 6px; font-size: .8125rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1rem;
  font-size: .875rem; margin: .5rem 0; }
dt { color: var(--muted); } dd { margin: 0; }
details { margin: .5rem 0; } summary { cursor: pointer; font-size: .875rem; }
"""
