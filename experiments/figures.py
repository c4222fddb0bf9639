"""Figures of the report: pure functions from data to a matplotlib `Figure`.

Every colour is a role of `COLORS`. A figure is drawn in the light colours; `to_svg` puts a CSS
variable in the place of each, so that one drawing serves a light and a dark page. Each function
takes the width in inches: `WIDE` for a screen and for paper, `NARROW` for a phone.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

WIDE, NARROW = 9.6, 4.2
MILLION = 1e6

# role → (light, dark); all light ones differ, so that they can be told apart in a drawing.
COLORS: dict[str, tuple[str, str]] = {
    "surface": ("#fdfdfb", "#1a1a19"),
    "ink": ("#1d1d1b", "#f1f0ec"),
    "muted": ("#64635e", "#aaa8a0"),
    "grid": ("#dcdbd5", "#3c3c39"),
    "word": ("#a9a8a2", "#74736d"),
    "cell": ("#2368c4", "#3474c6"),
    "on-cell": ("#fffffe", "#fefefe"),
    "wave": ("#8a8983", "#8b8a84"),
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
# outcome of a detection → role, marker, name
OUTCOMES = {
    "right": ("right", "o", "right word"),
    "wrong": ("wrong", "X", "wrong or repeated"),
    "alarm": ("alarm", "^", "false alarm"),
}
_RUN_COLORS = [role for role in COLORS if role.startswith("run-")]
_DASHES = ["-", (0, (4, 1.5)), (0, (1, 1))]
_MAX_POINTS = 400
_MAX_ROWS = 14
_FAINTEST = 0.02
_CRISP = "crisp"

Line = Mapping[str, Any]


class Detected(NamedTuple):
    """A detection: word, time in s, and its outcome (a key of `OUTCOMES`)."""

    word: str
    time_s: float
    outcome: str


class StreamView(NamedTuple):
    """A run over a labelled stream.

    Fields:
      classes: K names, as shown.
      times_s: [T] middle of each step's window.
      posteriors: [T, K].
      macs: [T] MACs of each step.
      full_macs: of the whole network.
      envelope: peaks of the signal, one every `envelope_s`.
      envelope_s: as said.
      truth: (word, start in s), each `word_s` long.
      word_s: as said.
      detections: in order of time.
    """

    classes: Sequence[str]
    times_s: np.ndarray
    posteriors: np.ndarray
    macs: np.ndarray
    full_macs: float
    envelope: np.ndarray
    envelope_s: float
    truth: Sequence[tuple[str, float]]
    word_s: float
    detections: Sequence[Detected]


def training_curves(metrics: Mapping[str, Sequence[Line]], width: float = WIDE) -> Figure:
    """Loss, frame accuracy and cost against the step: run name → lines of its metrics."""
    panels = (
        ("loss", 1.0, "Loss of the classifier", "nats per frame"),
        ("frame_accuracy", 100.0, "Frame accuracy", "% of the frames"),
        ("macs_per_frame", 1 / MILLION, "Cost of the network", "M MACs/frame"),
    )
    with _style():
        columns = 3 if width > 7 else 1
        figure = _figure(width, 3.0 if columns == 3 else 6.4)
        grid = figure.subplots(3 // columns, columns, sharex=True, squeeze=False)
        for axes, (key, scale, title, unit) in zip(grid.flat, panels, strict=True):
            for number, lines in enumerate(metrics.values()):
                look = _run_look(number)
                steps, values = _series(lines, "training", key)
                axes.plot(*thin(steps, scale * values), lw=0.9, alpha=0.55, **look)
                steps, values = _series(lines, "validation", key)
                size = 3.2 if len(steps) <= 40 else 0
                axes.plot(steps, scale * values, lw=1.8, marker="o", ms=size, **look)
            _dress(axes, title, unit)
            _limit(axes)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        handles = [Line2D([], [], lw=2.5, **_run_look(i)) for i in range(len(metrics))]
        names = [_label(name) for name in metrics]
        ink = COLORS["ink"][0]
        handles += [
            Line2D([], [], color=ink, lw=0.9, alpha=0.55),
            Line2D([], [], color=ink, lw=1.8, marker="o", ms=3.2),
        ]
        names += ["training", "validation"]
        _legend(figure, handles, names)
    return figure


def cost_per_word(
    metrics: Mapping[str, Sequence[Line]], full_macs: Mapping[str, float], width: float = WIDE
) -> Figure:
    """MACs per frame of each class against the step, one panel per run (SANAS, figure 6).

    Args:
      metrics: run name → lines of its metrics. Validation if it has at least 5, else training.
      full_macs: run name → MACs of the whole network.
    """
    with _style():
        columns = max(1, min(len(metrics), 2 if width > 7 else 1))
        rows = -(-len(metrics) // columns)
        figure = _figure(width, 3.3 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(metrics) :]:
            axes.set_visible(False)
        for axes, (name, lines) in zip(grid.flat, metrics.items(), strict=False):
            split = _split(lines)
            _cost_panel(axes, by_label(lines, split), full_macs[name] / MILLION)
            _dress(axes, f"{_label(name)} ({split})", "M MACs/frame")
            axes.set_xlabel("training step")
    return figure


def by_label(lines: Sequence[Line], split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Class → steps and M MACs per frame; "mean of the words" is the words' plain mean."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        if line["split"] != split:
            continue
        costs = {plain(k): v / MILLION for k, v in line["macs_per_frame_by_label"].items()}
        words = [cost for name, cost in costs.items() if name not in ("silence", "unknown")]
        if words:
            costs["mean of the words"] = float(np.mean(words))
        for name, cost in costs.items():
            points.setdefault(name, []).append((line["step"], cost))
    arrays = {name: np.array(pairs, float).T for name, pairs in points.items()}
    return {name: (steps, costs) for name, (steps, costs) in arrays.items()}


def stream(view: StreamView, start_s: float, seconds: float, width: float = WIDE) -> Figure:
    """An excerpt: signal, posteriors, truth and detections, and the cost of every step."""
    end_s = start_s + seconds
    shown = (view.times_s >= start_s) & (view.times_s <= end_s)
    truth = [(w, t) for w, t in view.truth if start_s - view.word_s < t < end_s]
    detections = [d for d in view.detections if start_s <= d.time_s <= end_s]
    rows = _rows(view, shown, truth, detections)
    with _style():
        roll = 0.2 * len(rows) + 0.1
        figure = _figure(width, roll + 3.2)
        signal, posteriors, cost = figure.subplots(
            3, sharex=True, gridspec_kw={"height_ratios": [0.75, roll, 1.0]}
        )
        _draw_signal(signal, view, start_s, end_s, 900 if width > 7 else 350)
        _write_words(signal, truth, view.word_s, start_s, end_s, width)
        _draw_posteriors(posteriors, view, shown, rows)
        for word, time in truth:
            for axes in (signal, cost):
                axes.axvspan(
                    time, time + view.word_s, color=COLORS["grid"][0], alpha=0.6, lw=0, zorder=0
                )
            if word in rows:
                box = Rectangle((time, rows.index(word) - 0.45), view.word_s, 0.9)
                box.set(fill=False, edgecolor=COLORS["ink"][0], linewidth=1.2)
                posteriors.add_patch(box)
        for outcome, (role, marker, _) in OUTCOMES.items():
            at = [d for d in detections if d.outcome == outcome]
            posteriors.plot(
                [d.time_s for d in at],
                [rows.index(d.word) for d in at],
                **_marker(role, marker),
                gid=outcome,
            )
        _draw_cost(cost, view, shown)
        cost.set_xlim(start_s, end_s)
        cost.set_xlabel("time in the stream (s)")
        handles: list[Any] = [
            Patch(facecolor="none", edgecolor=COLORS["ink"][0], linewidth=1.2),
            Patch(facecolor=COLORS["cell"][0], alpha=0.8),
        ]
        handles += [Line2D([], [], **_marker(r, m)) for r, m, _ in OUTCOMES.values()]
        names = ["word spoken", "posterior", *(name for _, _, name in OUTCOMES.values())]
        _legend(figure, handles, names)
    return figure


def gate_usage(
    usage: np.ndarray,
    rows: Sequence[str],
    edges: Sequence[str],
    edge_macs: Sequence[float],
    width: float = WIDE,
) -> Figure:
    """Share of the frames in which each edge runs, in %: usage [R, E] in 0..1, one row per class.

    Args:
      usage: nan where a class has no frames.
      rows: R names; the first is drawn apart, as the total.
      edges: E names.
      edge_macs: [E].
    """
    usage = np.asarray(usage, float)
    with _style():
        figure = _figure(width, 0.25 * len(rows) + 1.5)
        axes = figure.subplots()
        at = [0.0, *(i + 0.3 for i in range(1, len(rows)))]
        for y, values in zip(at, usage, strict=True):
            for x, value in enumerate(values):
                known = math.isfinite(value)
                cell = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92)
                cell.set(
                    facecolor=COLORS["cell"][0], alpha=value if known else 0.0, edgecolor="none"
                )
                axes.add_patch(cell)
                role = "on-cell" if known and value > 0.85 else "ink"
                text = f"{100 * value:.0f}" if known else "–"
                axes.text(x, y, text, ha="center", va="center", color=COLORS[role][0], size=8)
        axes.set_xlim(-0.5, len(edges) - 0.5)
        axes.set_ylim(at[-1] + 0.55, -0.55)
        axes.set_yticks(at, [_label(row) for row in rows])
        names = [
            f"{_label(edge)}\n{_short(macs)}" for edge, macs in zip(edges, edge_macs, strict=True)
        ]
        tilted = len(edges) > (12 if width > 7 else 4)
        axes.set_xticks(range(len(edges)), names)
        if tilted:
            axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("edge, and its MACs per frame when it runs")
        axes.set_title("Frames in which the edge runs (%)", loc="left")
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure on the light surface."""
    out = io.BytesIO()
    with _style(), _quiet():
        figure.savefig(out, format="png", dpi=150, facecolor=COLORS["surface"][0])
    return out.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """An `<svg>` element for a page that has `css_colors`.

    Args:
      figure: as drawn by a function of this module.
      name: of its own in the page, as the ids inside are made from it.
      description: what a screen reader says.
    """
    out = io.StringIO()
    with _style(), _quiet(), matplotlib.rc_context({"svg.hashsalt": name}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>\s*", "", text, flags=re.S)
    # Cells that touch must not let the page through between them.
    text = text.replace(f'<g id="{_CRISP}"', '<g shape-rendering="crispEdges"')
    # Groups' ids repeat between figures and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    label = html.escape(description, quote=True)
    head = f'<svg {box[0]} role="img" aria-label="{label}" xmlns:xlink="{_XLINK}">'
    text = head + text[text.index(">") + 1 :]
    for role, (light, _) in COLORS.items():
        text = text.replace(light, f"var(--{role})")
    return text


_XLINK = "http://www.w3.org/1999/xlink"


def css_colors(theme: int) -> str:
    """The variables that `to_svg` uses: theme 0 is light, 1 is dark."""
    return " ".join(f"--{role}: {colors[theme]};" for role, colors in COLORS.items())


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_MAX_POINTS` points: means of blocks, for lines that would be a band otherwise."""
    block = -(-len(steps) // _MAX_POINTS)
    if block <= 1:
        return steps, values
    starts = np.arange(0, len(steps), block)
    count = np.diff([*starts, len(steps)])
    return np.add.reduceat(steps, starts) / count, np.add.reduceat(values, starts) / count


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved as little as an up and a down sweep need for `gap` between neighbours."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [max(heights[i], low) for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    ceiling = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    out = [0.0] * len(heights)
    for i, height in zip(order, placed, strict=True):
        out[i] = height
    return out


def plain(name: str) -> str:
    """A class's name as shown: `_silence_` and `_unknown_` without the underscores."""
    return name.strip("_") if name in ("_silence_", "_unknown_") else name


@contextmanager
def _style() -> Iterator[None]:
    """Settings under which all figures are drawn and saved."""
    ink, muted, grid = (COLORS[role][0] for role in ("ink", "muted", "grid"))
    settings: Any = {
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,
        "text.color": ink,
        "axes.labelcolor": muted,
        "axes.labelsize": 8.5,
        "axes.edgecolor": grid,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlecolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "xtick.color": grid,
        "ytick.color": grid,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning for a letter that the font of the PNGs lacks: the page's font may have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _dress(axes: Axes, title: str, unit: str) -> None:
    """Title, unit and horizontal grid."""
    axes.set_title(title, loc="left")
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _limit(axes: Axes) -> None:
    """From 0 to above the highest value: shares and costs that move by a hair look it."""
    tops = [float(np.nanmax(line.get_ydata())) for line in axes.lines if _has_values(line)]
    axes.set_ylim(0, 1.08 * max(tops, default=1.0) or 1.0)


def _has_values(line: Line2D) -> bool:
    return bool(np.isfinite(np.asarray(line.get_ydata(), float)).any())


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Above the axes, in as many columns as fit; the figure grows by its height.

    A letter takes about 1/13 inch, a handle 6 letters, a row 0.19 inch.
    """
    letters = 13 * figure.get_figwidth()
    widths = [len(name) + 6 for name in names]
    columns = len(names) if sum(widths) <= letters else max(1, int(letters / max(widths)))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, borderaxespad=0.2)
    figure.set_figheight(figure.get_figheight() + 0.19 * (-(-len(names) // columns)))


def _label(name: str) -> str:
    """Matplotlib leaves out of legends what begins with an underscore; long names are cut."""
    name = name if len(name) <= 40 else f"{name[:28]}…{name[-11:]}"
    return f" {name}" if name.startswith("_") else name


def _short(macs: float) -> str:
    """A number of MACs in three digits."""
    if macs >= MILLION:
        return f"{macs / MILLION:.3g}M"
    return f"{macs / 1000:.3g}k" if macs >= 1000 else f"{macs:.3g}"


def _run_look(number: int) -> dict[str, Any]:
    """Colour of a run, the same in all panels; beyond eight runs also its dashes."""
    color = COLORS[_RUN_COLORS[number % len(_RUN_COLORS)]][0]
    return {"color": color, "ls": _DASHES[number // len(_RUN_COLORS) % len(_DASHES)]}


def _marker(role: str, marker: str) -> dict[str, Any]:
    return {
        "color": COLORS[role][0],
        "marker": marker,
        "ls": "none",
        "ms": 8,
        "mec": COLORS["surface"][0],
        "mew": 1.0,
    }


def _series(lines: Sequence[Line], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    kept = [line for line in lines if line["split"] == split]
    steps = np.array([line["step"] for line in kept], float)
    return steps, np.array([line[key] for line in kept], float)


def _split(lines: Sequence[Line]) -> str:
    """Validation is on fixed batches and so less noisy, but there are few of it at first."""
    return "validation" if sum(line["split"] == "validation" for line in lines) >= 5 else "training"


def _cost_panel(
    axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], full: float
) -> None:
    """Words thin, silence, unknown and the mean thick; names at the lines' right ends."""
    thick = {"silence": "silence", "unknown": "unknown", "mean of the words": "ink"}
    top = 1.12 * max([full, *(float(np.nanmax(costs)) for _, costs in curves.values())])
    for name, (steps, costs) in curves.items():
        role = thick.get(name, "word")
        look: dict[str, Any] = (
            {"lw": 2.0, "zorder": 3} if name in thick else {"lw": 0.8, "zorder": 2}
        )
        axes.plot(*thin(steps, costs), color=COLORS[role][0], label=name, **look)
    axes.axhline(full, color=COLORS["muted"][0], lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set_ylim(0, top)
    axes.text(
        0.01,
        full + 0.02 * top,
        "whole network",
        transform=axes.get_yaxis_transform(),
        size=8,
        color=COLORS["muted"][0],
        bbox={"facecolor": COLORS["surface"][0], "edgecolor": "none", "pad": 0.5},
    )
    if not curves:
        return
    last = {name: (steps[-1], thin(steps, costs)[1][-1]) for name, (steps, costs) in curves.items()}
    words = sorted((name for name in last if name not in thick), key=lambda name: last[name][1])
    ends = [name for name in thick if name in last]
    ends += dict.fromkeys([*words[:1], *words[-1:]]) if len(words) > 1 else []
    places = spread([last[name][1] for name in ends], 0.065 * top, 0.0, top)
    for name, place in zip(ends, places, strict=True):
        named = name in thick
        axes.annotate(
            _label(name),
            last[name],
            (1.03, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            size=8.5 if named else 8,
            color=COLORS["ink" if named else "muted"][0],
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": COLORS[thick.get(name, "word")][0],
                "lw": 1.2 if named else 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def _rows(
    view: StreamView,
    shown: np.ndarray,
    truth: Sequence[tuple[str, float]],
    detections: Sequence[Detected],
) -> list[str]:
    """Classes drawn: all, or if they are many those that matter in the excerpt."""
    if len(view.classes) <= _MAX_ROWS:
        return list(view.classes)
    named = {word for word, _ in truth} | {d.word for d in detections}
    peaks = view.posteriors[shown].max(0, initial=0.0)
    return [
        name for name, peak in zip(view.classes, peaks, strict=True) if name in named or peak >= 0.3
    ]


def _draw_signal(
    axes: Axes, view: StreamView, start_s: float, end_s: float, max_points: int
) -> None:
    first, stop = int(start_s / view.envelope_s), math.ceil(end_s / view.envelope_s)
    peaks = np.asarray(view.envelope[first:stop], float)
    block = max(1, -(-len(peaks) // max_points))
    peaks = np.array([peaks[i : i + block].max() for i in range(0, len(peaks), block)])
    times = start_s + view.envelope_s * block * (np.arange(len(peaks)) + 0.5)
    axes.fill_between(times, -peaks, peaks, color=COLORS["wave"][0], lw=0)
    top = max(float(peaks.max(initial=0.0)), 1e-3)
    axes.set_ylim(-1.1 * top, 1.1 * top)
    axes.set_title("Signal and words spoken", loc="left")
    axes.set_ylabel("peak\n(full = 1)")
    axes.tick_params(length=0)


def _write_words(
    axes: Axes,
    truth: Sequence[tuple[str, float]],
    word_s: float,
    start_s: float,
    end_s: float,
    width: float,
) -> None:
    """Names over the words; upright where the words are too close for lying text."""
    scale = 0.85 * width / (end_s - start_s)
    upright = any(
        scale * (later - earlier) < 0.075 * (len(a) + len(b)) / 2 + 0.05
        for (a, earlier), (b, later) in pairwise(sorted(truth, key=lambda pair: pair[1]))
    )
    for word, time in truth:
        middle = time + word_s / 2
        if start_s <= middle <= end_s:
            axes.annotate(
                _label(word),
                (middle, 1.0),
                (0, 2),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="bottom",
                size=8,
                rotation=90 if upright else 0,
                color=COLORS["ink"][0],
            )
    axes.set_title(axes.get_title("left"), loc="left", pad=46 if upright else 17)


def _draw_posteriors(axes: Axes, view: StreamView, shown: np.ndarray, rows: Sequence[str]) -> None:
    """A cell per step and class, as dense as the posterior is high."""
    columns = [list(view.classes).index(name) for name in rows]
    times, values = view.times_s[shown], view.posteriors[shown][:, columns]
    hop = float(np.median(np.diff(view.times_s))) if len(view.times_s) > 1 else 0.2
    step, row = np.nonzero(values >= _FAINTEST)
    left, right = times[step] - hop / 2, times[step] + hop / 2
    corners = np.stack(
        [
            np.stack([left, row - 0.42], 1),
            np.stack([left, row + 0.42], 1),
            np.stack([right, row + 0.42], 1),
            np.stack([right, row - 0.42], 1),
        ],
        1,
    )
    opacity = np.clip(values[step, row], 0, 1)
    red, green, blue = matplotlib.colors.to_rgb(COLORS["cell"][0])
    faces = [(red, green, blue, float(a)) for a in opacity]
    axes.add_collection(
        PolyCollection(list(corners), facecolors=faces, edgecolors="none", gid=_CRISP)
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_label(name) for name in rows])
    for boundary in range(1, len(rows)):
        axes.axhline(boundary - 0.5, color=COLORS["grid"][0], lw=0.5, zorder=0)
    axes.tick_params(length=0)
    axes.set_title("Posteriors and detections", loc="left")


def _draw_cost(axes: Axes, view: StreamView, shown: np.ndarray) -> None:
    color = COLORS["cost"][0]
    times, costs = view.times_s[shown], view.macs[shown] / MILLION
    axes.fill_between(times, costs, step="mid", color=color, alpha=0.25, lw=0)
    axes.step(times, costs, where="mid", color=color, lw=1.4, label="cost")
    full = view.full_macs / MILLION
    axes.axhline(full, color=COLORS["muted"][0], lw=1, ls=(0, (4, 3)))
    axes.set_ylim(0, 1.12 * max(full, float(costs.max(initial=0.0))))
    _dress(axes, "Cost (dashed: whole network)", "M MACs/frame")
    axes.tick_params(axis="x", pad=5)
