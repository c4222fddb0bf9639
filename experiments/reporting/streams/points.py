"""Cost against accuracy: a point per run, price that it was told, and detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.reporting.points import Measured
from experiments.reporting.run_record import Evaluation, RunRecord, final_price, in_sight
from experiments.runs.stored_results import Setting, detector_suffix


class StreamPoint(NamedTuple):
    """A run on its streams, at one price, with one detector.

    Fields:
      run: its name.
      kind: one of `run_record.KINDS`.
      label: the kind with the budget or price, and the detector if not the protocol's, as shown.
      setting: how it was evaluated.
      detector: one of `stored_results.DETECTORS`.
      calibrated_for: false alarms per hour that it was asked for; None where no rate was named.
      budget: MACs per frame that were asked for, if any were: of training, or of a conditioned run.
      cost_weight: λ that the network was told, or that it ended its training at; None if static.
      seed: of training.
      full_macs_per_frame: of the whole network.
      streams: their names.
      macs_per_frame to frame_accuracy: the results' figures of these names, over the streams.
      negatives: false alarms an hour on audio without words, `per_hour` with 95 % bounds `low` and
        `high`, and the `hours` heard, by its name.
    """

    run: str
    kind: str
    label: str
    setting: Setting
    detector: str
    calibrated_for: float | None
    budget: float | None
    cost_weight: float | None
    seed: int
    full_macs_per_frame: int
    streams: tuple[str, ...]
    macs_per_frame: Measured
    macs_per_frame_with_controller: Measured
    correct_pct: Measured
    wrong_pct: Measured
    match_pct: Measured
    false_alarm_pct: Measured
    false_alarms_per_hour: Measured
    frame_accuracy: Measured
    negatives: dict[str, dict[str, float]]


def stream_points(runs: Sequence[RunRecord]) -> list[StreamPoint]:
    """A point per run that was evaluated, price and detector, in the order of the runs."""
    return [
        _point(run, setting, evaluations)
        for run in runs
        for setting, evaluations in run.by_setting().items()
    ]


def one_detector_per_run(points: Sequence[StreamPoint]) -> list[StreamPoint]:
    """The points of the detector that is shown of each run (`in_sight`)."""
    of_run: dict[str, list[Setting]] = {}
    for point in points:
        of_run.setdefault(point.run, []).append(point.setting)
    shown = {run: in_sight(settings) for run, settings in of_run.items()}
    return [point for point in points if point.setting in shown[point.run]]


def _point(run: RunRecord, setting: Setting, evaluations: Sequence[Evaluation]) -> StreamPoint:
    price, detector = setting.price, setting.detector
    results = [evaluation.result for evaluation in evaluations]
    label = run.label if price is None else f"SANAS told λ={price:.3g}"

    def over_streams(name: str) -> Measured:
        values = [getattr(result, name) for result in results]
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Measured(float(np.mean(values)), sd)

    return StreamPoint(
        run=run.name,
        kind=run.kind,
        label=label + detector_suffix(detector, setting.rate) + run.step_suffix(setting.step),
        setting=setting,
        detector=detector,
        calibrated_for=setting.rate,
        budget=run.budget if price is None else results[0].budget,
        cost_weight=final_price(run) if price is None else price,
        seed=run.info.config.train.seed,
        full_macs_per_frame=run.full_macs,
        streams=tuple(result.stream for result in results),
        macs_per_frame=over_streams("macs_per_frame"),
        macs_per_frame_with_controller=over_streams("macs_per_frame_with_controller"),
        correct_pct=over_streams("correct_pct"),
        wrong_pct=over_streams("wrong_pct"),
        match_pct=over_streams("match_pct"),
        false_alarm_pct=over_streams("false_alarm_pct"),
        false_alarms_per_hour=over_streams("false_alarms_per_hour"),
        frame_accuracy=over_streams("frame_accuracy"),
        negatives={
            each.shown: {
                "per_hour": each.alarms_per_hour,
                "low": each.alarms_per_hour_low,
                "high": each.alarms_per_hour_high,
                "hours": each.seconds / 3600,
            }
            for each in run.negatives
            if each.setting == setting
        },
    )
