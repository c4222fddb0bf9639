"""Make a long labelled stream for the evaluation of a detector.

    python -m data_prep.make_stream --data cache --split testing --minutes 60 --seed 0 --out s.wav

Writes `s.wav` (16-bit, 16 kHz), `s_labels.txt`, a line `word, ms` for each clip, where ms is the
start of the clip, and `s.json`: the split, the options, the data's fingerprint. --data is a cache
of data_prep.prepare, or a folder that it could read.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data_prep.command import atomic
from data_prep.command import cli as command
from data_prep.flags.splits import choice_of, define_split_flags
from data_prep.speech import decode, splits, streams
from data_prep.speech.cache import SPLITS, UNKNOWN, fingerprint, is_cache, open_cache
from data_prep.speech.index import composed, find
from data_prep.speech.options import Options as Source
from data_prep.speech.options import wanted_words
from data_prep.speech.pools import NEGATIVES, NOISE, pool_of_cache
from data_prep.speech.wav import write_wav


def pool_of_folder(data: Path, split: str, source: Source) -> streams.Pool:
    """Clips of one split of a data folder, found and split as `prepare` does it."""
    index = find(data, source.pattern)
    words = wanted_words(index, source)
    split_of, rule = splits.assign(index, source.choice)
    print(f"{len(index.clips)} clips of {len(index.words)} words in {data}; split {rule}")
    if index.unusable:
        name, why = index.unusable[0]
        print(f"{len(index.unusable)} files are left out, such as {name}: {why}")
    rows = np.flatnonzero(np.array(split_of) == SPLITS.index(split))
    names = np.array([index.clips[row].word for row in rows])
    return streams.Pool(
        words={word: rows[names == word] for word in words},
        unknown=rows[~np.isin(names, words)],
        clip=lambda row: decode.loudest_second(decode.read(data / index.clips[row].name)),
        noise=[decode.read(data / name) for name in index.noise],
    )


def provenance(
    split: str, options: streams.Options, words: Sequence[str], data_sha256: str | None
) -> dict[str, Any]:
    """What a stream was made of, as JSON; the fingerprint is None where the data has none."""
    made = {"split": split, **dataclasses.asdict(options), "words": list(words)}
    return made | {"data_sha256": data_sha256}


def labels_of(out: Path) -> Path:
    """The labels' file of a stream."""
    return out.with_name(f"{out.stem}_labels.txt")


def write_stream(
    out: Path, stream: np.ndarray, placed: Sequence[streams.Placed], source: dict[str, Any]
) -> Path:
    """Write the audio and, beside it, its labels and provenance; return the path of the labels."""
    labels = labels_of(out)
    text = "".join(f"{word.label}, {word.ms:.4f}\n" for word in placed)
    origin = json.dumps(source, indent=1, ensure_ascii=False) + "\n"
    with atomic.new_files(labels, out.with_suffix(".json"), out) as (new_labels, new_json, new_out):
        write_wav(new_out, decode.to_int16(stream))
        new_labels.write_text(text, encoding="utf-8")
        new_json.write_text(origin, encoding="utf-8")
    return labels


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_string(
        "data", None, "Cache, or folder of audio.", required=True, flag_values=values
    )
    flags.DEFINE_string("out", None, "WAV file to write.", required=True, flag_values=values)
    flags.DEFINE_enum("split", "testing", SPLITS, "Where words come from.", flag_values=values)
    flags.DEFINE_float(
        "minutes", 60.0, "Length of the stream.", upper_bound=1e5, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "Seed.", lower_bound=0, flag_values=values)
    flags.DEFINE_list("words", [], "Words with a label of their own.", flag_values=values)
    flags.DEFINE_string("pattern", None, "File names, as in prepare.", flag_values=values)
    define_split_flags(values)
    defaults = streams.Options()
    flags.DEFINE_integer(
        "word_gap_ms",
        defaults.word_gap_ms,
        "Mean gap after a clip, ms.",
        lower_bound=0,
        upper_bound=10**8,
        flag_values=values,
    )
    flags.DEFINE_float(
        "unknown_percent", defaults.unknown_percent, "Share of other words.", flag_values=values
    )
    flags.DEFINE_float(
        "noise_volume",
        defaults.noise_volume,
        "Largest gain of noise.",
        lower_bound=0,
        upper_bound=1e6,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "background",
        NOISE,
        [NOISE, NEGATIVES],
        "What lies under the words: the noise tracks, or a cache's negatives of the split.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    data, out = Path(values.data), Path(values.out)
    if out.suffix.lower() != ".wav" or out.is_dir():
        raise ValueError(f"expected --out to be a .wav file, got {out}")
    for each in (out, out.with_suffix(".json"), labels_of(out)):
        atomic.check_place("out", str(each))
    words = tuple(map(composed, command.word_list(values.words)))
    source = Source(words=words, pattern=values.pattern, choice=choice_of(values))
    if is_cache(data):
        if source != Source(words=words):
            raise ValueError("expected only --words with a cache, whose layout and split are made")
        pool = pool_of_cache(open_cache(data), values.split, words, values.background)
        sha256 = fingerprint(data)
    elif values.background != NOISE:
        raise ValueError(f"--background {values.background}: expected a cache, got {data}")
    else:
        sha256 = None
        pool = pool_of_folder(data, values.split, source)
    options = streams.Options(
        minutes=values.minutes,
        seed=values.seed,
        word_gap_ms=values.word_gap_ms,
        unknown_percent=values.unknown_percent,
        noise_volume=values.noise_volume,
    )
    if not len(pool.unknown):
        print("no clips of other words: the stream has none of them")
    if not pool.noise:
        print("no background tracks: words stand in digital silence")
    empty = [word for word, rows in pool.words.items() if not len(rows)]
    if empty:
        print(f"no {values.split} clips of {', '.join(empty)}: they are left out")
    stream, placed = streams.make_stream(pool, options)
    made = provenance(values.split, options, list(pool.words), sha256)
    made["background"] = values.background
    labels = write_stream(out, stream, placed, made)
    unknown = sum(word.label == UNKNOWN for word in placed)
    print(f"{len(placed)} words, {unknown} of them unknown, in {len(stream) / streams.RATE:.1f} s")
    print(f"wrote {out} and {labels}")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def cli() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    cli()
