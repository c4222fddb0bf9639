"""The streaming protocol: from posteriors along a stream to detections, scores and costs.

Counted as TensorFlow's streaming accuracy test does, with which the SANAS paper was measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.datasets.streams import Stream
from experiments.evaluation.stream_inference import ModelRun
from experiments.runs.stored_results import StreamResult, Trace
from experiments.runs.trained import TrainedModel
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.streaming.detector import Detection, Detector, detect
from sanas_jax.streaming.scores import score_stream

ROC_THRESHOLDS = (*np.arange(0.2, 0.95, 0.05).round(2).tolist(), 0.95, 0.97, 0.99)

ROC_SCORES = ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct", "false_alarms_per_hour")


def score_model(
    run: ModelRun,
    detector: Detector,
    described: dict[str, Any],
    budget: float | None,
    tolerance_ms: float,
) -> StreamResult:
    """The protocol's figures for one model on one stream.

    Args:
      run: of the model over the stream.
      detector: what makes detections of its posteriors.
      described: what the result says of the detector.
      budget: MACs per frame that were asked for, if any were.
      tolerance_ms: largest distance between a detection and a word.
    """
    model, stream, trace = run.model, run.stream, run.trace
    classes = model.info.classes
    detections = detect(trace.posteriors, trace.times_ms, detector)
    return StreamResult(
        workdir=model.name,
        step=model.step,
        static=model.static,
        cost_weight=run.price,
        budget=budget,
        ms_per_frame=run.ms_per_frame,
        detector=described,
        stream=stream.name,
        threshold=detector.threshold,
        tolerance_ms=tolerance_ms,
        **score(stream, detections, classes, tolerance_ms),
        frontend_macs=model.frontend_macs(),
        **costs(trace, model.edge_macs, model.controller_macs, classes),
        roc=roc(stream, trace, detector, classes, tolerance_ms),
        detections=[
            {"word": classes[d.label], "ms": int(d.time_ms), "score": float(d.score)}
            for d in detections
        ],
        **incremental_scores(model, trace),
    )


def requested_macs(
    model: TrainedModel, price: float | None, budgets: Sequence[float]
) -> float | None:
    """MACs per frame that were asked of a model at this price; None if nothing was.

    Args:
      model: trained.
      price: λ that it was told; None if it hears none.
      budgets: for which its prices were looked up, if they were.
    """
    if price is None:
        return model.info.config.train.budget
    return budgets[model.prices.index(price)] if budgets else None


def roc(
    stream: Stream, trace: Trace, detector: Detector, classes: Sequence[str], tolerance_ms: float
) -> list[dict[str, float]]:
    """Scores at other thresholds, from the same posteriors."""
    out = []
    for threshold in sorted({*ROC_THRESHOLDS, detector.threshold}):
        other = dataclasses.replace(detector, threshold=threshold)
        found = detect(trace.posteriors, trace.times_ms, other)
        counted = score(stream, found, classes, tolerance_ms)
        out.append({"threshold": threshold} | {name: counted[name] for name in ROC_SCORES})
    return out


def score(
    stream: Stream, detections: Sequence[Detection], classes: Sequence[str], tolerance_ms: float
) -> dict[str, Any]:
    """Percentages over the stream's words under both counting rules."""
    seconds = len(stream.samples) / stream.rate
    truth = [classes.index(word) for word in stream.words]
    out: dict[str, Any] = {"num_words": len(truth), "seconds": seconds}
    for rule, suffix in (("set", ""), ("list", "_list_rule")):
        counted = score_stream(
            detections, truth, stream.times_ms, tolerance_ms=tolerance_ms, rule=rule
        )
        for name in ("match_pct", "correct_pct", "wrong_pct", "false_alarm_pct"):
            out[name + suffix] = getattr(counted, name)
        if rule == "set":
            out["false_alarms_per_hour"] = counted.false_alarms_per_hour(seconds)
    return out


def costs(
    trace: Trace, edge_macs: dict[str, int], controller_macs: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Cost and usage of the live edges, frame accuracy."""
    macs = trace.live @ np.array(list(edge_macs.values()), np.float64)
    present = [k for k in range(len(classes)) if np.any(trace.labels == k)]
    names = {0: "silence", 1: "unknown"}
    return {
        "macs_per_frame": float(macs.mean()),
        "macs_per_frame_with_controller": float(macs.mean()) + controller_macs,
        "full_macs_per_frame": sum(edge_macs.values()),
        "macs_per_frame_by_label": {
            names.get(k, classes[k]): float(macs[trace.labels == k].mean()) for k in present
        },
        "frame_accuracy": float(np.mean(trace.posteriors.argmax(1) == trace.labels)),
        "gate_usage": dict(zip(edge_macs, map(float, trace.live.mean(0)), strict=True)),
    }


def incremental_scores(model: TrainedModel, trace: Trace) -> dict[str, Any]:
    """MACs per frame of a runtime that keeps the rows of the trunk that it has computed."""
    net, hop = model.sanas.net, model.sanas.hop
    spent = np.asarray(incremental_macs(net, hop).along(jnp.asarray(trace.live)), np.float64)
    return {
        "macs_per_frame_incremental": float(spent.mean()),
        "full_macs_per_frame_incremental": sum(fresh_macs(net, hop).values()),
    }
