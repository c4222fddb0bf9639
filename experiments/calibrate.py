"""Choose a model's detector: `python -m experiments.calibrate --workdir W --stream val.wav`.

Runs trained models over validation streams and keeps for each the smoothing, the threshold and the
suppression with the most correct less wrong words at no more than so many false alarms per hour. A
network conditioned on its price gets a detector for each. They are written to W/detector.json, and
`evaluate --detector calibrated` uses them. A stream that was made of the testing split is refused:
what is tested on it must not be chosen on it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_prep.command.atomic import write_json
from data_prep.command.cli import run
from experiments.flags.trust import define_trust_flag
from experiments.machine.jax_setup import keep_programs

if TYPE_CHECKING:
    from experiments.runs.stored_results import Trace


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
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Calibrate every model; print the detectors and write them, all or none."""
    from experiments.evaluation.calibration import calibrated, check_split, detector_summary
    from experiments.evaluation.detector_search import TOLERANCE_MS
    from experiments.evaluation.stream_inference import read_streams, run_models
    from experiments.runs import folder as run_folder
    from experiments.runs.packed import is_packed
    from experiments.runs.trained import read_model

    keep_programs()
    limit = values.false_alarms_per_hour
    sources = [check_split(Path(wav)) for wav in values.stream]
    folders = run_folder.expand_sweeps(map(Path, values.workdir))
    for folder in filter(is_packed, folders):
        raise ValueError(
            f"--workdir: expected a run, got a packed model, to be read only: {folder}"
        )
    models = [read_model(folder, values.checkpoint, trust=values.trust) for folder in folders]
    if any(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on audio, got one on images")
    streams = read_streams(values.stream, values.labels, models)
    traces: dict[tuple[Path, float | None], list[Trace]] = {}
    for found in run_models(models, streams):
        traces.setdefault((found.model.workdir, found.price), []).append(found.trace)
    chosen: dict[Path, list[dict[str, Any]]] = {folder: [] for folder in folders}
    by_folder = {model.workdir: model for model in models}
    for (folder, price), own in traces.items():
        entry = calibrated(by_folder[folder], price, streams, own, limit)
        chosen[folder].append(entry)
        print(detector_summary(folder.name, entry))
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
        chosen_for = {"step": by_folder[folder].step, **about, "detectors": entries}
        write_json(folder / "detector.json", chosen_for)


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
