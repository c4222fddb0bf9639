"""The streaming protocol: `python -m experiments.evaluate --workdir W --stream s.wav`.

Runs trained models over long labelled streams, decodes their posteriors into detections and scores
them (FACTS of the paper: TensorFlow's streaming accuracy test). Every step takes its most probable
architecture. Cost is counted in MACs of the live edges.

`--workdir` and `--stream` may be given several times, and a workdir may be a sweep: all models run
over all streams in one pass. A network conditioned on its price is run at several. `--pretrained`
names models that came with the package; nothing is kept of those but what `--json` asks for. Runs
on images need no stream: they are evaluated on the testing split of their data.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from data_prep.cli import run
from experiments.config.build import macs_per_step
from experiments.datasets.streams import Stream, read_stream, window_labels
from experiments.evaluation.images import describe as describe_images
from experiments.evaluation.images import evaluate_images
from experiments.evaluation.scoring import Trace, judge
from experiments.evaluation.stream_inference import run_streams
from experiments.reporting.run_record import read_runs
from experiments.reporting.streams.points import points, to_json
from experiments.reporting.streams.tables import summary_table
from experiments.runs import folder as run_folder
from experiments.runs.packed import is_packed
from experiments.runs.stored_results import result_path, told
from experiments.runs.trained import Model, asked, define_model_flags, read_models
from sanas_jax.costs.incremental import fresh_macs, incremental_macs
from sanas_jax.streaming.detector import Detector


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
    detectors = _detectors(values, models)
    results = []
    for model, price, stream, trace, ms_per_frame in passed(
        models, streams, values.budgets_per_step
    ):
        static = model.info.config.model.static
        macs, controller = macs_per_step(model.built.model, static)
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
        result |= _incremental(model, trace)
        if not is_packed(model.workdir):
            save(model.workdir, stream, result, trace)
        results.append(result)
    print(summary_table(results) if len(results) > 1 else describe(results[0]))
    if values.json:
        found = results if len(results) > 1 else results[0]
        run_folder.write_atomic(Path(values.json), json.dumps(found, indent=1) + "\n")
    sweeps = [Path(w) for w in values.workdir if run_folder.read_sweep(Path(w)) is not None]
    curve = Path(values.curve) if values.curve else sweeps[0] / "curve.json" if sweeps else None
    if curve:
        runs = [model.workdir for model in models if not is_packed(model.workdir)]
        text = json.dumps(to_json(points(read_runs(runs))), indent=1)
        run_folder.write_atomic(curve, text + "\n")


def _incremental(model: Model, trace: Trace) -> dict[str, float]:
    """MACs per frame of a runtime that keeps the rows of the trunk that it has computed."""
    net, hop = model.built.model.net, model.built.model.hop
    spent = np.asarray(incremental_macs(net, hop)(jnp.asarray(trace.live)), np.float64)
    return {
        "macs_per_frame_incremental": float(spent.mean()),
        "full_macs_per_frame_incremental": sum(fresh_macs(net, hop).values()),
    }


def _main_images(values: flags.FlagValues, models: Sequence[Model]) -> None:
    """Evaluate runs on images; print the figures and write them."""
    if values.stream or not all(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on images without --stream, or runs on audio")
    results = []
    for model in models:
        for result in evaluate_images(*model, values.split, values.data):
            told = result["cost_weight"]
            name = values.split if told is None else f"{values.split}@{told:.4g}"
            text = json.dumps(result, indent=1) + "\n"
            if not is_packed(model.workdir):
                run_folder.write_atomic(model.workdir / "evaluations" / f"{name}.json", text)
            results.append(result)
            print(describe_images(result))
    if values.json:
        found = results if len(results) > 1 else results[0]
        run_folder.write_atomic(Path(values.json), json.dumps(found, indent=1) + "\n")


def read_streams(
    wavs: Sequence[str], labels: Sequence[str], models: Sequence[Model]
) -> list[Stream]:
    """Streams that all models can hear; ValueError for anything else."""
    if labels and len(labels) != len(wavs):
        raise ValueError(
            f"--labels: expected one per --stream or none, got {len(labels)} for {len(wavs)}"
        )
    info = models[0].info
    for model in models[1:]:
        ours = (model.info.classes, model.info.frontend.sample_rate)
        if ours != (info.classes, info.frontend.sample_rate):
            raise ValueError(
                f"--workdir: expected runs of the same classes and rate, got {models[0].workdir} "
                f"and {model.workdir}"
            )
    paths = list(map(Path, wavs))
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError("--stream: expected files of different names, got one twice")
    beside = [str(path.with_name(f"{path.stem}_labels.txt")) for path in paths]
    return [
        read_stream(path, Path(text), info.classes, info.frontend.sample_rate)
        for path, text in zip(paths, labels or beside, strict=True)
    ]


def passed(
    models: Sequence[Model], streams: Sequence[Stream], budgets_per_step: int | None = None
) -> Iterator[tuple[Model, float | None, Stream, Trace, float]]:
    """(model, price, stream, trace, ms per frame) for all; alike models share a pass."""
    groups: dict[Any, list[Model]] = {}
    for model in models:
        groups.setdefault(_program(model), []).append(model)
    for group in groups.values():
        built, config = group[0].built, group[0].info.config
        own = [(model.params, model.info.frontend) for model in group]
        signals = [stream.samples for stream in streams]
        out = run_streams(
            built.model, config.model.static, own, group[0].prices, signals, budgets_per_step
        )
        for g, model in enumerate(group):
            for p, price in enumerate(model.prices):
                for s, stream in enumerate(streams):
                    trace = _trace(model, stream, out.posteriors[g][p][s], out.live[g][p][s])
                    told = price if config.model.conditioned else None
                    yield model, told, stream, trace, out.ms_per_frame


def _program(model: Model) -> Any:
    """What runs must have in common to be vmapped; only conditioned ones hear their prices."""
    config = model.info.config.model
    prices = tuple(model.prices) if config.conditioned else ()
    features = jax.tree.structure(model.info.frontend)
    return model.built.model, config.static, prices, features


def _trace(model: Model, stream: Stream, posteriors: np.ndarray, live: np.ndarray) -> Trace:
    frontend, sanas = model.info.frontend, model.built.model
    frame_ms = 1000 * frontend.hop / frontend.sample_rate
    times = (sanas.hop * frame_ms * np.arange(len(posteriors))).round().astype(int)
    labels = window_labels(stream, times, sanas.window * frame_ms, model.info.classes)
    return Trace(times, posteriors, live, labels)


def _detectors(
    values: flags.FlagValues, models: Sequence[Model]
) -> dict[tuple[Path, float | None], tuple[Detector, dict[str, Any]]]:
    """The detector of every model at every price, and all that is said of it in results."""
    calibrated = values.detector == "calibrated"
    if calibrated and values["threshold"].present:
        raise ValueError(
            f"--threshold: expected none with --detector=calibrated, got {values.threshold}"
        )
    out = {}
    for model in models:
        for price in model.prices if model.info.config.model.conditioned else [None]:
            detector, about = Detector(threshold=values.threshold), {}
            if calibrated:
                detector, at = run_folder.read_detector(model.workdir, model.step, price)
                about = {"calibrated_at": at}
            described = {"kind": values.detector, **dataclasses.asdict(detector), **about}
            out[model.workdir, price] = detector, described
    return out


def save(workdir: Path, stream: Stream, result: dict[str, Any], trace: Trace) -> None:
    """Keep the result and the run in workdir/evaluations, for the report."""
    path = result_path(workdir, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.npz.tmp")
    envelope = _envelope(stream.samples, stream.rate // 100)
    with open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **trace._asdict(),
            envelope=envelope,
            truth_words=np.array(stream.words),
            truth_ms=np.array(stream.times_ms),
        )
    temporary.replace(path.with_suffix(".npz"))
    run_folder.write_atomic(path, json.dumps(result, indent=1) + "\n")


def _envelope(samples: np.ndarray, size: int) -> np.ndarray:
    """Peak of every `size` samples (10 ms), float16, for drawing."""
    usable = len(samples) // size * size
    return np.abs(samples[:usable].reshape(-1, size)).max(1).astype(np.float16)


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
