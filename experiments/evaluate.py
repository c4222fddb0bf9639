"""The streaming protocol: `python -m experiments.evaluate --workdir W --stream s.wav`.

Runs trained models over long labelled streams, decodes their posteriors into detections and scores
them (docs/protocol.md: TensorFlow's streaming accuracy test). Every step takes its most probable
architecture. Cost is counted in MACs of the live edges.

`--workdir` and `--stream` may be given several times, and a workdir may be a sweep: all models run
over all streams in one pass. A network conditioned on its price is run at several. `--pretrained`
names models that came with the package; nothing is kept of those but what `--json` asks for. Runs
on images need no stream: they are evaluated on the testing split of their data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.command.atomic import write_json
from data_prep.command.cli import run
from experiments.config.model import macs_per_step
from experiments.datasets.streams import to_draw
from experiments.evaluation.images import describe as describe_images
from experiments.evaluation.images import evaluate_images
from experiments.evaluation.scoring import incremental_scores, judge
from experiments.evaluation.stream_inference import passed, read_streams
from experiments.flags.many_models import asked, define_model_flags, read_models
from experiments.reporting.reading import read_runs
from experiments.reporting.streams.points import points, to_json
from experiments.reporting.streams.tables import summary_table
from experiments.runs import folder as run_folder
from experiments.runs.detectors import detectors_of
from experiments.runs.packed import is_packed
from experiments.runs.stored_results import save, told
from experiments.runs.trained import TrainedModel


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    flags.DEFINE_multi_string("stream", [], "WAV of a stream; may be repeated.", flag_values=values)
    flags.DEFINE_string("data", None, "Cache of images, if it has moved.", flag_values=values)
    flags.DEFINE_enum(
        "split",
        "testing",
        ["training", "validation", "testing"],
        "Split of images.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "labels",
        [],
        "Its labels, lines of `word, ms`; NAME_labels.txt if not given.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "curve",
        None,
        "Where to write the cost/accuracy curve; in a sweep's folder if not given.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold", 0.7, "Mean posterior above which a word fires.", flag_values=values
    )
    flags.DEFINE_enum(
        "detector",
        "default",
        ["default", "calibrated"],
        "The protocol's detector with --threshold, or the one that calibrate chose.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "tolerance_ms", 750, "Largest distance to the truth, ms.", flag_values=values
    )
    flags.DEFINE_integer(
        "budgets_per_step",
        None,
        "Runs in one program, as in sweep.",
        lower_bound=1,
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Evaluate every model on every stream; print the figures and write them."""
    models, budgets = read_models(values)
    if any(model.info.input_shape for model in models):
        _main_images(values, models)
        return
    if not values.stream:
        raise ValueError("--stream: expected the WAV of a stream, got none")
    streams = read_streams(values.stream, values.labels, models)
    if values.detector == "calibrated" and values["threshold"].present:
        raise ValueError(
            f"--threshold: expected none with --detector=calibrated, got {values.threshold}"
        )
    detectors = detectors_of(values.detector, values.threshold, models)
    results = []
    for model, price, stream, trace, ms_per_frame in passed(
        models, streams, values.budgets_per_step
    ):
        static = model.info.config.model.static
        macs, controller = macs_per_step(model.sanas, static)
        detector, described = detectors[model.workdir, price]
        result = {
            "workdir": model.workdir.name,
            "step": model.step,
            "static": static,
            "cost_weight": price,
            "budget": asked(model, price, budgets),
            "ms_per_frame": ms_per_frame,
            "detector": described,
        } | judge(
            stream, trace, model.info.classes, macs, controller, detector, values.tolerance_ms
        )
        result |= incremental_scores(model, trace)
        if not is_packed(model.workdir):
            save(model.workdir, result, trace, to_draw(stream))
        results.append(result)
    print(summary_table(results) if len(results) > 1 else describe(results[0]))
    if values.json:
        found = results if len(results) > 1 else results[0]
        write_json(Path(values.json), found)
    sweeps = [Path(w) for w in values.workdir if run_folder.read_sweep(Path(w)) is not None]
    curve = Path(values.curve) if values.curve else sweeps[0] / "curve.json" if sweeps else None
    if curve:
        runs = [model.workdir for model in models if not is_packed(model.workdir)]
        write_json(curve, to_json(points(read_runs(runs))))


def _main_images(values: flags.FlagValues, models: Sequence[TrainedModel]) -> None:
    """Evaluate runs on images; print the figures and write them."""
    if values.stream or not all(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on images without --stream, or runs on audio")
    results = []
    for model in models:
        for result in evaluate_images(model, values.split, values.data):
            told = result["cost_weight"]
            name = values.split if told is None else f"{values.split}@{told:.4g}"
            if not is_packed(model.workdir):
                write_json(model.workdir / "evaluations" / f"{name}.json", result)
            results.append(result)
            print(describe_images(result))
    if values.json:
        found = results if len(results) > 1 else results[0]
        write_json(Path(values.json), found)


def describe(result: dict[str, Any]) -> str:
    """The figures on a few lines."""
    share = result["macs_per_frame"] / result["full_macs_per_frame"]
    return (
        f"{result['workdir']} step {result['step']}{told(result)} on {result['stream']}: "
        f"{result['num_words']} words, {result['seconds']:.0f} s\n"
        f"  match {result['match_pct']:.1f} %, correct {result['correct_pct']:.1f} %, "
        f"wrong {result['wrong_pct']:.1f} %, false alarms {result['false_alarm_pct']:.1f} % "
        f"({result['false_alarms_per_hour']:.1f} per hour)\n"
        f"  {result['macs_per_frame'] / 1e6:.3f}M MACs/frame ({share:.1%} of the full network), "
        f"{result['macs_per_frame_with_controller'] / 1e6:.3f}M with the controller, "
        f"{result['macs_per_frame_incremental'] / 1e6:.3f}M for new rows only\n"
        f"  frame accuracy {result['frame_accuracy']:.1%}, "
        f"{result['ms_per_frame']:.2f} ms per frame in this batched run"
    )


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
