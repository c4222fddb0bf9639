"""Runs in the train loop: groups that one program trains, and what is written of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_prep.command.progress import print_above
from experiments.machine.multihost import is_first
from experiments.runs.checkpoints import Checkpoints
from experiments.training.job import TrainingRun
from experiments.training.run_log import Front, Journal
from sanas_jax.sharding import BUDGET, jit_onto, place
from sanas_jax.training.budgets import Member

Metrics = dict[str, Any]
Line = dict[str, Any]


class Group:
    """Runs that one program trains: members, targets and keys stacked, [G, ...].

    `metrics` are those of the steps since they were last written, fields [G, K, ...] for K steps.
    """

    def __init__(self, runs: Sequence[TrainingRun], mesh: Mesh | None = None) -> None:
        """Stack, each device of the mesh having its part of the runs."""

        def stack(parts: Sequence[Any]) -> Any:
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

        by_run = jit_onto(stack, mesh, BUDGET)
        self.members = by_run([run.member for run in runs])
        self.targets = by_run(place([run.target for run in runs], mesh))
        self.keys = by_run(place([run.keys.train for run in runs], mesh))
        self.metrics: list[Metrics] = []
        # On all devices: written by one process, read by all.
        self._entry, self._whole = jit_onto(_entry, mesh), jit_onto(lambda tree: tree, mesh)

    def entry(self, tree: Any, index: int) -> Any:
        """What is one run's of what is stacked."""
        return self._entry(tree, np.int32(index))

    def take_metrics(self) -> list[Metrics]:
        """What was computed since the last time, on the host, fields [G, K, ...]."""
        host, self.metrics = jax.device_get(self.metrics), []
        return host

    def alive(self) -> np.ndarray:
        """Which runs have not diverged, [G]."""
        return np.asarray(self._whole(self.members.alive))


class RunRecorder:
    """One run of a group: what it writes while it trains, until it ends or diverges."""

    def __init__(
        self,
        run: TrainingRun,
        group: Group,
        index: int,
        summarize: Callable[[Sequence[Metrics]], Line],
    ) -> None:
        """Open the run's files at the step where it stands."""
        self.run, self.group, self.index = run, group, index
        self.alive = bool(run.member.alive)
        self.line: Line = {}
        self._summarize = summarize
        # Resume order: the state was read first; what may have run ahead of it is cut back here.
        self._journal = Journal(run.workdir, run.step)
        self._front = Front(run.workdir, run.info.config.train.front_size, run.step)
        self._latest = Checkpoints(run.workdir / "checkpoints", keep=2)

    @property
    def member(self) -> Member:
        """The run's state as it is now."""
        return self.group.entry(self.group.members, self.index)

    def log(self, step: int, metrics: Sequence[Metrics], *, alive: bool) -> None:
        """Write a line of training; a run that has just diverged says so, its last one.

        Args:
          step: of training.
          metrics: of the group's steps since the last line, on the host, fields [G, K, ...].
          alive: whether it is by now.
        """
        own = [_entry(m, self.index) for m in metrics]
        self.line = self._summarize([_entry(m, k) for m in own for k in range(len(m["loss"]))])
        self.alive = alive
        if self.alive:
            self._journal.write(step, "training", self.line)
            return
        reason = (
            "expected a finite loss and gradient, got "
            f"{self.line['loss']} and {self.line['grad_norm']}"
        )
        self._journal.write(step, "diverged", {"reason": reason})
        kept = self._kept()
        if is_first():
            print_above(f"{self.run.workdir}: diverged by step {step}, {reason}; {kept}")

    def validate(self, step: int, results: Sequence[Metrics], prices: Sequence[float]) -> None:
        """Write a line of validation and offer the parameters to the front.

        Args:
          step: of training.
          results: per batch, fields [G, P, ...].
          prices: P; with several, the line is that of the middle one.
        """
        own = [_entry(metrics, self.index) for metrics in results]
        lines = [self._summarize([_entry(m, p) for m in own]) for p in range(len(prices))]
        self.line = lines[len(lines) // 2]
        if len(prices) > 1:
            self.line["calibration"] = [
                {"cost_weight": price} | {k: line[k] for k in ("macs_per_frame", "frame_accuracy")}
                for price, line in zip(prices, lines, strict=True)
            ]
        self._journal.write(step, "validation", self.line)
        cost, accuracy = self.line["macs_per_frame"], self.line["frame_accuracy"]
        self._front.offer(step, cost, accuracy, self.member.train.deployed)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        self._latest.save(step, self.member)

    def close(self) -> None:
        """Release the files."""
        self._journal.close()

    def _kept(self) -> str:
        saved = self._latest.steps()
        return f"the checkpoint of step {saved[-1]} is intact" if saved else "no checkpoint yet"


def _entry(tree: Any, index: Any) -> Any:
    """One entry of a leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def summarize(
    collected: Sequence[Metrics],
    classes: Sequence[str],
    edge_macs: dict[str, int],
    controller_macs: int,
    unit: float = 1.0,
) -> dict[str, Any]:
    """Metrics of several batches as one JSON object: means, MACs per frame, gate usage.

    `unit` turns the objective's cost into `charged`, in the unit that a budget is asked in.
    """
    out: dict[str, Any] = {
        name: float(np.mean([m[name] for m in collected]))
        for name in collected[0]
        if np.ndim(collected[0][name]) == 0
    }
    out["charged"] = out["cost"] * unit
    live = np.sum([m["live_by_label"] for m in collected], axis=0, dtype=np.float64)
    frames = np.array([m["steps_by_label"] for m in collected], np.float64).sum(0)
    per_edge = np.array(list(edge_macs.values()), np.float64)
    by_label = live @ per_edge / np.maximum(frames, 1)
    out["macs_per_frame"] = float(live.sum(0) @ per_edge / frames.sum())
    out["macs_per_frame_with_controller"] = out["macs_per_frame"] + controller_macs
    out["macs_per_frame_by_label"] = {
        name: float(macs)
        for name, macs, count in zip(classes, by_label, frames, strict=True)
        if count
    }
    usage = live.sum(0) / frames.sum()
    out["gate_usage"] = dict(zip(edge_macs, map(float, usage), strict=True))
    return out
