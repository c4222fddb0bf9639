"""Choose a model's detector: `python -m experiments.calibrate --workdir W --stream val.wav`.

Runs trained models over validation streams and keeps for each the smoothing, the threshold and the
suppression with the most correct less wrong words at no more than so many false alarms per hour. A
network conditioned on its price gets a detector for each. They are written to W/detector.json, and
`evaluate --detector calibrated` uses them. A stream that was made of the testing split is refused:
what is tested on it must not be chosen on it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.cli import run
from data_prep.speech.cache import SPLITS
from experiments.datasets.streams import Stream
from experiments.evaluate import passed, read_streams
from experiments.evaluation.detector_search import PROTOCOL, TOLERANCE_MS, choose, mean_scores
from experiments.evaluation.scoring import Trace
from experiments.runs import folder as run_folder
from experiments.runs.packed import is_packed
from experiments.runs.trained import Model, read_model


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_multi_string(
        "workdir",
        None,
        "Folder of a run or a sweep; may be repeated.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "stream",
        None,
        "WAV of a validation stream; may be repeated.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "labels",
        [],
        "Its labels, lines of `word, ms`; NAME_labels.txt if not given.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "false_alarms_per_hour",
        10,
        "Most false alarms per hour, all streams together.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Calibrate every model; print the detectors and write them, all or none."""
    limit = values.false_alarms_per_hour
    sources = [_source(Path(wav)) for wav in values.stream]
    folders = run_folder.expand_sweeps(map(Path, values.workdir))
    for folder in filter(is_packed, folders):
        raise ValueError(
            f"--workdir: expected a run, got a packed model, to be read only: {folder}"
        )
    models = [read_model(folder, values.checkpoint) for folder in folders]
    if any(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on audio, got one on images")
    streams = read_streams(values.stream, values.labels, models)
    traces: dict[tuple[Path, float | None], list[Trace]] = {}
    for model, price, _, trace, _ in passed(models, streams):
        traces.setdefault((model.workdir, price), []).append(trace)
    chosen: dict[Path, list[dict[str, Any]]] = {folder: [] for folder in folders}
    by_folder = {model.workdir: model for model in models}
    for (folder, price), own in traces.items():
        entry = calibrated(by_folder[folder], price, streams, own, limit)
        chosen[folder].append(entry)
        print(describe(folder.name, entry))
    about = {
        "false_alarms_per_hour_limit": limit,
        "tolerance_ms": TOLERANCE_MS,
        "streams": [
            {
                "name": stream.name,
                "num_words": len(stream.words),
                "seconds": len(stream.samples) / stream.rate,
                "source": source,
            }
            for stream, source in zip(streams, sources, strict=True)
        ],
    }
    for folder, entries in chosen.items():
        text = json.dumps({"step": by_folder[folder].step, **about, "detectors": entries}, indent=1)
        run_folder.write_atomic(folder / "detector.json", text + "\n")


def calibrated(
    model: Model,
    price: float | None,
    streams: Sequence[Stream],
    traces: Sequence[Trace],
    limit: float,
) -> dict[str, Any]:
    """An entry of detector.json: settings for a model at a price, scores beside the protocol's."""
    classes = model.info.classes
    try:
        detector, scores = choose(streams, traces, classes, limit)
    except ValueError as error:
        told = "" if price is None else f" at λ = {price:.3g}"
        raise ValueError(f"{model.workdir}{told}: {error}") from error
    return {
        "cost_weight": price,
        "settings": dataclasses.asdict(detector),
        "scores": scores,
        "scores_of_default": mean_scores(streams, traces, classes, PROTOCOL),
    }


def describe(name: str, entry: dict[str, Any]) -> str:
    """The settings and their scores on a few lines."""
    price, settings = entry["cost_weight"], entry["settings"]
    lines = [
        f"{name}{'' if price is None else f' at λ = {price:.3g}'}: "
        f"threshold {settings['threshold']:g}, window {settings['window_ms']:g} ms, "
        f"suppression {settings['suppression_ms']:g} ms, {settings['min_count']} results or more"
    ]
    for title, scores in (
        ("calibrated", entry["scores"]),
        ("default", entry["scores_of_default"]),
    ):
        lines.append(
            f"  {title:10}  correct {scores['correct_pct']:.1f} %, "
            f"wrong {scores['wrong_pct']:.1f} %, "
            f"{scores['false_alarms_per_hour']:.1f} false alarms per hour"
        )
    if not entry["scores"]["correct_pct"] > 0:
        lines.append("  warning: no setting that keeps the limit finds more words than it mistakes")
    return "\n".join(lines)


def _source(wav: Path) -> dict[str, Any] | None:
    """What make_stream says of a stream; ValueError if it is of the testing split."""
    path = wav.with_suffix(".json")
    if not path.is_file():
        print(f"{wav}: no {path.name} beside it; make sure that it is not of the testing split")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        split = found["split"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected what make_stream writes, got {error!r}") from error
    if split not in SPLITS:
        raise ValueError(f"{path}: expected a split out of {', '.join(SPLITS)}, got {split!r}")
    if split == "testing":
        raise ValueError(f"--stream: expected a stream of validation clips, got testing: {wav}")
    if split == "training":
        print(f"{wav}: of the training split, on which a model is surer than it will be")
    return found


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
