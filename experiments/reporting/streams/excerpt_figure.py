"""The figure of an excerpt of a labelled stream: signal, posteriors, detections, cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from experiments.config.wording import MILLION
from experiments.figures.style import LIGHT, WIDE, dress, legend, styled
from experiments.reporting.run_record import StreamView

WORD_S = 1.0
ENVELOPE_S = 0.01
# outcome of a detection, also the role of its colour → marker, name
OUTCOMES = {
    "right": ("o", "right word"),
    "wrong": ("X", "wrong or repeated"),
    "alarm": ("^", "false alarm"),
}
_FAINTEST = 0.02


def liveliest(views: Sequence[StreamView], seconds: float) -> float:
    """Start in s of the excerpt, the same for all views of a stream, in which most happens.

    Detections count, and each kind of outcome that is there counts as five. In steps of 5 s.
    """

    def score(start: float) -> int:
        found = [
            [d.outcome for d in view.detections if start <= d.time_s < start + seconds]
            for view in views
        ]
        return sum(len(outcomes) + 5 * len(set(outcomes)) for outcomes in found)

    end_s = min(len(view.envelope) for view in views) * ENVELOPE_S
    return max(np.arange(0.0, max(end_s - seconds, 0.0) + 1e-9, 5.0).tolist(), key=score)


@styled
def stream_figure(view: StreamView, start_s: float, end_s: float, width: float = WIDE) -> Figure:
    """An excerpt: signal and words, posteriors and detections, and the cost of every step."""
    truth = [(word, time) for word, time in view.truth if start_s - WORD_S < time < end_s]
    roll = 0.2 * len(view.classes) + 0.1
    figure = Figure(figsize=(width, roll + 3.2))
    signal, posteriors, cost = figure.subplots(
        3, sharex=True, gridspec_kw={"height_ratios": [0.75, roll, 1.0]}
    )
    cost.set_xlim(start_s, end_s)
    cost.set_xlabel("time in the stream (s)")
    _draw_signal(signal, view, start_s, end_s, 900 if width == WIDE else 350)
    _write_words(signal, truth, 0.85 * width / (end_s - start_s))
    _draw_posteriors(posteriors, view, truth)
    _draw_cost(cost, view)
    for axes in (signal, cost):
        for _, time in truth:
            axes.axvspan(time, time + WORD_S, color=LIGHT["grid"], alpha=0.6, lw=0, zorder=0)
    handles: list[Any] = [
        Patch(facecolor="none", edgecolor=LIGHT["ink"], linewidth=1.2),
        Patch(facecolor=LIGHT["cell"], alpha=0.8),
        *_draw_detections(posteriors, view),
    ]
    names = ["word spoken", "posterior", *(name for _, name in OUTCOMES.values())]
    legend(figure, handles, names)
    return figure


def _draw_signal(axes: Axes, view: StreamView, start_s: float, end_s: float, most: int) -> None:
    """Peaks, at most `most` of them."""
    first, stop = int(start_s / ENVELOPE_S), math.ceil(end_s / ENVELOPE_S)
    peaks = np.asarray(view.envelope[first:stop], float)
    block = -(-len(peaks) // most)
    peaks = np.maximum.reduceat(peaks, np.arange(0, len(peaks), block))
    times = (first + block * (np.arange(len(peaks)) + 0.5)) * ENVELOPE_S
    axes.fill_between(times, -peaks, peaks, color=LIGHT["word"], lw=0)
    axes.set_title("Signal and words spoken")
    axes.set_ylabel("peak\n(full = 1)")


def _write_words(axes: Axes, truth: Sequence[tuple[str, float]], inch_per_s: float) -> None:
    """Names over the words; upright where the words are too close for lying text."""
    upright = any(
        (later - earlier) * inch_per_s < 0.04 * len(a + b) + 0.05
        for (a, earlier), (b, later) in pairwise(truth)
    )
    low, high = axes.get_xlim()
    for word, time in truth:
        middle = time + WORD_S / 2
        if low <= middle <= high:
            axes.annotate(
                word,
                (middle, 1.0),
                (0, 2),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="bottom",
                size=8,
                rotation=90 if upright else 0,
            )
    axes.set_title(axes.get_title("left"), pad=46 if upright else 17)


def _draw_posteriors(axes: Axes, view: StreamView, truth: Sequence[tuple[str, float]]) -> None:
    """A cell per step and class, as dense as the posterior is high; boxes around the words."""
    low, high = axes.get_xlim()
    shown = (view.times_s >= low) & (view.times_s <= high)
    hop = float(np.ptp(view.times_s)) / max(len(view.times_s) - 1, 1)
    for row, values in enumerate(view.posteriors.T):
        dense = shown & (values >= _FAINTEST)
        axes.broken_barh(
            [(time - hop / 2, hop) for time in view.times_s[dense]],
            (row - 0.42, 0.84),
            facecolors=[(LIGHT["cell"], min(float(value), 1.0)) for value in values[dense]],
            lw=0,
            gid="crisp",
        )
        axes.axhline(row + 0.5, color=LIGHT["grid"], lw=0.5, zorder=0)
    for word, time in truth:
        corner = (time, view.classes.index(word) - 0.45)
        axes.add_patch(Rectangle(corner, WORD_S, 0.9, fill=False, ec=LIGHT["ink"], lw=1.2))
    axes.set_ylim(len(view.classes) - 0.5, -0.5)
    axes.set_yticks(range(len(view.classes)), view.classes)
    axes.set_title("Posteriors and detections")


def _draw_detections(axes: Axes, view: StreamView) -> list[Any]:
    """A marker per detection; returns one artist per outcome."""
    artists = []
    for outcome, (marker, name) in OUTCOMES.items():
        found = [d for d in view.detections if d.outcome == outcome]
        artists += axes.plot(
            [d.time_s for d in found],
            [view.classes.index(d.word) for d in found],
            ls="none",
            marker=marker,
            ms=8,
            color=LIGHT[outcome],
            mec=LIGHT["surface"],
            label=name,
        )
    return artists


def _draw_cost(axes: Axes, view: StreamView) -> None:
    low, high = axes.get_xlim()
    shown = (view.times_s >= low) & (view.times_s <= high)
    times, costs = view.times_s[shown], view.macs[shown] / MILLION
    axes.fill_between(times, costs, step="mid", color=LIGHT["cost"], alpha=0.25, lw=0)
    axes.step(times, costs, where="mid", color=LIGHT["cost"], lw=1.4, label="cost")
    axes.axhline(view.full_macs / MILLION, color=LIGHT["muted"], lw=1, ls=(0, (4, 3)))
    dress(axes, "Cost (dashed: whole network)", "M MACs/frame")
