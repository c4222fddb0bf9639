"""Pieces of HTML that the sections of the report are made of."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.figures.style import NARROW, WIDE, css_colors, to_png, to_svg
from experiments.reporting.run_record import RunRecord

Pngs = dict[str, bytes]  # figures by name; each section adds its own


class Report(NamedTuple):
    """All that a report consists of.

    Fields:
      page: HTML that needs no other file.
      pngs: the page's figures by name.
      points: JSON values of the curve of cost and accuracy.
      table: of scores, as text.
    """

    page: str
    pngs: Pngs
    points: list[dict[str, Any]]
    table: str


MANY = 6  # runs from which on most are folded away

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


def figure(pngs: Pngs, name: str, draw: Callable[[float], Figure], caption: str) -> str:
    """A figure, wide and narrow; `draw` takes a width in inches."""
    wide = draw(WIDE)
    pngs[name] = to_png(wide)
    return (
        f'<figure><div class="wide">{to_svg(wide, f"{name} wide", caption)}</div>'
        f'<div class="narrow">{to_svg(draw(NARROW), f"{name} narrow", caption)}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def html_table(head: Sequence[str], body: str, first_number: int) -> str:
    """A table that scrolls in itself; columns from `first_number` on are numbers.

    Args:
      head: HTML of each heading.
      body: HTML of its rows.
      first_number: index.
    """
    cells = "".join(
        f"<th{_number(i >= first_number)}>{heading}</th>" for i, heading in enumerate(head)
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def row(name: str, cells: Sequence[str], first_number: int) -> str:
    """A row of `html_table`: HTML of its heading and of its other cells."""
    rest = "".join(cell(text, i >= first_number) for i, text in enumerate(cells, 1))
    return f'<tr><th scope="row">{name}</th>{rest}</tr>\n'


def cell(text: str, number: bool) -> str:
    """A cell of HTML; a number may break before its spread, but keeps its ± with it."""
    return f"<td{_number(number)}>{text.replace('± ', '±&nbsp;')}</td>"


def under(text: str, small: str) -> str:
    """A text and, below it, a small one; both are escaped."""
    return f"{html.escape(text)}<br><small>{html.escape(small)}</small>"


def folded(summary: str, content: str) -> str:
    """Content that opens on demand."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{content}</details>"


def titled(name: str, content: str, fold: bool) -> str:
    """Content under a run's name: in sight, or folded away."""
    return folded(name, content) if fold else f"<h3>{html.escape(name)}</h3>{content}"


def listed(items: Iterable[str]) -> str:
    """A list of texts."""
    return f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>"


def facts(values: Mapping[str, Any]) -> str:
    """A list of names and values."""
    cells = (
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in values.items()
    )
    return f"<dl>{''.join(cells)}</dl>"


def commands(lines: Iterable[Sequence[str]]) -> str:
    """Command lines, one below the other."""
    return f"<pre>{html.escape(chr(10).join(map(shlex.join, lines)))}</pre>"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def whole_page(heading: str, runs: Sequence[RunRecord], contents: Mapping[str, str]) -> str:
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
    if len(names) >= MANY:
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
