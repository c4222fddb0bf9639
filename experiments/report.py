"""What runs did, on one page: `python -m experiments.report --workdir W [--workdir W2 …]`.

Writes `report.html`, which needs no other file and no network, and its figures as PNGs. Prints the
table of scores. Runs that still train, or that no stream was run through, are shown as far as they
are.
"""

from __future__ import annotations

import html
import importlib.metadata
import json
import math
import platform
import shlex
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from data_prep.atomic import new_files
from data_prep.cli import run
from experiments import config as config_lib
from experiments import figures
from experiments import workdir as workdir_lib
from experiments.build import build, macs_per_step
from experiments.figures import NARROW, WIDE, Detected, StreamView, plain

WORD_S = 1.0
ENVELOPE_S = 0.01
TOLERANCE_MS = 750.0


class Evaluation(NamedTuple):
    """A stream that `evaluate` ran.

    result: its JSON; view: for drawing; labels [T]; live [T, E]. The last three are None if the
    arrays are not there.
    """

    result: dict[str, Any]
    view: StreamView | None
    labels: np.ndarray | None
    live: np.ndarray | None


class Run(NamedTuple):
    """A run as read from its folder.

    Fields:
      name: of its own in the report.
      path: as given.
      info: what was launched.
      edge_macs: edge → MACs per frame.
      controller_macs: per frame, 0 for a static network.
      lines: of metrics.jsonl.
      evaluations: by name of the stream.
    """

    name: str
    path: Path
    info: workdir_lib.RunInfo
    edge_macs: dict[str, int]
    controller_macs: int
    lines: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]

    @property
    def kind(self) -> str:
        """Static, or SANAS with its λ."""
        config = self.info.config
        if config.model.static:
            return "static"
        limit = f", {config.train.cost_limit:.0%} free" if config.train.cost_limit else ""
        return f"SANAS λ={config.train.cost_weight:g}{limit}"

    def last(self, split: str) -> dict[str, Any] | None:
        """The last line of a split."""
        return next((line for line in reversed(self.lines) if line["split"] == split), None)


class Column(NamedTuple):
    """A column of the table: heading, unit, value of a result, digits after the point."""

    heading: str
    unit: str
    value: Callable[[Mapping[str, Any]], float]
    digits: int


class Row(NamedTuple):
    """A line of the table: (mean, spread or None) per column."""

    name: str
    kind: str
    stream: str
    values: list[tuple[float, float | None]]


COLUMNS = (
    Column("correct", "%", lambda r: r["correct_pct"], 1),
    Column("wrong", "%", lambda r: r["wrong_pct"], 1),
    Column("match", "%", lambda r: r["match_pct"], 1),
    Column("false alarms", "%", lambda r: r["false_alarm_pct"], 1),
    Column("false alarms", "per hour", lambda r: r["false_alarms_per_hour"], 1),
    Column("MACs", "M/frame", lambda r: r["macs_per_frame"] / 1e6, 3),
    Column("+ controller", "M/frame", lambda r: r["macs_per_frame_with_controller"] / 1e6, 3),
    Column(
        "of the network", "%", lambda r: 100 * r["macs_per_frame"] / r["full_macs_per_frame"], 1
    ),
    Column("frame accuracy", "%", lambda r: 100 * r["frame_accuracy"], 1),
)
KEYS = (
    "workdir",
    "step",
    "static",
    "stream",
    "threshold",
    "num_words",
    "seconds",
    "match_pct",
    "correct_pct",
    "wrong_pct",
    "false_alarm_pct",
    "false_alarms_per_hour",
    "macs_per_frame",
    "macs_per_frame_with_controller",
    "full_macs_per_frame",
    "frame_accuracy",
    "gate_usage",
    "detections",
)


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_multi_string(
        "workdir", None, "Folder of a run; give it once per run.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "out", None, "Folder of the report; the first workdir if not given.", flag_values=values
    )
    flags.DEFINE_float(
        "excerpt_start_s",
        None,
        "Where the excerpt of the stream begins, s; where most happens if not given.",
        flag_values=values,
    )
    flags.DEFINE_float("excerpt_seconds", 30.0, "Its length, s.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Read the runs, write the report, print the table."""
    if not 0 < values.excerpt_seconds < math.inf:
        raise ValueError(f"--excerpt_seconds: expected more than 0, got {values.excerpt_seconds}")
    paths = list(dict.fromkeys(Path(path) for path in values.workdir))
    for path in paths:
        workdir_lib.read(path)  # all must be runs before anything takes time
    runs = [read_run(path, name) for path, name in zip(paths, run_names(paths), strict=True)]
    out = Path(values.out) if values.out else paths[0]
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: expected a folder, got a file: {out}")
    pages = Pages()
    text = page(runs, pages, values.excerpt_start_s, values.excerpt_seconds)
    names = [out / "figures" / f"{quote(name, safe='')}.png" for name in pages.pngs]
    with new_files(*names, out / "report.html") as new:
        for path, data in zip(new, pages.pngs.values(), strict=False):
            path.write_bytes(data)
        new[-1].write_text(text, encoding="utf-8")
    print(format_rows(run_rows(runs)))
    print(f"\n{out / 'report.html'}")


def summary_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The scores of `evaluate` as plain text: a line per result, and means over a run's streams.

    Args:
      results: JSON objects of `evaluate`; `kind`, if there, is shown in place of static or SANAS.
    """
    return format_rows(summarize(results))


def summarize(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row per result; before a run with several streams, their mean and standard deviation."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["workdir"], []).append(result)
    rows = []
    for name, group in groups.items():
        kind = group[0].get("kind") or ("static" if group[0]["static"] else "SANAS")
        table = [[column.value(result) for column in COLUMNS] for result in group]
        if len(group) > 1:
            means, spreads = np.mean(table, 0).tolist(), np.std(table, 0, ddof=1).tolist()
            values = list(zip(means, spreads, strict=True))
            rows.append(Row(name, kind, f"mean of {len(group)}", values))
        for result, numbers in zip(group, table, strict=True):
            rows.append(Row(name, kind, result["stream"], [(x, None) for x in numbers]))
    return rows


def format_rows(rows: Sequence[Row]) -> str:
    """Rows as text in columns."""
    head = [
        ["run", "kind", "stream", *(column.heading for column in COLUMNS)],
        ["", "", "", *(column.unit for column in COLUMNS)],
    ]
    cells = head + [[row.name, row.kind, row.stream, *_numbers(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def read_run(path: Path, name: str) -> Run:
    """A run and the streams it was evaluated on; ValueError for what is not one."""
    info = workdir_lib.read(path)
    model = build(info.config, len(info.classes), info.hooks).model
    edge_macs, controller = macs_per_step(model, info.config.model.static)
    window_s = model.window * info.frontend.hop / info.frontend.sample_rate
    evaluations = {}
    for file in sorted((path / "evaluations").glob("*.json")):
        evaluations[file.stem] = _read_evaluation(file, info.classes, edge_macs, window_s)
    lines = list(workdir_lib.read_metrics(path))
    return Run(name, path, info, edge_macs, controller, lines, evaluations)


def run_names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many of their parents as make them differ."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"--workdir: expected different folders, got {list(map(str, paths))}")


def outcomes(
    detections: Sequence[Mapping[str, Any]],
    truth: Sequence[tuple[str, float]],
    tolerance_ms: float,
) -> list[str]:
    """For each detection "right", "wrong" or "alarm", as `metrics.score_stream` counts them.

    Args:
      detections: `word` and `ms`, in order of time.
      truth: (word, start in ms), in order of time.
      tolerance_ms: largest distance between the two.
    """
    starts = [start for _, start in truth]
    out, taken = [], -1
    for found in detections:
        first = bisect_left(starts, found["ms"] - tolerance_ms)
        if first == len(starts) or starts[first] > found["ms"] + tolerance_ms:
            out.append("alarm")
            continue
        out.append("right" if first != taken and truth[first][0] == found["word"] else "wrong")
        taken = first
    return out


def busiest(views: Sequence[StreamView], seconds: float) -> float:
    """Start of the excerpt of a stream in which most happens, s, to the nearest 5 s.

    Words count, mistakes count more (up to two of a kind), and so does cost that varies. Summed
    over the runs, so that all show the same excerpt.
    """
    end_s = min(len(view.envelope) * ENVELOPE_S for view in views)
    best, best_score = 0.0, -math.inf
    for start in np.arange(0.0, max(end_s - seconds, 0.0) + 1e-9, 5.0).tolist():
        score = 0.0
        for view in views:
            first, stop = np.searchsorted(view.times_s, [start, start + seconds])
            found = [d.outcome for d in view.detections if start <= d.time_s < start + seconds]
            score += found.count("right") + sum(
                3 * min(found.count(mistake), 2) for mistake in ("wrong", "alarm")
            )
            words = sum(start <= time < start + seconds - view.word_s for _, time in view.truth)
            score += 0.5 * words
            if first < stop:
                score += 10 * float(np.std(view.macs[first:stop])) / view.full_macs
        if score > best_score:
            best, best_score = start, score
    return best


class Pages:
    """Figures as they are made: PNGs by name; the page holds them as SVG, wide and narrow."""

    def __init__(self) -> None:
        self.pngs: dict[str, bytes] = {}

    def add(self, name: str, draw: Callable[[float], Figure], caption: str) -> str:
        """The HTML of a figure; `draw` takes a width in inches."""
        wide = draw(WIDE)
        self.pngs[name] = figures.to_png(wide)
        return (
            f'<figure><div class="wide">{figures.to_svg(wide, f"{name} wide", caption)}</div>'
            f'<div class="narrow">{figures.to_svg(draw(NARROW), f"{name} narrow", caption)}</div>'
            f"<figcaption>{_text(caption)}</figcaption></figure>"
        )


def page(runs: Sequence[Run], pages: Pages, start_s: float | None, seconds: float) -> str:
    """The whole page."""
    sections = [
        ("Scores", _scores(runs)),
        ("Training", _training(runs, pages)),
        ("Cost per word", _cost_per_word(runs, pages)),
        ("On the stream", _streams(runs, pages, start_s, seconds)),
        ("What runs when", _gates(runs, pages)),
        ("How it was made", _made(runs)),
    ]
    body = "\n".join(
        f"<section><h2>{title}</h2>\n{content}\n</section>" for title, content in sections
    )
    names = ", ".join(run.name for run in runs)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Report: {_text(names)}</title>\n<style>{_css()}</style></head>\n"
        f"<body><main><h1>Keyword spotting under a budget</h1>\n"
        f'<p class="lead">{_text(_lead(runs))}</p>\n{body}\n</main></body></html>\n'
    )


def run_rows(runs: Sequence[Run]) -> list[Row]:
    """The table's rows; a run that was not evaluated has what its last validation says."""
    rows = []
    for run_ in runs:
        results: list[Mapping[str, Any]] = [e.result for e in run_.evaluations.values()]
        line = run_.last("validation")
        if not results and line is not None:
            scores = [key for key in KEYS if "_pct" in key or "per_hour" in key]
            results = [
                dict.fromkeys(scores, math.nan)
                | line
                | {
                    "stream": f"validation, step {line['step']}",
                    "full_macs_per_frame": sum(run_.edge_macs.values()),
                }
            ]
        if results:
            rows += summarize([{**r, "workdir": run_.name, "kind": run_.kind} for r in results])
        else:
            nothing: list[tuple[float, float | None]] = [(math.nan, None)] * len(COLUMNS)
            rows.append(Row(run_.name, run_.kind, "nothing yet", nothing))
    return rows


def _read_evaluation(
    file: Path, classes: Sequence[str], edge_macs: Mapping[str, int], window_s: float
) -> Evaluation:
    try:
        result = json.loads(file.read_text())
        missing = [key for key in KEYS if key not in result]
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{file}: expected a result of evaluate, got: {error}") from error
    if missing:
        raise ValueError(f"{file}: expected a result of evaluate, it lacks {missing}")
    if list(result["gate_usage"]) != list(edge_macs):
        raise ValueError(
            f"{file}: expected the run's edges {list(edge_macs)}, got {list(result['gate_usage'])}"
        )
    arrays_file = file.with_suffix(".npz")
    if not arrays_file.is_file():
        return Evaluation(result, None, None, None)
    with np.load(arrays_file) as arrays:
        data = dict(arrays)
    pairs = zip(data["truth_words"], data["truth_ms"], strict=True)
    truth_ms = sorted(((plain(str(w)), float(ms)) for w, ms in pairs), key=lambda pair: pair[1])
    found = [d | {"word": plain(d["word"])} for d in result["detections"]]
    verdicts = outcomes(found, truth_ms, result.get("tolerance_ms", TOLERANCE_MS))
    view = StreamView(
        classes=[plain(name) for name in classes],
        times_s=data["times_ms"] / 1000 + window_s / 2,
        posteriors=data["posteriors"],
        macs=data["live"] @ np.array(list(edge_macs.values()), float),
        full_macs=float(sum(edge_macs.values())),
        envelope=data["envelope"],
        envelope_s=ENVELOPE_S,
        truth=[(word, ms / 1000) for word, ms in truth_ms],
        word_s=WORD_S,
        detections=[
            Detected(d["word"], d["ms"] / 1000 + window_s / 2, verdict)
            for d, verdict in zip(found, verdicts, strict=True)
        ],
    )
    return Evaluation(result, view, data["labels"], data["live"])


def _numbers(row: Row) -> list[str]:
    """The row's values as text."""
    out = []
    for (mean, spread), column in zip(row.values, COLUMNS, strict=True):
        text = f"{mean:.{column.digits}f}" if math.isfinite(mean) else "–"
        out.append(text if spread is None else f"{text} ± {spread:.{column.digits}f}")
    return out


def _lead(runs: Sequence[Run]) -> str:
    """What the page is about, in a sentence or two."""
    streams = sorted({name for run_ in runs for name in run_.evaluations})
    seconds = {name: e.result["seconds"] for run_ in runs for name, e in run_.evaluations.items()}
    what = f"{len(runs)} runs" if len(runs) > 1 else f"Run {runs[0].name}"
    if not streams:
        return f"{what}. No stream was run through {'them' if len(runs) > 1 else 'it'} yet."
    minutes = sum(seconds.values()) / 60
    return f"{what} on {', '.join(streams)}: {minutes:.0f} minutes of labelled speech and noise."


def _scores(runs: Sequence[Run]) -> str:
    head = "<th>run</th><th>stream</th>" + "".join(
        f'<th class="number">{_text(c.heading)}<br><small>{_text(c.unit)}</small></th>'
        for c in COLUMNS
    )
    body = ""
    for _, group in groupby(run_rows(runs), key=lambda row: row.name):
        rows = list(group)
        for i, row in enumerate(rows):
            cells = "".join(f'<td class="number">{_text(number)}</td>' for number in _numbers(row))
            name = (
                f'<th scope="rowgroup" rowspan="{len(rows)}">{_text(row.name)}<br>'
                f"<small>{_text(row.kind)}</small></th>"
            )
            first = (' class="first"', name) if i == 0 else ("", "")
            body += f"<tr{first[0]}>{first[1]}<td>{_text(row.stream)}</td>{cells}</tr>\n"
    note = (
        "Correct, wrong, match and false alarms are in % of the words spoken, counted as "
        "TensorFlow's streaming test does: a detection near a word is correct if it is the first "
        "there and names it, else wrong; near no word it is a false alarm. Costs are "
        "multiply-accumulates of the edges that run, per frame: a step of the network. "
        "± is the standard deviation over streams."
    )
    missing = [run_ for run_ in runs if not run_.evaluations]
    hints = "".join(
        f"<p>{_text(run_.name)} was not run through a stream yet:</p>{_code([_evaluate(run_)])}"
        for run_ in missing
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f'<div class="scroll">{table}</div><p class="note">{note}</p>{hints}'


def _training(runs: Sequence[Run], pages: Pages) -> str:
    metrics = {run_.name: run_.lines for run_ in runs}
    state = "".join(f"<li>{_text(_progress(run_))}</li>" for run_ in runs)
    if not any(metrics.values()):
        return f"<ul>{state}</ul>"
    caption = (
        "Loss, frame accuracy and cost during training. Training batches: architectures are drawn "
        "from the controller's probabilities; validation: the most probable one, fixed batches."
    )
    figure = pages.add("training", lambda w: figures.training_curves(metrics, w), caption)
    return f"<ul>{state}</ul>{figure}"


def _progress(run_: Run) -> str:
    steps = run_.info.config.train.steps
    if not run_.lines:
        return f"{run_.name}: no metrics yet, of {steps} steps"
    step = run_.lines[-1]["step"]
    end = "" if step >= steps else ", not finished"
    return f"{run_.name}: step {step} of {steps}{end}"


def _cost_per_word(runs: Sequence[Run], pages: Pages) -> str:
    chosen = {r.name: r.lines for r in runs if not r.info.config.model.static and r.lines}
    if not chosen:
        return "<p>A static network costs the same on every frame.</p>"
    full = {run_.name: float(sum(run_.edge_macs.values())) for run_ in runs}
    caption = (
        "What a frame costs, by the word in it, during training (figure 6 of the SANAS paper). "
        "Thin lines are the words; the cheapest and the dearest at the end are named."
    )
    return pages.add("cost_per_word", lambda w: figures.cost_per_word(chosen, full, w), caption)


def _streams(runs: Sequence[Run], pages: Pages, start_s: float | None, seconds: float) -> str:
    """One excerpt per run, of the stream that most runs share, at the same place."""
    views = {
        run_.name: {name: e.view for name, e in run_.evaluations.items() if e.view is not None}
        for run_ in runs
    }
    count: dict[str, int] = {}
    for by_stream in views.values():
        for stream in by_stream:
            count[stream] = count.get(stream, 0) + 1
    preferred = sorted(count, key=lambda name: (-count[name], name))
    out = []
    for run_ in runs:
        name = next((name for name in preferred if name in views[run_.name]), None)
        if name is None:
            out.append(f"<p>{_text(run_.name)}: no stream to show yet.</p>")
            continue
        view = views[run_.name][name]
        same = [by_stream[name] for by_stream in views.values() if name in by_stream]
        start = busiest(same, seconds) if start_s is None else start_s
        end_s = len(view.envelope) * ENVELOPE_S
        if not 0 <= start < end_s:
            raise ValueError(
                f"--excerpt_start_s: expected 0 or more and less than the {end_s:g} s of {name}, "
                f"got {start:g}"
            )
        length = min(seconds, end_s - start)
        caption = (
            f"{run_.name} ({run_.kind}) on {name}, {start:g} to {start + length:g} s. "
            "What the network says of a window of 1 s is drawn at the window's middle, in fuller "
            "colour the higher the posterior; boxes and shades are the words spoken. "
            f"A frame of the stream costs {view.macs.mean() / 1e6:.3g}M MACs on average, the whole "
            f"network {view.full_macs / 1e6:.3g}M."
        )

        def draw(
            width: float, view: StreamView = view, start: float = start, length: float = length
        ) -> Figure:
            return figures.stream(view, start, length, width)

        out.append(f"<h3>{_text(run_.name)}</h3>" + pages.add(f"stream_{run_.name}", draw, caption))
    return "\n".join(out)


def _gates(runs: Sequence[Run], pages: Pages) -> str:
    out = []
    for run_ in runs:
        if run_.info.config.model.static:
            out.append(f"<p>{_text(run_.name)} is static: every edge runs on every frame.</p>")
            continue
        usage, rows, source = gate_table(run_)
        if not rows:
            out.append(f"<p>{_text(run_.name)}: nothing known yet.</p>")
            continue
        edges, macs = list(run_.edge_macs), list(run_.edge_macs.values())

        def draw(
            width: float,
            usage: np.ndarray = usage,
            rows: Sequence[str] = rows,
            edges: Sequence[str] = edges,
            macs: Sequence[int] = macs,
        ) -> Figure:
            return figures.gate_usage(usage, rows, edges, macs, width)

        caption = f"{run_.name} ({run_.kind}): how often each edge runs, by class; {source}."
        out.append(f"<h3>{_text(run_.name)}</h3>" + pages.add(f"gates_{run_.name}", draw, caption))
    return "\n".join(out)


def gate_table(run_: Run) -> tuple[np.ndarray, list[str], str]:
    """Usage [R, E] of each edge, the names of the rows, and what it was measured on.

    All frames first, then the classes that occur, over all streams; without streams one row of the
    last validation.
    """
    known = [(e.labels, e.live) for e in run_.evaluations.values() if e.live is not None]
    if known:
        labels = np.concatenate([pair[0] for pair in known])
        live = np.concatenate([pair[1] for pair in known])
        present = [k for k in range(len(run_.info.classes)) if np.any(labels == k)]
        usage = [live.mean(0), *(live[labels == k].mean(0) for k in present)]
        names = ["all frames", *(plain(run_.info.classes[k]) for k in present)]
        streams = [name for name, e in run_.evaluations.items() if e.live is not None]
        return np.array(usage), names, f"measured on {', '.join(streams)}"
    line = run_.last("validation") or run_.last("training")
    if line is None:
        return np.zeros((0, len(run_.edge_macs))), [], ""
    usage_of = line["gate_usage"]
    source = f"{line['split']} at step {line['step']}, no stream yet"
    return np.array([[usage_of[edge] for edge in run_.edge_macs]]), ["all frames"], source


def _made(runs: Sequence[Run]) -> str:
    out = []
    for run_ in runs:
        info = run_.info
        facts = [
            ("about", info.config.description),
            ("network", f"{sum(run_.edge_macs.values()) / 1e6:.3f}M MACs per frame"),
            (
                "controller",
                f"{run_.controller_macs / 1e6:.4f}M MACs per frame"
                if run_.controller_macs
                else "none",
            ),
            ("classes", ", ".join(map(plain, info.classes))),
            ("data (SHA-256)", info.data_sha256),
            ("training", _progress(run_).partition(": ")[2]),
        ]
        facts += [
            (
                f"stream {name}",
                f"checkpoint {e.result['step']}, threshold {e.result['threshold']:g}",
            )
            for name, e in run_.evaluations.items()
        ]
        commands = [_launch(run_)]
        commands += [_evaluate(run_, e.result) for e in run_.evaluations.values()]
        config = _leaves(config_lib.to_json(info.config))
        out.append(
            f"<h3>{_text(run_.name)}</h3>{_facts(facts)}{_code(commands)}"
            f"<details><summary>The whole config</summary>"
            f"{_facts([(key, _value(value)) for key, value in config.items()])}</details>"
        )
    packages = ("sanas-jax", "jax", "flax", "optax", "numpy", "matplotlib")
    versions = [("python", platform.python_version()), *((p, _version(p)) for p in packages)]
    out.append(f"<h3>Versions, of where this page was made</h3>{_facts(versions)}")
    return "\n".join(out)


def _launch(run_: Run) -> list[str]:
    """The command that trains the run again: the config file it kept, and what was overridden."""
    config_file = run_.path / "config.py"
    default, _ = config_lib.load_config(str(config_file))
    before = _leaves(config_lib.to_json(default))
    words = ["python", "-m", "experiments.launch", "--config", str(config_file)]
    words += ["--data", run_.info.config.data.cache, "--workdir", f"{run_.path}_again"]
    for key, value in _leaves(config_lib.to_json(run_.info.config)).items():
        if value != before[key] and key != "data.cache":
            words += ["--set", f"{key}={_value(value)}"]
    return words


def _evaluate(run_: Run, result: Mapping[str, Any] | None = None) -> list[str]:
    """The command that runs a stream through the run."""
    stream = "stream" if result is None else str(result["stream"])
    words = ["python", "-m", "experiments.evaluate", "--workdir", str(run_.path)]
    words += ["--stream", f"{stream}.wav", "--labels", f"{stream}_labels.txt"]
    if result is not None:
        words += ["--checkpoint", str(result["step"]), "--threshold", f"{result['threshold']:g}"]
    return words


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as `a.b` → value."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out |= _leaves(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def _value(value: Any) -> str:
    """A config value as `--set` takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in pairs)
    return f"<dl>{cells}</dl>"


def _code(commands: Sequence[Sequence[str]]) -> str:
    return f"<pre>{_text(chr(10).join(map(shlex.join, commands)))}</pre>"


def _css() -> str:
    return (
        f":root {{ {figures.css_colors(0)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {figures.css_colors(1)} }} }}\n{_CSS}"
    )


_CSS = """
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; border-top: 1px solid var(--grid);
  padding-top: 1.2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
.lead { color: var(--muted); margin: 0; overflow-wrap: anywhere; }
.note, figcaption { color: var(--muted); font-size: .875rem; overflow-wrap: anywhere; }
figure { margin: .8rem 0 1.6rem; max-width: 64rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto,
  sans-serif !important; }
.narrow { display: none; }
.narrow svg { max-width: 30rem; }
@media (max-width: 640px) { .wide { display: none; } .narrow { display: block; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; white-space: nowrap;
  vertical-align: bottom; font-weight: normal; }
thead th { white-space: normal; line-height: 1.25; color: var(--muted);
  border-bottom: 1px solid var(--muted); }
tbody th { vertical-align: top; font-weight: 600; max-width: 12rem; overflow: hidden;
  text-overflow: ellipsis; }
th:first-child { position: sticky; left: 0; background: var(--surface); }
small { font-weight: normal; color: var(--muted); }
tr.first > * { border-top: 1px solid var(--grid); }
.number { text-align: right; }
pre { white-space: pre-wrap; overflow-wrap: anywhere;
  background: color-mix(in srgb, var(--grid) 35%, var(--surface));
  padding: .7rem .9rem; border-radius: 6px; font-size: .8125rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1rem;
  font-size: .875rem; margin: .5rem 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .5rem 0; } summary { cursor: pointer; font-size: .875rem; }
@media print { .scroll { overflow: visible; } }
"""


def cli() -> None:
    """Console entry point."""
    jax.config.update("jax_platforms", "cpu")  # counts and files: leave an accelerator to others
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
