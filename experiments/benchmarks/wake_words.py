"""False alarms, misses and CPU time of a trained detector beside wake-word engines as they ship.

    python -m experiments.benchmarks.wake_words --model runs/mine --recordings computer \
        --negatives cache [--peer_word alexa] [--json out.json]

Negatives are a folder, a file, or a cache, of which the testing split is heard. Every recording is
heard by itself, with a second and a half of silence after it. --recordings have the words of the
model, one each: what does not make it fire is a miss; the engines' words are others, so of them
only false alarms and time can be compared (their packages: `peers.wake_word_engines`). Rates have
exact 95 % bounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data_prep.command import cli as command
from data_prep.command.atomic import check_place, write_json
from data_prep.speech import decode
from data_prep.speech.negatives import find_negatives
from experiments.benchmarks.peers.wake_word_engines import Count, micro_wake_word, open_wake_word
from experiments.datasets.recordings import read_recordings
from experiments.evaluation.alarms import poisson_bounds
from experiments.live.engine import runtime_of
from experiments.machine.jax_setup import prepare_streaming
from experiments.runs.detectors import chosen_detector, read_detector
from experiments.runs.trained import read_model
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.session import Session

PEERS: dict[str, Callable[[str], Count]] = {
    "pymicro-wakeword": micro_wake_word,
    "pyopen-wakeword": open_wake_word,
}
GAP = np.zeros(3 * decode.SAMPLE_RATE // 2, np.int16)
Recordings = dict[str, list[np.ndarray]]  # of each kind, int16 [n]


def ours(name: str, price: float, rate: float | None = None) -> Count:
    """A trained model at a price as `listen` has it, or calibrated to `rate` alarms an hour."""
    model = read_model(name)
    told = price if model.conditioned else None
    if rate is None:
        detector = chosen_detector(model, told, None)
    else:
        detector, _ = read_detector(model.workdir, model.step, told, rate)
    session = Session(runtime_of(model, engine="auto"), cost_weight=told, detector=detector)

    def count(samples: np.ndarray) -> int:
        session.reset()
        heard = session.push(samples) + session.finish()
        return sum(h.detection is not None and h.detection.label >= FIRST_WORD for h in heard)

    return count


def read(sources: Sequence[str], heard: str | None = None) -> Recordings:
    """The recordings of folders, files and caches by kind, but those in which a word was heard."""
    found = read_recordings(sources, "testing", Path(heard) if heard else None)
    plain = {kind: [r.samples for r in own if not r.heard] for kind, own in found.items()}
    return {kind: own for kind, own in plain.items() if own}


def measure(count: Count, negatives: Recordings, words: Sequence[np.ndarray]) -> dict[str, Any]:
    """What an engine makes of recordings: alarms an hour by kind, misses, CPU ms a second."""
    begin, seconds = time.process_time(), 0.0
    kinds = {}
    for kind, recordings in negatives.items():
        length = sum(map(len, recordings)) / decode.SAMPLE_RATE
        alarms = sum(count(np.concatenate([each, GAP])) for each in recordings)
        seconds += length + len(recordings) * len(GAP) / decode.SAMPLE_RATE
        low, high = poisson_bounds(alarms, length / 3600)
        kinds[kind] = {"alarms": alarms, "per_hour": 3600 * alarms / length}
        kinds[kind] |= {"low": low, "high": high, "minutes": length / 60}
    cpu = time.process_time() - begin
    missed = sum(count(np.concatenate([GAP, each, GAP])) == 0 for each in words)
    misses = {"recordings": len(words), "missed": missed} if words else None
    return {"negatives": kinds, "misses": misses, "cpu_ms_per_second": 1000 * cpu / seconds}


def line(name: str, found: dict[str, Any]) -> str:
    """A result in a line."""
    parts = [
        f"{kind} {each['per_hour']:.1f}/h ({each['low']:.1f} to {each['high']:.1f})"
        for kind, each in found["negatives"].items()
    ]
    if found["misses"]:
        missed, count = found["misses"]["missed"], found["misses"]["recordings"]
        parts.append(f"{100 * missed / count:.1f} % of {count} missed")
    return f"{name:32}{'; '.join(parts)}; {found['cpu_ms_per_second']:.2f} ms CPU a second"


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_multi_string(
        "model", ["pretrained:kws"], "Trained networks, with their detectors.", flag_values=values
    )
    flags.DEFINE_float("cost_weight", 0.1, "λ that they are told.", 1e-9, flag_values=values)
    flags.DEFINE_float(
        "false_alarms_per_hour",
        None,
        "Rate that the models' detectors were calibrated to, if not the first of each.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "negatives",
        None,
        "Audio without the words: a folder or file (PATH or NAME=PATH), a cache; may be repeated.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "heard", None, "Table of files in which a word was heard: left out.", flag_values=values
    )
    flags.DEFINE_string("recordings", None, "Folder of the models' words.", flag_values=values)
    flags.DEFINE_string("peer_word", "alexa", "Word of the other engines.", flag_values=values)
    flags.DEFINE_string("json", None, "Where to write the result.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Measure and print, engine by engine."""
    check_place("json", values.json)
    prepare_streaming()
    negatives = read(values.negatives, values.heard)
    of_words = find_negatives([values.recordings]) if values.recordings else []
    words = [decode.read(each.root / each.name) for each in of_words]
    results = {}
    for name in values.model:
        count = ours(name, values.cost_weight, values.false_alarms_per_hour)
        results[name] = measure(count, negatives, words)
        print(line(name, results[name]), flush=True)
    for name, make in PEERS.items():
        try:
            peer = make(values.peer_word)
        except ImportError:
            print(f"{name}: not installed", file=sys.stderr)
            continue
        told = f"{name}, {values.peer_word}"
        results[told] = measure(peer, negatives, [])
        print(line(told, results[told]), flush=True)
    if values.json:
        write_json(Path(values.json), results)


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
