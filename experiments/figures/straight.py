"""The figure of time against arithmetic, a point per decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import LIGHT, WIDE, run_look, styled


@styled
def straight_figure(rows: Mapping[str, Any]) -> Figure:
    """A panel per engine: µs of each decision against its MACs, and the line through them.

    A hundredth of the decisions may lie above a panel, where something else took the machine.

    Args:
      rows: of a result of `benchmarks.architectures`: engine → decisions, line.
    """
    figure = Figure(figsize=(WIDE, 3.4), layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    for number, (axes, (name, each)) in enumerate(zip(panels, rows.items(), strict=True)):
        macs = np.array(each["decisions"]["macs"]) / 1e6
        micro = 1e6 * np.array(each["decisions"]["seconds"])
        line = each["line"]
        color = run_look(number)["color"]
        axes.plot(macs, micro, ls="", marker="o", ms=2.5, alpha=0.4, mew=0, color=color)
        ends = np.array([0.0, macs.max()])
        fitted = 1e6 * line["intercept"] + 1e12 * line["slope"] * ends
        axes.plot(ends, fitted, color=LIGHT["ink"], lw=1)
        axes.set_xlim(0)
        axes.set_ylim(0, 1.1 * max(np.percentile(micro, 99), fitted[1]))
        axes.set_title(f"{name}: r² = {line['r2']:.2f}")
        axes.set_xlabel("MACs of the decision, millions")
        axes.set_ylabel("µs", color=LIGHT["muted"])
        axes.grid(axis="both")
    return figure
