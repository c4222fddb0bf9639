"""Pieces of HTML that the sections of the report are made of."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.figures.style import NARROW, WIDE, to_png, to_svg

Pngs = dict[str, bytes]  # figures by name; each section adds its own


def figure(pngs: Pngs, name: str, draw: Callable[[float], Figure], caption: str) -> str:
    """A figure, wide and narrow; `draw` takes a width in inches."""
    wide = draw(WIDE)
    pngs[name] = to_png(wide)
    return (
        f'<figure><div class="wide">{to_svg(wide, f"{name} wide", caption)}</div>'
        f'<div class="narrow">{to_svg(draw(NARROW), f"{name} narrow", caption)}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def table(head: Sequence[str], body: str, first_number: int) -> str:
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
    """A row of `table`: HTML of its heading and of its other cells."""
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
