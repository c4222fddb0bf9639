"""The figure of architectures that different methods found: accuracy for cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.style import LIGHT, WIDE, legend, run_look, styled

# Share of the whole network's cost, accuracy: both 0 to 1.
Points = Sequence[tuple[float, float]]
MARKERS = "os^Dv"


@styled
def search_figure(panels: Mapping[str, Mapping[str, Sequence[Points]]]) -> Figure:
    """A panel per measurement; a colour per method, a mark per architecture, lines of means.

    Args:
      panels: title → method → for each budget the points of all repeats.
    """
    figure = Figure(figsize=(WIDE, 3.2), layout="constrained")
    methods = list(dict.fromkeys(method for panel in panels.values() for method in panel))
    handles = {}
    for axes, (title, by_method) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for method, groups in by_method.items():
            number = methods.index(method)
            color, marker = run_look(number)["color"], MARKERS[number % len(MARKERS)]
            for points in groups:
                axes.plot(
                    *(100 * np.array(points).T), ls="", marker=marker, color=color, alpha=0.35, ms=4
                )
            means = sorted(tuple(100 * np.mean(points, axis=0)) for points in groups)
            (handles[method],) = axes.plot(
                *zip(*means, strict=True), color=color, marker=marker, ms=6, lw=1.2
            )
        axes.set_title(title)
        axes.set_xlabel("share of the whole network's cost, %", fontsize=8.5)
        axes.set_ylabel("accuracy, %", color=LIGHT["muted"])
        axes.grid(axis="both")
    legend(figure, list(handles.values()), list(handles))
    return figure
