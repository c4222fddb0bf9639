"""What runs left in their folders, and what they were evaluated on, as data to show."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config.build import in_units, macs_per_step, rebuild
from experiments.config.costs import Charged
from experiments.figures.style import short
from experiments.figures.training import plain
from experiments.reporting.streams.excerpt_figure import Detected, StreamView
from experiments.runs import folder as run_folder
from experiments.runs.stored_results import detector_of, parsed, result_files, told
from sanas_jax.graph import Net

# Splits of images, the most telling first, and what a result on one must have.
SPLITS = ("testing", "validation", "training")
IMAGE_RESULT = (
    *("step", "split", "accuracy_pct", "charged", "full_charged", "unit", "costs", "full_costs"),
    *("budget", "cost_weight", "probability", "live"),
)
KINDS = ("static", "adaptive", "constant", "conditioned")


class Evaluation(NamedTuple):
    """A stream that `evaluate` ran: its JSON, the view of it, labels [T], live [T, E]."""

    result: dict[str, Any]
    view: StreamView
    labels: np.ndarray
    live: np.ndarray


class Setting(NamedTuple):
    """How a run was evaluated: the price λ that it was told, if any, and a detector's name."""

    price: float | None
    detector: str


class Run(NamedTuple):
    """A run as read from its folder.

    Fields:
      name: of its own in the report.
      path: of its folder.
      info: what was launched.
      net: the super-network.
      edge_macs: edge → MACs per frame.
      controller_macs: per frame, 0 for a static network.
      charged: what was charged, and its unit.
      lines: of metrics.jsonl.
      evaluations: by name as in `evaluations.result_files`: a stream, price and detector each.
      tested: what `evaluate` found on splits of images, "testing" first, by rising price; of such
        a run, which has no streams.
    """

    name: str
    path: Path
    info: run_folder.RunInfo
    net: Net
    edge_macs: dict[str, int]
    controller_macs: int
    charged: Charged
    lines: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    tested: list[dict[str, Any]]

    @property
    def of_images(self) -> bool:
        """Whether it is of images, each a stream of one step."""
        return self.info.input_shape is not None

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        model = self.info.config.model
        if model.static:
            return "static"
        if model.conditioned:
            return "conditioned"
        return "constant" if model.cell == "constant" else "adaptive"

    @property
    def static(self) -> bool:
        """Whether every edge runs on every frame."""
        return self.kind == "static"

    @property
    def budget(self) -> float | None:
        """MACs per frame that were asked for, or units of what was charged."""
        budget = self.info.config.train.budget
        return None if budget is None else in_units(budget, self.charged)

    @property
    def label(self) -> str:
        """The kind, with the budget or the price it was trained for."""
        if self.static:
            return "static"
        name = "constant Γ" if self.kind == "constant" else "SANAS"
        if self.of_images:
            name = "BSN"
        if self.kind == "conditioned":
            return f"{name} any λ"
        train = self.info.config.train
        limit = f", {train.cost_limit:.0%} free" if train.cost_limit else ""
        asked = short(self.budget) if self.budget else f"λ={train.cost_weight:g}{limit}"
        unit = f" {self.charged.unit}" if self.budget and self.charged.unit != "MACs" else ""
        return f"{name} {asked}{unit}"

    @property
    def full_macs(self) -> int:
        """MACs per frame of the whole network."""
        return sum(self.edge_macs.values())

    @property
    def diverged(self) -> str | None:
        """Where and why training ended early."""
        line = self.last("diverged")
        return f"diverged at step {line['step']}: {line['reason']}" if line else None

    def last(self, *splits: str) -> dict[str, Any] | None:
        """The last line of metrics of these splits."""
        return next((line for line in reversed(self.lines) if line["split"] in splits), None)

    def by_setting(self) -> dict[Setting, list[Evaluation]]:
        """Streams at each price, rising, and of each detector, the protocol's first."""
        out: dict[Setting, list[Evaluation]] = {}
        for evaluation in self.evaluations.values():
            result = evaluation.result
            setting = Setting(result.get("cost_weight"), detector_of(result))
            out.setdefault(setting, []).append(evaluation)
        calibrated_last = sorted(out, key=lambda s: (s.price or 0.0, s.detector != "default"))
        return {setting: out[setting] for setting in calibrated_last}

    @property
    def detector(self) -> str:
        """The detector that is shown where only one is: the calibrated one where it was used."""
        kinds = {setting.detector for setting in self.by_setting()}
        return "calibrated" if "calibrated" in kinds else "default"

    def by_price(self) -> dict[float | None, list[Evaluation]]:
        """The streams of the detector that is shown, by rising price; None for no price."""
        settings = self.by_setting().items()
        return {price: group for (price, kind), group in settings if kind == self.detector}

    @property
    def typical(self) -> list[Evaluation]:
        """The streams of the detector that is shown, at the middle of several prices."""
        groups = list(self.by_price().values())
        return groups[len(groups) // 2] if groups else []


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Runs and the members of sweeps, each folder once.

    They are named as their folders, or by their paths if folders share a name.
    """
    unique = run_folder.expand_sweeps(paths)
    names = [path.resolve().name for path in unique]
    if len(set(names)) < len(names):
        names = list(map(str, unique))
    return [read_run(path, name) for path, name in zip(unique, names, strict=True)]


def read_run(path: Path, name: str) -> Run:
    """A run and what it was evaluated on; ValueError for what is not one."""
    info = run_folder.read(path)
    built = rebuild(info)
    model = built.model
    edge_macs, controller_macs = macs_per_step(model, info.config.model.static)
    evaluations, tested = {}, []
    if info.input_shape is not None:
        tested = sorted(
            (parsed(file, _image_result) for file in (path / "evaluations").glob("*.json")),
            key=lambda result: (SPLITS.index(result["split"]), result["cost_weight"] or 0.0),
        )
    else:
        window_s = model.window * info.frontend.hop / info.frontend.sample_rate
        evaluations = {
            key: _read_evaluation(file, info.classes, list(edge_macs.values()), window_s)
            for key, file in result_files(path).items()
        }
    return Run(
        name,
        path,
        info,
        model.net,
        edge_macs,
        controller_macs,
        built.charged,
        list(run_folder.read_metrics(path)),
        evaluations,
        tested,
    )


def verdicts(
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


def gate_table(run: Run) -> tuple[np.ndarray, list[str], str]:
    """Usage [R, E] of each edge, the names of the rows, and what it was measured on.

    All frames first, then the classes that occur, over all streams (at the middle price where there
    are several); without streams one row of the last line of metrics.
    """
    if run.evaluations:
        labels = np.concatenate([e.labels for e in run.typical])
        live = np.concatenate([e.live for e in run.typical])
        present = np.unique(labels)
        usage = [live.mean(0), *(live[labels == k].mean(0) for k in present)]
        names = ["all frames", *(plain(run.info.classes[k]) for k in present)]
        return np.array(usage), names, f"measured on {', '.join(map(shown_as, run.typical))}"
    line = run.last("training", "validation")
    assert line is not None, "the caller asks only where something is known"
    row = [line["gate_usage"][edge] for edge in run.edge_macs]
    return np.array([row]), ["all frames"], f"{line['split']} at step {line['step']}, no stream yet"


def shown_as(evaluation: Evaluation) -> str:
    """The stream, the price that the network was told, and the detector if not the protocol's."""
    return evaluation.result["stream"] + told(evaluation.result)


def _image_result(result: Any) -> dict[str, Any]:
    """The result, if it has all that is shown of it."""
    if result["split"] not in SPLITS:
        raise ValueError(f"unknown split {result['split']!r}")
    return result | {name: result[name] for name in IMAGE_RESULT}


def _stream_result(result: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result, and its detections with their words as shown."""
    found = [{**d, "word": plain(d["word"])} for d in result["detections"]]
    return result | {"tolerance_ms": result["tolerance_ms"]}, found


def _read_evaluation(
    file: Path, classes: Sequence[str], edge_macs: Sequence[int], window_s: float
) -> Evaluation:
    """What `evaluate` wrote; its times are of windows' starts, shown are their middles."""
    result, found = parsed(file, _stream_result)
    with np.load(file.with_suffix(".npz")) as arrays:
        data = dict(arrays)
    words = [plain(str(word)) for word in data["truth_words"]]
    truth = sorted(zip(words, data["truth_ms"].tolist(), strict=True), key=lambda pair: pair[1])
    outcomes = verdicts(found, truth, result["tolerance_ms"])
    view = StreamView(
        classes=[plain(name) for name in classes],
        times_s=data["times_ms"] / 1000 + window_s / 2,
        posteriors=data["posteriors"],
        macs=data["live"] @ np.array(edge_macs, float),
        full_macs=sum(edge_macs),
        envelope=data["envelope"],
        truth=[(word, ms / 1000) for word, ms in truth],
        detections=[
            Detected(d["word"], d["ms"] / 1000 + window_s / 2, outcome)
            for d, outcome in zip(found, outcomes, strict=True)
        ],
    )
    return Evaluation(result, view, data["labels"], data["live"])
