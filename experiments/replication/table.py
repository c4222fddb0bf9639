"""Table 1 of the paper, and what was found here between its rows: Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.speech.cache import SPLITS, fingerprint, is_cache, open_cache
from experiments.replication.plan import Setup
from experiments.replication.results import Row, Spread, row_to_json, seeds_begun
from experiments.reporting.paper import PAPER, PAPER_WHOLE, Reference
from experiments.runs.stored_results import DETECTORS

HEAD = (
    *("model", "trained", "match %", "correct %", "wrong %", "FA %"),
    *("MACs/frame", "share %", "clips %"),
)
_PERCENTAGES = ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct")
_MISSING = "–"
# Of the networks that are of one kind the paper's are among: its rows of that model.
_OF_PAPER = {
    "chain": "cnn-trad-fpool3",
    "static": "cnn-trad-fpool3 + shortcuts",
    "sanas": "SANAS",
}
_TITLES = {
    "default": "The protocol's detector",
    "calibrated": "The detector chosen on validation streams",
}


def table_to_json(setup: Setup, rows: Sequence[Row]) -> dict[str, Any]:
    """All that the table says, and what it is made of."""
    return {
        "scale": setup.scale,
        "seeds": seeds_begun(setup),
        "test_minutes": setup.size.test_minutes,
        "data": _data(setup.cache),
        "rows": [row_to_json(row) for row in rows],
        "paper": [row._asdict() for row in PAPER],
    }


def table_to_markdown(setup: Setup, rows: Sequence[Row]) -> str:
    """The table for each detector, with what it is of."""
    seeds = len({seed for row in rows for seed in row.streams})
    over = "seeds" if seeds > 1 else "streams"
    size, data = setup.size, _data(setup.cache)
    about = f"Scale `{setup.scale}`: {size.static_steps} steps with everything on"
    about += f", {size.adaptive_steps} from there; {seeds} of {setup.seeds} seeds evaluated"
    about += f"; three streams of {size.test_minutes:g} minutes"
    if data:
        counts = ", ".join(f"{data['clips'][split]:,} for {split}" for split in SPLITS)
        about += f", mixed from the testing clips ({counts})"
    lines = [
        "# Table 1 of the SANAS paper",
        f"{about}. Mean ± standard deviation over {over}. MACs are of the live edges, without the "
        "controller; the paper calls them FLOPs. Share: of the network with shortcuts. Clips: of "
        "the testing clips the share that is named rightly, unknown ones as many as of a word. "
        "The paper's rows, *slanted*, are of all of Speech Commands v0.01 and one hour.",
    ]
    for detector in DETECTORS:
        own = [row for row in rows if row.detector == detector]
        lines += [f"## {_TITLES[detector]}", _grid(own, with_paper=detector == "default")]
    return "\n\n".join(lines) + "\n"


def _grid(rows: Sequence[Row], *, with_paper: bool) -> str:
    """Rows of the networks in turn, each network's by cost, the paper's among them."""
    whole = _whole(rows)
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for network in dict.fromkeys(row.cell.network for row in rows):
        found = [
            (_share(row, whole), _cells(row, whole)) for row in rows if row.cell.network == network
        ]
        if with_paper:
            of_paper = [ref for ref in PAPER if ref.model == _OF_PAPER.get(network)]
            found += [(ref.million_macs / PAPER_WHOLE, _paper_cells(ref)) for ref in of_paper]
        if len(found) > 2:  # at prices: what is not known yet stands last
            found.sort(key=lambda pair: (pair[0] is None, pair[0] or 0.0))
        lines += ["| " + " | ".join(cells) + " |" for _, cells in found]
    return "\n".join(lines)


def _cells(row: Row, whole: float | None) -> list[str]:
    macs, share = row.on_streams("macs_per_frame"), _share(row, whole)
    return [
        row.label,
        _steps(row),
        *(_number(row.on_streams(name)) for name in _PERCENTAGES),
        _macs(macs),
        _MISSING if share is None else f"{100 * share:.1f}",
        _number(row.on_clips("benchmark_accuracy_pct")),
    ]


def _paper_cells(row: Reference) -> list[str]:
    numbers = (row.match, row.correct, row.wrong, row.false_alarm)
    share = 100 * row.million_macs / PAPER_WHOLE
    texts = [row.model, "the paper", *(f"{number:.1f}" for number in numbers)]
    return [f"*{text}*" for text in (*texts, f"{row.million_macs:g}M", f"{share:.1f}")] + [_MISSING]


def _steps(row: Row) -> str:
    """Steps of the checkpoint that was evaluated, else of training; of how many, if not all."""
    if not row.trained:
        return _MISSING
    at = [row.evaluated.get(seed, trained.step) for seed, trained in row.trained.items()]
    of = {trained.of for trained in row.trained.values()}
    least, most = min(at), max(at)
    made = f"{least}" if least == most else f"{least} to {most}"
    return made if {least, most} == of else f"{made} of {max(of)}"


def _number(value: Spread | None) -> str:
    if value is None:
        return _MISSING
    return f"{value.mean:.1f}" + ("" if value.sd is None else f" ± {value.sd:.1f}")


def _macs(value: Spread | None) -> str:
    if value is None:
        return _MISSING
    sd = value.sd or 0.0
    varies = sd > 1e-6 * value.mean  # else all streams are equal, up to rounding
    spread = f" ± {sd / 1e6:.2g}" if varies else ""
    return f"{value.mean / 1e6:.4g}{spread}M"


def _whole(rows: Iterable[Row]) -> float | None:
    """MACs of the network with shortcuts; None as long as no run says."""
    full = [row.on_streams("full_macs_per_frame") for row in rows if row.cell.network != "chain"]
    return max((each.mean for each in full if each is not None), default=None)


def _share(row: Row, whole: float | None) -> float | None:
    macs = row.on_streams("macs_per_frame")
    return None if macs is None or whole is None else macs.mean / whole


def _data(cache: Path) -> dict[str, Any]:
    """Clips of each split and their fingerprint; {} where there is no cache any more."""
    if not is_cache(cache):
        return {}
    found = open_cache(cache)
    clips = {split: len(found.indices(split)) for split in SPLITS}
    return {
        "clips": clips,
        "classes": list(found.classes),
        "frontend": found.frontend,
        "sha256": fingerprint(cache),
    }
