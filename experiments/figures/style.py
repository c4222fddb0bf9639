"""How figures look and how they leave: colours, settings, SVG for a page, PNG.

Every colour is a role of `COLORS`. A figure is drawn in the light ones; `to_svg` puts a CSS
variable in the place of each, so that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDE, NARROW = 9.6, 4.2  # inches: a screen or paper, a phone

# role → (light, dark); all light ones differ, so that they can be told apart in a drawing.
COLORS = {
    "surface": ("#fdfdfb", "#1a1a19"),
    "ink": ("#1d1d1b", "#f1f0ec"),
    "muted": ("#64635e", "#aaa8a0"),
    "grid": ("#dcdbd5", "#3c3c39"),
    "word": ("#a9a8a2", "#74736d"),
    "cell": ("#2368c4", "#3474c6"),
    "on-cell": ("#fffffe", "#fefefe"),
    "cost": ("#4a3aa7", "#9085e9"),
    "silence": ("#1c74d9", "#4f9bf0"),
    "unknown": ("#c4500f", "#ee7f3b"),
    "right": ("#0a7f37", "#35c46f"),
    "wrong": ("#c92f30", "#ff6f6f"),
    "alarm": ("#b26a00", "#f5b13d"),
    "run-0": ("#2a78d6", "#3987e5"),
    "run-1": ("#eb6834", "#e2683a"),
    "run-2": ("#1baf7a", "#22b07c"),
    "run-3": ("#d18e00", "#d9a021"),
    "run-4": ("#d9558e", "#e0709f"),
    "run-5": ("#008300", "#3fa83f"),
    "run-6": ("#6a5acd", "#9a8ff0"),
    "run-7": ("#e34948", "#e66767"),
}
LIGHT = {role: light for role, (light, _) in COLORS.items()}

_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))

_SETTINGS: Any = {
    "font.size": 9,
    "text.parse_math": False,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["grid"],
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
}
# Decorates what draws or saves.
styled = matplotlib.rc_context(_SETTINGS)


@styled
def to_png(figure: Figure) -> bytes:
    """The figure on the light surface."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, facecolor=LIGHT["surface"])
    return out.getvalue()


@styled
def to_svg(figure: Figure, name: str, description: str) -> str:
    """An `<svg>` element for a page that has `css_colors`.

    Args:
      figure: drawn in `LIGHT`.
      name: of its own in the page, as the ids inside are made from it.
      description: what a screen reader says.
    """
    out = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    text = out.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text, flags=re.S)
    # Groups' ids repeat between figures; as classes they serve the page's style.
    text = text.replace('<g id="', '<g class="')
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    head = f'<svg {box[0]} role="img" aria-label="{html.escape(description)}"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    text = head + text[text.index(">", text.index("<svg")) + 1 :]
    for role, light in LIGHT.items():
        text = text.replace(light, f"var(--{role})")
    return text


def css_colors(theme: int) -> str:
    """The variables that `to_svg` uses: theme 0 is light, 1 is dark."""
    return " ".join(f"--{role}: {colors[theme]};" for role, colors in COLORS.items())


def dress(axes: Axes, title: str, unit: str) -> None:
    """Title, unit and horizontal grid, from 0 up: costs that move by a hair look it."""
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    axes.set_ylim(0, 1.08 * max(axes.dataLim.y1, 0.0) or 1.0)  # -inf without data


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Above the axes, in as many columns as fit; the figure grows by its height.

    A letter takes about 1/13 inch, a handle 6 letters, a row 0.19 inch.
    """
    letters = 13 * figure.get_figwidth()
    widths = [len(name) + 6 for name in names]
    columns = len(names) if sum(widths) <= letters else max(1, int(letters / max(widths)))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, borderaxespad=0.2)
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(names) // columns))


def run_look(number: int) -> dict[str, Any]:
    """Colour of a run, the same in all figures; beyond eight runs also its dashes."""
    return {"color": LIGHT[f"run-{number % 8}"], "ls": _DASHES[number // 8 % len(_DASHES)]}
