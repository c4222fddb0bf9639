"""Make a speech corpus in the Speech Commands layout with the voices of espeak-ng.

    python -m data_prep.synthesize --out corpus
    python -m data_prep.synthesize --out corpus --words lights,music,stop --voices 400

    python -m data_prep.synthesize --out corpus --sentences 10
    python -m data_prep.prepare --data corpus --out cache --negatives corpus/_speech_ \\
        --negative_speaker '(.*)_'

With --sentences each voice also says sentences without the words, for those who have no recordings
of people talking. With --sounds there are simple music and household noises too; with --voices 0
they are all that is written:

    python -m data_prep.synthesize --out sounds --voices 0 --sounds 30
    python -m data_prep.prepare --data corpus --out cache --negatives sounds/_music_ \\
        --negatives sounds/_household_

Voices need `pip install sanas-jax[synth]`. The same seed gives the same files, bit for bit,
whatever --jobs. For trying things out and for words nobody has recorded: detectors for people need
people.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from data_prep.command import atomic
from data_prep.command import cli as command
from data_prep.command.interrupts import held_back
from data_prep.command.progress import Progress
from data_prep.speech.index import NOISE_FOLDER, SENTENCES_FOLDER
from data_prep.voices import noises, recordings
from data_prep.voices.recordings import WORDS, Options, draw_voices
from data_prep.voices.sentences import sentence

MANIFEST = "synthesis.json"
# Imported once, in the process that workers are forked from: it saves each of them a second.
_PRELOAD = ["data_prep.voices.recordings", "data_prep.command.cli", "tqdm"]


def synthesize(out: Path, options: Options) -> int:
    """Write the corpus folder `out`, complete or not at all; return the number of clips."""
    _check(out, options)
    voices = draw_voices(options.voices, options.seed) if options.voices else {}
    manifest = {
        "made_by": "data_prep.synthesize" + " with espeak-ng" * bool(voices),
        "options": {k: v for k, v in dataclasses.asdict(options).items() if k != "jobs"},
        "voices": {name: dataclasses.asdict(voice) for name, voice in voices.items()},
    }
    with atomic.new_folder(out) as folder:
        folders = [*options.words, NOISE_FOLDER] if voices else []
        folders += [SENTENCES_FOLDER] if options.sentences else []
        folders += recordings.SOUNDS if options.sounds else []
        for name in folders:
            (folder / name).mkdir()
        tasks: list[Callable[[], int]] = [
            functools.partial(recordings.write_sounds, folder, kind, minute, options)
            for kind in recordings.SOUNDS
            for minute in range(options.sounds)
        ]
        if voices:
            tasks += [
                functools.partial(recordings.write_track, folder, kind, i, options)
                for i, kind in enumerate(("babble", *noises.TRACKS))
            ]
        tasks += [
            functools.partial(recordings.write_speaker, folder, name, voice, options)
            for name, voice in voices.items()
        ]
        if options.sentences:
            tasks += [
                functools.partial(recordings.write_sentences, folder, name, voice, options)
                for name, voice in voices.items()
            ]
        clips = _run_all(tasks, options.jobs)
        atomic.write_json(folder / MANIFEST, manifest)
    return clips


def _run_all(tasks: Sequence[Callable[[], int]], jobs: int) -> int:
    """Run each task in a fresh process (the synthesiser's state is global) and add the results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    # Workers inherit that Ctrl-C is blocked: the parent ends them and says so once. The tracker
    # comes first, for it lets Ctrl-C in again once it has started.
    multiprocessing.resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    processes = min(jobs or os.cpu_count() or 1, len(tasks))
    with contextlib.ExitStack() as stack:
        with held_back():  # so that no worker is left half-started
            pool = stack.enter_context(context.Pool(processes, maxtasksperchild=1))
        shown = stack.enter_context(Progress(len(tasks), "task"))
        total = 0
        for count in pool.imap_unordered(_call, tasks, chunksize=1):
            total += count
            shown.add()
    return total


def _call(task: Callable[[], int]) -> int:
    """Run a task: the pool needs a function that it can find by name."""
    return task()


def _check(out: Path, options: Options) -> None:
    """Raise ValueError on options that make no corpus, before any work."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"expected --out to be new, got {out}, which exists")
    atomic.check_new_folder("out", out)
    if not options.words or len(set(options.words)) < len(options.words):
        raise ValueError(f"expected words, each once, got {list(options.words)}")
    for word in options.words:
        if not word[:1].isalnum() or "/" in word or "\\" in word:
            raise ValueError(f"expected words that can name a folder, got {word!r}")
    if options.sentences:
        sentence(np.random.default_rng(0), options.words)
    if options.voices:
        recordings.babble(np.random.default_rng(0), options.words)
    if min(options.takes, options.noise_seconds) < 1:
        raise ValueError(f"expected positive numbers of takes and seconds, got {options}")
    if min(options.voices, options.sentences, options.sounds) < 0:
        raise ValueError(f"expected no negative numbers, got {options}")
    if not options.voices and (options.sentences or not options.sounds):
        raise ValueError("--voices: expected 1 or more, or 0 with --sounds alone, got 0")


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_string("out", None, "Folder to write.", required=True, flag_values=values)
    flags.DEFINE_list("words", list(WORDS), "Words to speak.", flag_values=values)
    numbers = (
        ("voices", 200, "Number of voices (speakers); 0 for --sounds alone.", 0, 100_000),
        ("takes", 2, "Clips of each word by each voice.", 1, 10_000),
        ("sentences", 0, "Sentences without the words by each voice.", 0, 10_000),
        ("sounds", 0, "Minutes of music, and as many of household noises.", 0, 10_000),
        ("seed", 0, "Seed of everything random.", 0, None),
        ("noise_seconds", 60, "Length of each background track, s.", 1, 36_000),
        ("jobs", 0, "Processes, 0: one per CPU.", 0, 1_000),
    )
    for name, default, text, least, most in numbers:
        flags.DEFINE_integer(
            name, default, text, lower_bound=least, upper_bound=most, flag_values=values
        )


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    options = Options(
        words=command.word_list(values.words),
        voices=values.voices,
        takes=values.takes,
        seed=values.seed,
        noise_seconds=values.noise_seconds,
        jobs=values.jobs,
        sentences=values.sentences,
        sounds=values.sounds,
    )
    clips = synthesize(Path(values.out), options)
    if options.voices:
        print(f"{clips} clips: {len(options.words)} words, {options.voices} voices")
        print(f"{1 + len(noises.TRACKS)} background tracks of {options.noise_seconds} s")
    if options.sounds:
        print(f"{options.sounds} minutes in each of {', '.join(recordings.SOUNDS)}")
    if options.sentences:
        print(f"{options.sentences * options.voices} sentences in {SENTENCES_FOLDER}")
    print(f"wrote {values.out}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def cli() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    cli()
