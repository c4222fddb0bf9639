"""Figure 5 of the SANAS paper: accuracy for cost, on clips and on streams, a panel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.config.wording import short
from experiments.figures.style import LIGHT, WIDE, legend, styled


class Place(NamedTuple):
    """A network in a panel: cost and accuracy in %, and their standard deviations, if known."""

    cost: float
    accuracy: float
    cost_sd: float | None = None
    accuracy_sd: float | None = None


class Panel(NamedTuple):
    """A panel: its title, what is accurate, and a network's name → its places."""

    title: str
    unit: str
    networks: Mapping[str, Sequence[Place]]


# Of networks in the order in which they come.
_LOOKS: Sequence[dict[str, Any]] = (
    {"color": LIGHT["muted"], "marker": "s"},
    {"color": LIGHT["ink"], "marker": "s"},
    {"color": LIGHT["run-1"], "marker": "s"},
    {"color": LIGHT["run-0"], "marker": "o"},
    {"color": LIGHT["run-2"], "marker": "D"},
    {"color": LIGHT["word"], "marker": "s", "mfc": LIGHT["surface"], "ls": "none"},
    {"color": LIGHT["word"], "marker": "o", "mfc": LIGHT["surface"], "ls": ":"},
)


@styled
def accuracy_for_cost(panels: Sequence[Panel], full_macs: float) -> Figure:
    """Accuracy against cost in % of the whole network's; a network's places are joined.

    Args:
      panels: side by side; those that have nothing yet say so.
      full_macs: of the whole network, for the axis' name.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.networks))
    looks = dict(zip(names, _LOOKS, strict=False))
    figure = Figure(figsize=(WIDE, 3.6))
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, places in panel.networks.items():
            _draw(axes, sorted(places), looks[name])
        if any(panel.networks.values()):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.text(0.5, 0.5, "nothing yet", ha="center", transform=axes.transAxes)
        axes.tick_params(which="minor", length=0)
        axes.grid(axis="both")
        axes.set_title(panel.title)
        axes.set_ylabel(panel.unit)
        axes.set_xlabel(f"MACs, % of {short(full_macs)}")
    handles = [axes.plot([], [], lw=1.6, ms=6, **looks[name])[0] for name in names]
    legend(figure, handles, names)
    return figure


def _draw(axes: Axes, places: Sequence[Place], look: Mapping[str, Any]) -> None:
    """Markers with bars, and a line through several."""
    if not places:
        return
    x, y = [p.cost for p in places], [p.accuracy for p in places]
    bars = {"fmt": "none", "color": look["color"], "elinewidth": 1, "capsize": 2, "zorder": 2}
    for place in places:
        axes.errorbar(place.cost, place.accuracy, place.accuracy_sd, place.cost_sd, **bars)
    axes.plot(x, y, lw=1.4, ms=5.5, zorder=3, **look)
