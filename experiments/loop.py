"""The train loop: steps, metrics, validation, checkpoints. Everything that a kill may interrupt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from experiments import workdir as workdir_lib
from experiments.build import Built, cost_ramp, macs_per_step
from experiments.checkpoints import Checkpoints
from experiments.config import Config
from experiments.data import Data, features
from sanas_jax.augment import Clips, draw_batch
from sanas_jax.features import Frontend
from sanas_jax.training import Batch, Budget, TrainState, make_evaluate, make_update

Metrics = dict[str, Any]


class Keys(NamedTuple):
    """Independent streams of random numbers of one run."""

    init: jax.Array
    statistics: jax.Array
    train: jax.Array
    validate: jax.Array


def run_keys(seed: int) -> Keys:
    """The run's keys, all from its seed."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def make_train_step(config: Config, built: Built, class_weights: jax.Array | None) -> Callable:
    """`(state, clips, frontend, key) -> (state, metrics)`: draw, features, update; one program."""
    update = make_update(built.model, built.optimizer, built.objective, class_weights)

    def train_step(
        state: TrainState, clips: Clips, frontend: Frontend, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        batch_key, gate_key = jax.random.split(jax.random.fold_in(key, state.step))
        audio = draw_batch(clips, built.mix, batch_key, config.train.batch_size)
        weight = config.train.cost_weight * cost_ramp(config, state.step)
        budget = Budget(jnp.asarray(weight, jnp.float32), jnp.float32(config.train.cost_limit))
        return update(state, features(frontend, audio), gate_key, budget)

    return jax.jit(train_step, donate_argnums=0)


def make_validation(config: Config, built: Built, class_weights: jax.Array | None) -> Callable:
    """`(params, batches, key) -> list of metrics` on fixed batches, gates at their mode."""
    evaluate = jax.jit(make_evaluate(built.model, built.objective, class_weights))

    def validate(params: Any, batches: Sequence[Batch], key: jax.Array) -> list[Metrics]:
        return [evaluate(params, batch, key) for batch in batches]

    return validate


def draw_validation(
    config: Config, built: Built, clips: Clips, frontend: Frontend, key: jax.Array
) -> list[Batch]:
    """The batches of every validation: the same at each, whatever the training seed's step."""

    @jax.jit
    def draw(key: jax.Array) -> Batch:
        return features(frontend, draw_batch(clips, built.mix, key, config.train.batch_size))

    return [draw(k) for k in jax.random.split(key, config.train.eval_batches)]


def summarize(
    collected: Sequence[Metrics],
    classes: Sequence[str],
    edge_macs: dict[str, int],
    controller_macs: int,
) -> dict[str, Any]:
    """Metrics of several batches as one JSON object: means, MACs per frame, gate usage."""
    host = jax.device_get(list(collected))
    out: dict[str, Any] = {
        name: float(np.mean([m[name] for m in host]))
        for name in host[0]
        if np.ndim(host[0][name]) == 0
    }
    live = np.sum([m["live_by_label"] for m in host], axis=0, dtype=np.float64)
    frames = np.sum([m["confusion"] for m in host], axis=0, dtype=np.float64).sum(1)
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


class Journal:
    """metrics.jsonl and TensorBoard events, written line by line."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        """Open for appending; lines after `resume_step` are dropped first."""
        workdir_lib.truncate_metrics(folder, resume_step)
        self._file = open(folder / "metrics.jsonl", "a")  # noqa: SIM115  closed in close()
        self._board = SummaryWriter(str(folder), purge_step=resume_step + 1, flush_secs=10)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """One line."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            scalars = value if isinstance(value, dict) else {"": value}
            for part, scalar in scalars.items():
                if isinstance(scalar, float | int):
                    tag = f"{split}/{name}" + (f"/{part}" if part else "")
                    self._board.add_scalar(tag, scalar, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


class Front:
    """Parameters on the validation cost/accuracy front, at most `size` of them."""

    def __init__(self, folder: Path, size: int, resume_step: int) -> None:
        """Open; points after `resume_step` are dropped, the run will find them again."""
        self._checkpoints = Checkpoints(folder / "front")
        self._path = folder / "front.json"
        self._size = size
        points = json.loads(self._path.read_text()) if self._path.is_file() else []
        on_disk = set(self._checkpoints.steps())
        self.points = [p for p in points if p["step"] <= resume_step and p["step"] in on_disk]
        for step in on_disk - {p["step"] for p in self.points}:
            self._checkpoints.delete(step)

    def offer(self, step: int, cost: float, accuracy: float, params: Any) -> None:
        """Keep the parameters if nothing kept is both cheaper and better."""
        point = {"step": step, "macs_per_frame": cost, "frame_accuracy": accuracy}
        kept = thin_front([*self.points, point], self._size)
        if point in kept:
            self._checkpoints.save(step, params)
        # The list is written before anything is deleted: a kill in between leaves no loose end.
        workdir_lib.write_atomic(self._path, json.dumps(kept, indent=1) + "\n")
        for old in self.points:
            if old not in kept:
                self._checkpoints.delete(old["step"])
        self.points = kept


def thin_front(points: Sequence[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The points that no other dominates, by cost; beyond `size`, the smallest gains go first."""
    front: list[dict[str, Any]] = []
    # A later step replaces an equal earlier one.
    order = sorted(points, key=lambda p: (p["macs_per_frame"], -p["frame_accuracy"], -p["step"]))
    for point in order:
        if not front or point["frame_accuracy"] > front[-1]["frame_accuracy"]:
            front.append(point)
    while len(front) > size:
        gains = [b["frame_accuracy"] - a["frame_accuracy"] for a, b in pairwise(front)]
        del front[1 + int(np.argmin(gains)) if len(front) > 2 else 0]
    return front


def run_loop(
    config: Config,
    built: Built,
    data: Data,
    info: workdir_lib.RunInfo,
    state: TrainState,
    workdir: Path,
) -> TrainState:
    """Train from the latest checkpoint, or from `state`, to the last step."""
    keys = run_keys(config.train.seed)
    weights = info.class_weights if config.train.class_weighted else None
    latest = Checkpoints(workdir / "checkpoints", keep=2)
    if latest.steps():
        # Resume order: state first, then everything that may have run ahead of it is cut back.
        state = latest.restore(latest.steps()[-1], state)
    start = int(state.step)
    journal = Journal(workdir, start)
    front = Front(workdir, config.train.front_size, start)
    macs, controller = macs_per_step(built.model, config.model.static)
    train_step = make_train_step(config, built, weights)
    validate = make_validation(config, built, weights)
    batches = draw_validation(config, built, data.validation, info.frontend, keys.validate)
    if start:
        tqdm.write(f"resuming at step {start} of {config.train.steps}")

    collected: list[Metrics] = []
    bar = tqdm(
        total=config.train.steps, initial=start, unit="step", mininterval=1.0, dynamic_ncols=True
    )
    try:
        for step in range(start + 1, config.train.steps + 1):
            state, metrics = train_step(state, data.training, info.frontend, keys.train)
            collected.append(metrics)
            bar.update()
            last = step == config.train.steps
            if step % config.train.log_every == 0 or last:
                line = summarize(collected, info.classes, macs, controller)
                collected = []
                _check_finite(line, step, latest.steps())
                journal.write(step, "training", line)
                bar.set_postfix_str(_describe(line))
            if step % config.train.eval_every == 0 or last:
                results = validate(state.params, batches, keys.validate)
                line = summarize(results, info.classes, macs, controller)
                journal.write(step, "validation", line)
                bar.write(f"step {step}: validation {_describe(line)}")
                front.offer(step, line["macs_per_frame"], line["frame_accuracy"], state.params)
                latest.save(step, state)  # last: everything before it is recomputed if it fails
    finally:
        bar.close()
        journal.close()
    return state


def _describe(line: dict[str, Any]) -> str:
    return (
        f"loss {line['loss']:.3f}, frame accuracy {line['frame_accuracy']:.1%}, "
        f"{line['macs_per_frame'] / 1e6:.2f}M MACs/frame"
    )


def _check_finite(line: dict[str, Any], step: int, saved: Sequence[int]) -> None:
    if not math.isfinite(line["loss"]) or not math.isfinite(line["grad_norm"]):
        where = f"the checkpoint of step {saved[-1]} is intact" if saved else "no checkpoint yet"
        raise ValueError(
            f"training diverged by step {step}: expected a finite loss and gradient, got "
            f"{line['loss']} and {line['grad_norm']}; {where}"
        )
