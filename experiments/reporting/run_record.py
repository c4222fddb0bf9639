"""What runs left in their folders, and what they were evaluated on, as data to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config.build import in_units
from experiments.config.costs import Charged
from experiments.config.wording import plain, short
from experiments.runs import folder as run_folder
from experiments.runs.stored_negatives import NegativeResult
from experiments.runs.stored_results import Detected as Result
from experiments.runs.stored_results import ImageResult, Setting, StreamResult
from sanas_jax.graph import Net

KINDS = ("static", "adaptive", "constant", "conditioned")


class Evaluation(NamedTuple):
    """A stream that `evaluate` ran: its result, the view of it, labels [T], live [T, E]."""

    result: StreamResult
    view: StreamView
    labels: np.ndarray
    live: np.ndarray


class RunRecord(NamedTuple):
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
      evaluations: by name as in `stored_results.result_files`: a stream, price and detector each.
      tested: what `evaluate` found on splits of images, "testing" first, by rising price; of such
        a run, which has no streams.
      negatives: what it found on audio without words.
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
    tested: list[ImageResult]
    negatives: Sequence[NegativeResult] = ()

    @property
    def of_images(self) -> bool:
        """Whether it is of images, which are no streams."""
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
            out.setdefault(evaluation.result.setting, []).append(evaluation)

        def order(s: Setting) -> tuple[float, bool, float, int]:
            return s.price or 0.0, s.detector != "default", s.rate or 0.0, -s.step

        return {setting: out[setting] for setting in sorted(out, key=order)}

    def by_price(self) -> dict[float | None, list[Evaluation]]:
        """The streams of the detector that is shown, by rising price; None for no price."""
        settings = self.by_setting()
        return {setting.price: settings[setting] for setting in in_sight(settings)}

    def shown_as(self, result: Result) -> str:
        """What was heard, the price that was told, and the detector if not the protocol's."""
        return result.shown + result.suffix + self.step_suffix(result.step)

    def step_suffix(self, step: int) -> str:
        """What says a step, where not all results of the run are of one."""
        results = [*(e.result for e in self.evaluations.values()), *self.negatives]
        return f", step {step}" if len({result.step for result in results}) > 1 else ""

    @property
    def typical(self) -> list[Evaluation]:
        """The streams of the detector that is shown, at the middle of several prices."""
        groups = list(self.by_price().values())
        return groups[len(groups) // 2] if groups else []


def gate_table(run: RunRecord) -> tuple[np.ndarray, list[str], str]:
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
        heard = ", ".join(run.shown_as(e.result) for e in run.typical)
        return np.array(usage), names, f"measured on {heard}"
    line = run.last("training", "validation")
    assert line is not None, "the caller asks only where something is known"
    row = [line["gate_usage"][edge] for edge in run.edge_macs]
    return np.array([row]), ["all frames"], f"{line['split']} at step {line['step']}, no stream yet"


def in_sight(settings: Iterable[Setting]) -> list[Setting]:
    """What is shown where only one detector is: one setting for each price.

    Of the last step; of the calibrated detector where it was used, of one that no rate was named
    for before others.
    """
    every = list(settings)
    kept: dict[float | None, Setting] = {}

    def rank(s: Setting) -> tuple[int, bool, bool, float]:
        return -s.step, s.detector == "default", s.rate is not None, s.rate or 0.0

    for setting in every:
        if rank(setting) == min(map(rank, every)):
            kept.setdefault(setting.price, setting)
    return list(kept.values())


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
      envelope: peaks of the signal, one every `ENVELOPE_S`.
      truth: (word, start in s), each `WORD_S` long.
      detections: in order of time.
    """

    classes: Sequence[str]
    times_s: np.ndarray
    posteriors: np.ndarray
    macs: np.ndarray
    full_macs: float
    envelope: np.ndarray
    truth: Sequence[tuple[str, float]]
    detections: Sequence[Detected]


def final_price(run: RunRecord) -> float | None:
    """λ at the end of training; None for a static run, and for one that learns every price."""
    if run.kind in ("static", "conditioned"):
        return None
    if run.budget is None:
        return run.info.config.train.cost_weight
    return (run.last("training") or {}).get("cost_weight")
