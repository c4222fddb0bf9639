"""Score models on long labelled streams, or on images:
`python -m experiments.evaluate --workdir W --stream s.wav`.

Runs trained models over long labelled streams, decodes their posteriors into detections and scores
them (docs/protocol.md: TensorFlow's streaming accuracy test). Every step takes its most probable
architecture. Cost is counted in MACs of the live edges.

`--workdir` and `--stream` may be given several times, and a workdir may be a sweep: all models run
over all streams in one pass. A network conditioned on its price is run at several. `--negatives`
is audio without the words, on which every word that fires is a false alarm: a folder, a file, or
the split of a cache's. `--pretrained`
names models that came with the package; nothing is kept of those but what `--json` asks for. Runs
on images need no stream: they are evaluated on the testing split of their data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_prep.command.atomic import check_place, new_files, write_json
from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.many_models import define_model_flags, read_models
from experiments.machine.jax_setup import keep_programs

if TYPE_CHECKING:
    from experiments.runs.stored_negatives import NegativeResult
    from experiments.runs.stored_results import StreamResult
    from experiments.runs.trained import TrainedModel


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    flags.DEFINE_multi_string("stream", [], "WAV of a stream; may be repeated.", flag_values=values)
    flags.DEFINE_multi_string(
        "negatives",
        [],
        "Audio without the words: a folder or a file, PATH or NAME=PATH, or a cache's --split; may "
        "be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "heard",
        None,
        "Table (file, tab, words or -) of files in --negatives in which a word was heard: they "
        "are counted apart. Caches have their own.",
        flag_values=values,
    )
    flags.DEFINE_string("data", None, "Cache of images, if it has moved.", flag_values=values)
    flags.DEFINE_enum(
        "split",
        "testing",
        ["training", "validation", "testing"],
        "Split of images, or of a cache's negatives.",
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
    flags.DEFINE_string(
        "figure",
        None,
        "PNG to draw words found within a rate of false alarms on --negatives.",
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
        "false_alarms_per_hour",
        None,
        "Which of the rates that calibrate was asked for; the first if not given.",
        lower_bound=0,
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
    from experiments.datasets.recordings import read_negative_sets
    from experiments.evaluation.alarms import evaluate_negatives, negative_summary, trace_negatives
    from experiments.evaluation.stream_inference import read_streams
    from experiments.evaluation.streams import evaluate_streams, stream_summary
    from experiments.reporting.points import points_to_json
    from experiments.reporting.reading import read_runs
    from experiments.reporting.streams.points import stream_points
    from experiments.reporting.streams.tables import summary_table
    from experiments.runs import folder as run_folder
    from experiments.runs.detectors import detectors_of
    from experiments.runs.packed import is_packed
    from experiments.runs.stored_results import check_kept, write_results

    sweeps = [Path(w) for w in values.workdir if run_folder.read_sweep(Path(w)) is not None]
    curve = Path(values.curve) if values.curve else sweeps[0] / "curve.json" if sweeps else None
    check_outputs(values, curve)
    keep_programs()
    models, budgets = read_models(values)
    check_kept(model.workdir for model in models)
    if values.curve and all(is_packed(model.workdir) for model in models):
        raise ValueError("--curve: expected a run's kept results, got models to be read only")
    if any(model.info.input_shape for model in models):
        _main_images(values, models)
        return
    if not values.stream and not values.negatives:
        raise ValueError("--stream, --negatives: expected the WAV of a stream or audio, got none")
    if values.heard is not None and not values.negatives:
        raise ValueError("--heard: expected it with --negatives, got none")
    if values.figure and not (values.stream and values.negatives):
        raise ValueError("--figure: expected it with --stream and --negatives, got one of them")
    streams = read_streams(values.stream, values.labels, models)
    sets = read_negative_sets(
        values.negatives,
        values.split,
        Path(values.heard) if values.heard is not None else None,
        models[0].info.frontend.sample_rate,
    )
    if values.detector == "calibrated" and values["threshold"].present:
        raise ValueError(
            f"--threshold: expected none with --detector=calibrated, got {values.threshold}"
        )
    rate = values.false_alarms_per_hour
    if rate is not None and values.detector != "calibrated":
        raise ValueError(f"--false_alarms_per_hour: expected --detector=calibrated, got {rate:g}")
    detectors = detectors_of(values.detector, values.threshold, models, rate)
    results = (
        evaluate_streams(
            models, streams, detectors, budgets, values.tolerance_ms, values.budgets_per_step
        )
        if streams
        else []
    )
    traced = trace_negatives(models, sets, values.budgets_per_step)
    alarms = evaluate_negatives(traced, detectors, budgets)
    if len(results) + len(alarms) > 1:
        print(summary_table(results, alarms))
    elif results:
        print(stream_summary(results[0]))
    for each in alarms:
        print(negative_summary(each))
    if values.json:
        found = [*(r.to_json() for r in results), *(r.to_json() for r in alarms)]
        write_results(Path(values.json), found)
    if values.figure:
        _draw(Path(values.figure), results, alarms)
    if curve:
        runs = [model.workdir for model in models if not is_packed(model.workdir)]
        write_json(curve, points_to_json(stream_points(read_runs(runs, trust=values.trust))))


def check_outputs(values: flags.FlagValues, curve: Path | None) -> None:
    """ValueError where a result could not be written, or would replace what is read."""
    from data_prep.speech.negatives import place_of

    others: list[str | Path | None] = [*values.stream, *values.labels, values.heard]
    for wav in map(Path, values.stream):
        if wav.name and not values.labels:
            others.append(wav.with_name(f"{wav.stem}_labels.txt"))
        if wav.name and wav.with_suffix(".json").exists():  # what make_stream says of it
            others.append(wav.with_suffix(".json"))
    others += [place_of(source)[1] for source in values.negatives]
    for flag, out in (
        ("json", values.json),
        ("figure", values.figure),
        ("curve" if values.curve else "workdir", curve),
    ):
        check_place(flag, None if out is None else str(out), others)
        others.append(out)


def _draw(path: Path, results: Sequence[StreamResult], alarms: Sequence[NegativeResult]) -> None:
    """Words found within a rate of false alarms, of each model at each price, as a PNG."""
    from experiments.figures.style import to_png
    from experiments.reporting.streams.roc import alarms_figure, rocs_of

    png = to_png(alarms_figure(rocs_of(results, alarms)))
    with new_files(path) as (new,):
        new.write_bytes(png)


def _main_images(values: flags.FlagValues, models: Sequence[TrainedModel]) -> None:
    """Evaluate runs on images; print the figures and write them."""
    from experiments.evaluation.images import evaluate_images, image_summary
    from experiments.runs.stored_results import write_results

    if values.stream or values.negatives or not all(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on images without --stream, or runs on audio")
    results = []
    for model in models:
        found = evaluate_images(model, values.split, values.data)
        print("\n".join(map(image_summary, found)))
        results += [result.to_json() for result in found]
    if values.json:
        write_results(Path(values.json), results)


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
