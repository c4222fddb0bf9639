"""Choose a model's detector: `python -m experiments.calibrate --workdir W --data cache`.

Runs trained models over validation streams and keeps for each the smoothing, the thresholds and the
suppression with the most correct less wrong words at no more than so many false alarms per hour. A
network that is told a price gets a detector for each of its validations' and for the one that
`listen` tells unless asked. They are written to W/detector.json, and `evaluate --detector
calibrated` uses them. The streams are made of a cache, or given by `--stream`; one that was made of
the testing split is refused: what is tested on it must not be chosen on it.

With `--negatives`, audio without the words that needs no labels, the false alarms are those on all
of it and on each set in which there are several, and several rates may be asked for:
`--false_alarms_per_hour 1,5,0.5`. The first is what is used unless `evaluate` is told another. More
may then be asked of a word where people talk, as far as the streams lose no more by it than they
gain: let one of them have words over talk, or say `--notalk`.

A packed model is only read: `--workdir pretrained:kws --out room` makes a copy of it with these
detectors.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_prep.command.atomic import (
    check_new_folder,
    check_place,
    json_text,
    new_folder,
    write_atomic,
)
from data_prep.command.cli import number, run, word_list
from data_prep.command.interrupts import leave
from experiments.flags.one_model import default_price
from experiments.flags.trust import define_trust_flag
from experiments.machine.jax_setup import keep_programs

STREAM_RATE, NEGATIVE_RATE = 10.0, 1.0

if TYPE_CHECKING:
    from experiments.datasets.streams import Stream
    from experiments.evaluation.alarms import Traced
    from experiments.runs.stored_results import Trace
    from experiments.runs.trained import TrainedModel


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_multi_string(
        "workdir",
        None,
        "Folder of a run or a sweep; may be repeated. With --out, of a packed model, or "
        "pretrained:NAME.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "stream",
        [],
        "WAV of a validation stream; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data",
        None,
        "In place of --stream, a cache: streams of its validation clips, 20 min over noise and 20 "
        "over its negatives, which are among the --negatives then.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "labels",
        [],
        "Its labels, lines of `word, ms`; NAME_labels.txt if not given.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "negatives",
        [],
        "Audio without the words: a folder or a file, PATH or NAME=PATH, or a cache's validation "
        "split; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "heard",
        None,
        "Table (file, tab, words or -) of files in --negatives in which a word was heard: left "
        "out. Caches have their own.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "false_alarms_per_hour",
        [],
        "Most false alarms per hour: of all streams or negatives together, and of each set of "
        "negatives in which there is more than one; several "
        f"rates if need be. {STREAM_RATE:g} if not given, {NEGATIVE_RATE:g} with --negatives.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "talk",
        True,
        "With --negatives, try higher thresholds of words where people talk.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )
    flags.DEFINE_string(
        "out",
        None,
        "New folder for a copy of a packed model with these detectors.",
        flag_values=values,
    )
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Calibrate every model; print the detectors, and write them once all are chosen."""
    from experiments.datasets.recordings import read_negative_sets
    from experiments.evaluation.alarms import trace_negatives
    from experiments.evaluation.calibration import calibrated, detector_summary, too_short
    from experiments.evaluation.detector_search import TOLERANCE_MS
    from experiments.evaluation.stream_inference import run_models
    from experiments.runs import folder as run_folder
    from experiments.runs.detectors import DETECTOR
    from experiments.runs.packed import resolve
    from experiments.runs.trained import read_model

    keep_programs()
    if values.heard is not None and not values.negatives:
        raise ValueError("--heard: expected it with --negatives, got none")
    if bool(values.stream) == bool(values.data):
        got = "both" if values.data else "neither"
        raise ValueError(f"--stream, --data: expected one of them, got {got}")
    if values.labels and values.data:
        raise ValueError("--labels: expected them with --stream, got them with --data")
    asked = map(parse_rate, word_list(values.false_alarms_per_hour))
    rates = list(dict.fromkeys(asked))
    folders = run_folder.expand_sweeps(map(resolve, values.workdir))
    check_out(values.out, folders)
    if not values.out:
        for folder in folders:
            check_place("workdir", str(folder / DETECTOR))
    models = [read_model(folder, values.checkpoint, trust=values.trust) for folder in folders]
    if any(model.info.input_shape for model in models):
        raise ValueError("--workdir: expected runs on audio, got one on images")
    # Alarms of a detector are those of a price; the one that most people use has its own.
    models = [with_default_price(model) for model in models]
    streams, sources, negatives = heard_by(models, values)
    limits = rates or [NEGATIVE_RATE if negatives else STREAM_RATE]
    rate = models[0].info.frontend.sample_rate
    heard = Path(values.heard) if values.heard is not None else None
    sets = read_negative_sets(negatives, "validation", heard, rate)
    for line in too_short(sets, limits):
        print(line)
    traces: dict[tuple[Path, float | None], list[Trace]] = {}
    for found in run_models(models, streams):
        traces.setdefault((found.model.workdir, found.price), []).append(found.trace)
    on_negatives: dict[tuple[Path, float | None], list[Traced]] = {}
    for each in trace_negatives(models, sets):
        on_negatives.setdefault((each.model.workdir, each.price), []).append(each)
    chosen: dict[Path, list[dict[str, Any]]] = {folder: [] for folder in folders}
    unreached: dict[Path, list[str]] = {folder: [] for folder in folders}
    by_folder = {model.workdir: model for model in models}
    for (folder, price), own in traces.items():
        alarms = on_negatives.get((folder, price), [])
        entries, missed = calibrated(
            by_folder[folder], price, streams, own, limits, alarms, talk=values.talk
        )
        chosen[folder] += entries
        unreached[folder] += missed
        for entry in entries:
            print(detector_summary(folder.name, entry))
    for folder, missed in unreached.items():
        if not chosen[folder]:
            raise ValueError("; ".join(missed))
        print("\n".join(missed), end="\n" if missed else "")
    about = {
        "false_alarms_per_hour_limit": limits[0],
        "negatives": [{"name": each.name, "seconds": each.seconds()} for each in sets],
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
    texts = {}
    for folder, entries in chosen.items():
        entries.sort(key=lambda entry: limits.index(entry["false_alarms_per_hour_limit"]))
        step = by_folder[folder].step
        texts[folder] = json_text({"step": step, **about, "detectors": entries})
    if values.out:
        ((folder, text),) = texts.items()
        copy_packed(folder, Path(values.out), text)
        return
    for folder, text in texts.items():
        write_atomic(folder / DETECTOR, text)


def with_default_price(model: TrainedModel) -> TrainedModel:
    """The model at its prices and at the one that it is told if nothing is asked."""
    if not model.conditioned:
        return model
    price = default_price(model)
    if any(math.isclose(price, own) for own in model.prices):
        return model
    return model.at_prices(sorted([*model.prices, price]))


def heard_by(
    models: Sequence[TrainedModel], values: flags.FlagValues
) -> tuple[list[Stream], list[dict[str, Any] | None], list[str]]:
    """Streams, what each was made of where that is known, and where negatives are."""
    from data_prep.speech.cache import open_cache
    from data_prep.speech.pools import quiet_negatives
    from experiments.datasets.streams import validation_streams
    from experiments.evaluation.calibration import check_split
    from experiments.evaluation.clips import check_classes
    from experiments.evaluation.stream_inference import read_streams

    if not values.data:
        sources = [check_split(Path(wav)) for wav in values.stream]
        return read_streams(values.stream, values.labels, models), sources, list(values.negatives)
    cache = open_cache(values.data)
    for model in models:
        check_classes(model, cache)
    made = validation_streams(cache)
    own = [values.data] if quiet_negatives(cache.path, "validation") else []
    return [stream for stream, _ in made], [about for _, about in made], [*values.negatives, *own]


def check_out(out: str | None, folders: Sequence[Path]) -> None:
    """ValueError unless packed models, which are only read, and --out go together, one of each."""
    from experiments.runs.packed import is_packed

    packed = [folder for folder in folders if is_packed(folder)]
    if packed and not out:
        raise ValueError(
            f"--workdir: expected a run, got a packed model, to be read only: {packed[0]}; --out "
            "makes a copy of it with these detectors"
        )
    if out and not len(packed) == len(folders) == 1:
        raise ValueError(
            f"--out: expected it with one packed model, got {', '.join(map(str, folders))}"
        )
    if out and Path(out).exists():
        raise ValueError(f"--out: expected a new folder, got one that exists: {out}")
    if out:
        check_new_folder("out", Path(out))
        if folders[0].resolve() in Path(out).resolve().parents:
            raise ValueError(f"--out: expected a folder outside of the model's, got {out}")


def copy_packed(folder: Path, out: Path, detectors: str) -> None:
    """A packed model with other detectors; its card says so."""
    from experiments.runs.detectors import DETECTOR

    with new_folder(out) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        (new / DETECTOR).write_text(detectors)
        card = new / "README.md"
        if card.is_file():
            said = "These detectors were chosen anew: what is `calibrated` below is of others."
            card.write_text(f"{said}\n\n{card.read_text()}")


def parse_rate(word: str) -> float:
    """A rate of false alarms per hour, 0 or more."""
    rate = number(word)
    if not 0 <= rate < math.inf:
        raise ValueError(f"--false_alarms_per_hour: expected numbers of 0 or more, got {word!r}")
    return rate


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
