"""Decode a data set once into a cache folder for training.

    python -m data_prep.prepare --data speech_commands --out cache
    python -m data_prep.prepare --data digits --pattern '{word}_{speaker}_{n}.wav' --out cache

Reads what libsndfile reads (wav, flac, ogg, mp3, opus, aiff, …) of any rate. Clips longer than 1 s
are cut to their loudest second.

    python -m data_prep.prepare --data speech_commands --out cache --negatives talks/speech \
        --negatives music --negatives noise=sounds --negative_speaker '_spk([^_]+)_'

Negatives are audio without the words, of any length and format, kept beside the clips with splits
of their own: speech in a folder of that name (or speech=PATH), all else is sound. Where a kind has
too few files for three splits, each is cut: its beginning trains, then comes validation, testing.
Where all words are to be detected, pieces of the speech become unknown ones.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_prep.command import cli as command
from data_prep.flags.splits import choice_of, define_split_flags
from data_prep.speech.cache import FRONTEND, SPLITS
from data_prep.speech.negative_cache import open_negatives
from data_prep.speech.options import WORDS, Options
from data_prep.speech.preparing import prepare
from data_prep.speech.splits import PERCENT
from data_prep.speech.tables import lacking, negative_table, table
from data_prep.speech.talk_words import MOST


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
    flags.DEFINE_integer(
        "max_hz",
        FRONTEND["fmax"],
        "Where the mel bands end, Hz; models trained on the cache keep it.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "negatives",
        [],
        "Folder or file of audio without the words, of any length: PATH, whose last part is the "
        "kind, or KIND=PATH. Of the kind speech people talk; others are sounds. May be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "negative_speaker",
        None,
        "Regular expression whose group is the speaker (or recording) in names of negatives, who "
        "stays in one split; of several groups the one that matched, as in "
        r"'_spk([^_]+)_|(\d-\d+)-[A-Z]'. By default every file is on its own.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "negative_validation",
        PERCENT,
        "Percent of the negatives' speakers (or files) for validation, at the cost of training: a "
        "rate of alarms can be chosen on hours only. Testing stays a tenth.",
        lower_bound=1,
        upper_bound=80,
        flag_values=values,
    )
    flags.DEFINE_string(
        "heard",
        None,
        "Table (file, tab, words or -) of negatives in which a word was heard: left out of "
        "training, counted apart in tests. A file is its path, or its name where that is unique.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "talk_words",
        MOST,
        "Where all words of --data are to be detected: how many pieces of the negatives' speech "
        "are unknown words, at most, for training and for validation; 0: none.",
        lower_bound=0,
        flag_values=values,
    )
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
        max_hz=values.max_hz,
        negatives=tuple(values.negatives),
        negative_speaker=values.negative_speaker,
        negative_validation=values.negative_validation,
        heard=Path(values.heard) if values.heard is not None else None,
        talk_words=values.talk_words,
    )
    own = ("negative_speaker", "negative_validation", "heard", "talk_words")
    if not options.negatives and (alone := [f"--{name}" for name in own if values[name].present]):
        raise ValueError(f"{', '.join(alone)}: expected --negatives with it, got none")
    counts = prepare(Path(values.data), Path(values.out), options)
    print(table(counts))
    for split in SPLITS:
        if not any(row[split] for row in counts.values()):
            print(f"the {split} split is empty")
    negatives = open_negatives(Path(values.out))
    if negatives is not None:
        print("\n".join([negative_table(negatives), *lacking(negatives)]))
    print(f"wrote {values.out}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def cli() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    cli()
