"""Decode a data set once into a cache folder for training.

    python -m data_prep.prepare --data speech_commands --out cache
    python -m data_prep.prepare --data digits --pattern '{word}_{speaker}_{n}.wav' --out cache

Reads what libsndfile reads (wav, flac, ogg, mp3, opus, aiff, …) of any rate. Clips longer than 1 s
are cut to their loudest second.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_prep.command import cli as command
from data_prep.flags.splits import choice_of, define_split_flags
from data_prep.speech.cache import SPLITS
from data_prep.speech.preparing import WORDS, Options, prepare, table


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_string("data", None, "Folder of audio.", required=True, flag_values=values)
    flags.DEFINE_string("out", None, "Cache folder to write.", required=True, flag_values=values)
    flags.DEFINE_list(
        "words",
        [],
        "Words to detect, in class order, or 'all'; others are unknown. By default "
        f"{','.join(WORDS)}; with --pattern all.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "pattern",
        None,
        "File names outside the Speech Commands layout, such as {word}_{speaker}_{n}.wav.",
        flag_values=values,
    )
    define_split_flags(values)
    flags.DEFINE_bool("strict", False, "Fail on an unreadable file.", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "Replace an existing cache.", flag_values=values)
    flags.DEFINE_integer(
        "jobs", 0, "Decoding threads, 0: one per CPU.", lower_bound=0, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    options = Options(
        words=command.word_list(values.words),
        pattern=values.pattern,
        choice=choice_of(values),
        strict=values.strict,
        overwrite=values.overwrite,
        jobs=values.jobs,
    )
    counts = prepare(Path(values.data), Path(values.out), options)
    print(table(counts))
    for split in SPLITS:
        if not any(row[split] for row in counts.values()):
            print(f"the {split} split is empty")
    print(f"wrote {values.out}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def cli() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    cli()
