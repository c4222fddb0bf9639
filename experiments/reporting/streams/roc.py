"""Hits against errors as the detection threshold moves: data of a run, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.config.wording import shorten
from experiments.figures.style import LIGHT, WIDE, legend, run_look, styled
from experiments.reporting.run_record import RunRecord
from experiments.runs.stored_negatives import NegativeResult
from experiments.runs.stored_results import StreamResult, detector_suffix

# Where there are several kinds of audio without words, it is drawn for the most telling.
FIRST_DRAWN = "speech"
FIELDS = ("false_alarms_per_hour", "wrong_pct", "correct_pct")
_FAR = 1e6  # false alarms per hour beyond any axis
_DOT: dict[str, Any] = {"marker": "o", "ms": 8, "mec": LIGHT["surface"], "ls": "none"}


class Roc(NamedTuple):
    """A run at one price, means over its streams with the detector that is shown of it.

    Fields:
      run: its name, with the detector if not the protocol's.
      number: its place among the runs, which gives the colour.
      price: λ that it was told, as text; "" for none.
      curve: [N, 3], `FIELDS` at each threshold, rising.
      used: [3], the same at the threshold of its evaluations.
      negatives: name of audio without words, or "" for none.
      alarms: [M, 2], false alarms an hour on it and correct words, at each threshold, rising.
    """

    run: str
    number: int
    price: str
    curve: np.ndarray
    used: np.ndarray
    negatives: str
    alarms: np.ndarray


def read_rocs(runs: Sequence[RunRecord]) -> list[Roc]:
    """The runs' curves; evaluations of older code have none and are left out."""
    out = []
    for number, run in enumerate(runs):
        for evaluations in run.by_price().values():
            results = [e.result for e in evaluations]
            setting = results[0].setting
            name = shorten(run.name) + detector_suffix(setting.detector, setting.rate)
            heard = [n for n in run.negatives if n.setting == setting]
            out.append(_roc(name, number, results, heard))
    return [roc for roc in out if roc is not None]


def rocs_of(results: Sequence[StreamResult], negatives: Sequence[NegativeResult]) -> list[Roc]:
    """The curves of what an evaluation found; models are told apart by their names."""
    numbers: dict[str, int] = {}
    groups: dict[tuple[str, float | None], list[StreamResult]] = {}
    for result in results:
        groups.setdefault((result.workdir, result.cost_weight), []).append(result)
    out = []
    for (name, price), group in groups.items():
        number = numbers.setdefault(name, len(numbers))
        heard = [n for n in negatives if (n.workdir, n.cost_weight) == (name, price)]
        out.append(_roc(name, number, group, heard))
    return [roc for roc in out if roc is not None]


def _roc(
    name: str, number: int, results: Sequence[StreamResult], negatives: Sequence[NegativeResult]
) -> Roc | None:
    """A model's curve at one price, over the thresholds that all its streams have.

    A threshold moves with the detector's smoothing as it is, so each detector has another curve.
    None of results that have none.
    """
    results = [result for result in results if result.roc]
    curves = [
        {step["threshold"]: [step[name] for name in FIELDS] for step in result.roc or []}
        for result in results
    ]
    thresholds = sorted(set.intersection(*map(set, curves))) if curves else []
    if not thresholds:
        return None
    curve = np.array([[each[t] for each in curves] for t in thresholds]).mean(1)
    used = np.array([[getattr(result, name) for name in FIELDS] for result in results]).mean(0)
    price = results[0].cost_weight
    told = "" if price is None else f"λ={price:.3g}"
    correct = dict(zip(thresholds, curve[:, 2].tolist(), strict=True))
    on, alarms = _on_negatives(negatives, correct)
    return Roc(name, number, told, curve, used, on, alarms)


@styled
def roc_figure(rocs: Sequence[Roc], width: float = WIDE) -> Figure:
    """Correct words within a rate of false alarms, and against words taken for another.

    The second panel is there because a good detector has hardly a false alarm to trade on a stream
    of words; the third, where it is known, is of false alarms where no words are.
    """
    named = sorted({roc.negatives for roc in rocs} - {""})
    panels = 3 if named else 2
    columns = panels if width == WIDE else 1
    figure = Figure(figsize=(width, 3.8 if columns > 1 else 3.3 * panels))
    alarms, wrong, *others = figure.subplots(panels // columns, columns, sharey=True).flat
    for axes in others:
        _draw_negatives(axes, [roc for roc in rocs if roc.negatives], named)
    for roc in rocs:
        look = run_look(roc.number)
        wrong.plot(roc.curve[:, 1], roc.curve[:, 2], lw=1.6, **look)
        alarms.step(*best_within(roc.curve).T, where="post", lw=1.6, **look)
        for field, axes in enumerate((alarms, wrong)):
            dot = (roc.used[field], roc.used[2])
            axes.plot(*dot, color=look["color"], zorder=4, clip_on=False, **_DOT)
        # Only in one panel: in the other dots lie on top of each other.
        end = (roc.used[1], roc.used[2])
        wrong.annotate(roc.price, end, (6, -3), textcoords="offset points", size=8)
    _scale_alarms(alarms, max(float(roc.curve[:, 0].max()) for roc in rocs))
    alarms.set_title("Within a rate of false alarms")
    wrong.set_title("Against wrong detections")
    wrong.set_xlim(left=0)
    wrong.set_xlabel("wrong, % of the words")
    for axes in (alarms, wrong, *others):
        axes.set_ylabel("correct, % of the words")
        axes.grid()
    names = list(dict.fromkeys((roc.run, roc.number) for roc in rocs))
    handles = [Line2D([], [], lw=2.5, **run_look(number)) for _, number in names]
    handles.append(Line2D([], [], color=LIGHT["ink"], **_DOT))
    legend(figure, handles, [*(name for name, _ in names), "threshold used"])
    return figure


@styled
def alarms_figure(rocs: Sequence[Roc]) -> Figure:
    """Words found within a rate of false alarms where no words are, a line for each price.

    ValueError where a model was on no such audio.
    """
    if not rocs or not all(roc.negatives for roc in rocs):
        raise ValueError("expected results on streams and on audio without words of each model")
    figure = Figure(figsize=(0.6 * WIDE, 3.4))
    axes = figure.subplots()
    _draw_negatives(axes, rocs, sorted({roc.negatives for roc in rocs}))
    axes.set_title("Words found within a rate of false alarms")
    axes.set_xlabel(
        f"false alarms in an hour of {' or '.join(sorted({r.negatives for r in rocs}))}"
    )
    axes.set_ylabel("correct, % of the words")
    axes.grid()
    prices: dict[tuple[str, int], list[str]] = {}
    for roc in rocs:
        prices.setdefault((roc.run, roc.number), []).append(roc.price)
    for roc in rocs:
        if len(prices[roc.run, roc.number]) > 1:  # else the legend has it
            end, place = (1, best_within(roc.alarms)[-1, 1]), axes.get_yaxis_transform()
            axes.annotate(roc.price, end, (3, -3), place, textcoords="offset points", size=8)
    handles = [Line2D([], [], lw=2.5, **run_look(number)) for _, number in prices]
    names = [
        f"{name} told {told[0]}" if len(told) == 1 and told[0] else name
        for (name, _), told in prices.items()
    ]
    legend(figure, handles, names)
    return figure


def _on_negatives(
    results: Sequence[NegativeResult], correct: dict[float, float]
) -> tuple[str, np.ndarray]:
    """Name of the negatives that are drawn; false alarms an hour there, correct words [M, 2]."""
    found = {result.shown: result for result in results}
    if not found:
        return "", np.zeros((0, 2))
    name = FIRST_DRAWN if FIRST_DRAWN in found else min(found)
    steps = [
        [step["alarms_per_hour"], correct[step["threshold"]]]
        for step in found[name].roc
        if step["threshold"] in correct
    ]
    return (name if steps else ""), np.array(steps).reshape(-1, 2)


def best_within(curve: np.ndarray) -> np.ndarray:
    """The most correct words with at most so many false alarms, [M, 2], ends far to the right.

    `curve` [N, 2 or more]: false alarms first, correct words last.

    Where there are a handful of false alarms, their count does not rise steadily as the threshold
    falls, and a line through all thresholds would run back and forth.
    """
    order = np.lexsort((-curve[:, -1], curve[:, 0]))
    alarms, correct = curve[order, 0], np.maximum.accumulate(curve[order, -1])
    rises = np.diff(correct, prepend=-1) > 0
    return np.append(np.stack([alarms, correct], 1)[rises], [[_FAR, correct[-1]]], 0)


def _draw_negatives(axes: Axes, rocs: Sequence[Roc], named: Sequence[str]) -> None:
    """Correct words within a rate of false alarms on audio without words."""
    for roc in rocs:
        axes.step(*best_within(roc.alarms).T, where="post", lw=1.6, **run_look(roc.number))
    _scale_alarms(axes, max(float(roc.alarms[:, 0].max(initial=0)) for roc in rocs), (1,))
    axes.set_title(f"Within a rate on {' or '.join(named)}")


def _scale_alarms(axes: Axes, most: float, steps: Sequence[int] = (1, 2, 5)) -> None:
    """From 0 to `most` false alarms per hour; many of them on a scale that keeps 0."""
    axes.set_xlabel("false alarms per hour")
    if most <= 20:
        axes.set_xlim(-0.02 * max(most, 1), 1.1 * max(most, 1))
        return
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    axes.set_xlim(-0.1, 1.5 * most)
    ticks = [0, *(d * 10**e for e in range(5) for d in steps if d * 10**e <= 1.5 * most)]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
