"""Trained models on labelled streams: every figure of the streaming protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.datasets.streams import Stream, to_draw
from experiments.evaluation.scoring import requested_macs, score_model
from experiments.evaluation.stream_inference import run_models
from experiments.runs.stored_results import StreamResult, save_stream_result
from experiments.runs.trained import TrainedModel
from sanas_jax.streaming.detector import Detector


def evaluate_streams(
    models: Sequence[TrainedModel],
    streams: Sequence[Stream],
    detectors: Mapping[tuple[Path, float | None], tuple[Detector, dict[str, Any]]],
    budgets: Sequence[float],
    tolerance_ms: float,
    budgets_per_step: int | None = None,
) -> list[StreamResult]:
    """A result per model, price and stream, each kept in the model's folder unless that is packed.

    Args:
      models: trained on audio.
      streams: that all of them can hear.
      detectors: as of `detectors_of`.
      budgets: MACs per frame for which prices of conditioned models were looked up, if they were.
      tolerance_ms: largest distance between a detection and a word.
      budgets_per_step: runs per program, as in the train loop.
    """
    results = []
    for run in run_models(models, streams, budgets_per_step):
        folder = run.model.workdir
        detector, described = detectors[folder, run.price]
        budget = requested_macs(run.model, run.price, budgets)
        result = score_model(run, detector, described, budget, tolerance_ms)
        save_stream_result(folder, result, run.trace, to_draw(run.stream))
        results.append(result)
    return results


def stream_summary(result: StreamResult) -> str:
    """The figures on a few lines."""
    share = result.macs_per_frame / result.full_macs_per_frame
    incremental, milliseconds = result.macs_per_frame_incremental, result.ms_per_frame
    assert incremental is not None, "of a result just measured"
    assert milliseconds is not None, "of a result just measured"
    assert result.frontend_macs is not None, "of a result just measured"
    front = f"the front end {result.frontend_macs / 1e6:.3f}M"
    if not result.frontend_macs:
        front = "the front end is among the edges"
    return (
        f"{result.workdir} step {result.step}{result.suffix} on {result.stream}: "
        f"{result.num_words} words, {result.seconds:.0f} s\n"
        f"  match {result.match_pct:.1f} %, correct {result.correct_pct:.1f} %, "
        f"wrong {result.wrong_pct:.1f} %, false alarms {result.false_alarm_pct:.1f} % "
        f"({result.false_alarms_per_hour:.1f} per hour)\n"
        f"  {result.macs_per_frame / 1e6:.3f}M MACs/frame ({share:.1%} of the full network), "
        f"{result.macs_per_frame_with_controller / 1e6:.3f}M with the controller, "
        f"{incremental / 1e6:.3f}M for new rows only; "
        f"{front}\n"
        f"  frame accuracy {result.frame_accuracy:.1%}, "
        f"{milliseconds:.2f} ms per frame in this batched run"
    )
