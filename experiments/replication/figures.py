"""Figures 5 and 6 of the paper, of what there is so far."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.figures.paper_curve import Panel, Place, accuracy_for_cost
from experiments.figures.style import to_png
from experiments.figures.training import cost_per_word
from experiments.replication.plan import NETWORKS, Setup, cells, folder_of
from experiments.replication.results import Row, Spread, seeds_begun
from experiments.reporting.paper import PAPER, PAPER_WHOLE
from experiments.reporting.reading import read_run
from experiments.runs.folder import is_run
from experiments.runs.metrics import read_metrics

_CORRECT = "correct, % of the words"


def figure_5(rows: Sequence[Row]) -> bytes | None:
    """Accuracy for cost on clips and on streams, as PNG; None where nothing was evaluated yet."""
    full = [row.on_streams("full_macs_per_frame") for row in rows if row.cell.network != "chain"]
    known = [each.mean for each in full if each is not None]
    if not known:
        return None
    whole = max(known)
    protocol = [row for row in rows if row.detector == "default"]
    calibrated = [row for row in rows if row.detector == "calibrated"]
    paper: dict[str, list[Place]] = {"the paper, static": [], "the paper, SANAS": []}
    for row in PAPER:
        name = "the paper, SANAS" if row.model == "SANAS" else "the paper, static"
        paper[name].append(Place(100 * row.million_macs / PAPER_WHOLE, row.correct))
    on_streams = _places(protocol, whole, "macs_per_frame", "correct_pct", clips=False)
    chosen = _places(calibrated, whole, "macs_per_frame", "correct_pct", clips=False)
    on_clips = _places(protocol, whole, "macs_per_clip", "benchmark_accuracy_pct", clips=True)
    panels = [
        Panel("Clips", "named rightly, % of the clips", on_clips),
        Panel("Streams, the protocol's detector", _CORRECT, on_streams | paper),
        Panel("Streams, detectors of our own", _CORRECT, chosen),
    ]
    return to_png(accuracy_for_cost(panels, whole))


def figure_6(setup: Setup) -> bytes | None:
    """Cost of each word over the training at each price, of the first seed that has begun."""
    for seed in seeds_begun(setup)[:1]:
        runs = {}
        for cell in cells():
            folder = folder_of(setup.out, seed, cell)
            if (
                cell.network == "sanas"
                and is_run(folder)
                and any(True for _ in read_metrics(folder))
            ):
                runs[f"λ = {cell.price:g}"] = read_run(folder, folder.name)
        if runs:
            metrics = {name: run.lines for name, run in runs.items()}
            full = {name: float(run.full_macs) for name, run in runs.items()}
            return to_png(cost_per_word(metrics, full))
    return None


def _places(
    rows: Sequence[Row], whole: float, cost: str, accuracy: str, *, clips: bool
) -> dict[str, list[Place]]:
    """A network's name → where it stands."""
    out: dict[str, list[Place]] = {}
    for row in rows:
        of = row.on_clips if clips else row.on_streams
        x, y = of(cost), of(accuracy)
        own = out.setdefault(NETWORKS[row.cell.network].shown, [])
        if x is not None and y is not None:
            own.append(_place(x, y, 100 / whole))
    return out


def _place(cost: Spread, accuracy: Spread, scale: float) -> Place:
    spread = None if cost.sd is None else cost.sd * scale
    return Place(cost.mean * scale, accuracy.mean, spread, accuracy.sd)
