"""From a folder of words to a cache: find, split, decode, write."""

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.command import atomic
from data_prep.command.progress import print_above
from data_prep.speech import decode, splits
from data_prep.speech.cache import (
    SILENCE,
    SPLITS,
    UNKNOWN,
    CacheRow,
    is_cache,
    write_cache,
)
from data_prep.speech.files import SILENT, read_all
from data_prep.speech.index import Index, find
from data_prep.speech.negative_cache import NegativeRow, open_negatives, write_negatives
from data_prep.speech.negatives import (
    Negative,
    deal,
    find_negatives,
    left_out,
    real_paths,
    speakers_found,
)
from data_prep.speech.options import Options, wanted_words
from data_prep.speech.provenance import provenance_of
from data_prep.speech.stretches import kinds_to_cut, stretches
from data_prep.speech.talk_words import TALK, cut_out


def prepare(data: Path, out: Path, options: Options) -> dict[str, dict[str, int]]:
    """Index, split, decode and write the cache `out`; return clips per class and split.

    Prints one line per decision. Raises ValueError or OSError before anything is written.
    """
    decode.check_max_hz(options.max_hz)
    _check_out(data, out, options.overwrite)
    index = find(data, options.pattern)
    if len(index.words) < 2 and not options.negatives:
        unusable = "".join(f"; {name}: {reason}" for name, reason in index.unusable[:1])
        raise ValueError(
            f"expected clips of at least two words in {data}, or --negatives to tell one from, got "
            f"one word: {index.words[0]}{unusable}"
        )
    words = wanted_words(index, options)
    negatives = find_negatives(
        options.negatives, options.negative_speaker, options.heard, options.negative_validation
    )
    _check_negatives(negatives, index)
    split_of, rule = splits.assign(index, options.choice)
    label_of = {word: label for label, word in enumerate(words, start=2)}
    print(
        f"{len(index.clips)} clips of {len(index.words)} words by {len(index.speakers)} speakers "
        f"in {data}; split {rule}"
    )
    if index.nameless:
        print(
            f"{index.nameless} of {len(index.clips)} file names tell no speaker: each is taken for "
            "a speaker of its own, and the same person may be in several splits; give --pattern "
            "with {speaker}"
        )
    if index.others:
        counted = ", ".join(f"{count} of {ending}" for ending, count in index.others)
        print(f"files of endings that are not read: {counted}")
    if index.ignored:
        print(f"{len(index.ignored)} audio files do not fit the layout: {_shown(index.ignored)}")
    if options.negative_speaker is not None:
        print("\n".join(speakers_found(negatives)))
    names = [clip.name for clip in index.clips]
    hashes: dict[str, str] = {}
    skipped: dict[str, str] = {}
    cut: list[str] = []
    in_stretches: dict[str, int] = {}
    provenance: dict[str, Any] = {}
    final: list[int] = []
    all_words, speakers = list(index.words), list(index.speakers)  # pieces of talk add to both
    passed_over = left_out(options.negatives)
    print("\n".join(passed_over.endings), end="\n" if passed_over.endings else "")
    for name, reason in index.unusable:
        _skip(name, reason, skipped, options.strict)
    for name, reason in passed_over.files:
        _skip(f"negatives/{name}", reason, skipped, options.strict)

    def rows() -> Iterator[CacheRow]:
        """Clips that can be read; the provenance is complete after the last one."""
        word_of = {word: i for i, word in enumerate(index.words)}
        speaker_of = {speaker: i for i, speaker in enumerate(index.speakers)}
        readable: list[int] = []
        files = read_all(index.root, names, options.jobs, "clips")
        for i, (clip, (name, file)) in enumerate(zip(index.clips, files, strict=True)):
            hashes[name] = file.sha256
            if file.samples is None:
                _skip(name, file.reason, skipped, options.strict)
                continue
            if file.cut:
                cut.append(name)
            readable.append(i)
            yield CacheRow(
                file.samples,
                label_of.get(clip.word, 1),
                word_of[clip.word],
                split_of[i],
                speaker_of[clip.speaker],
                clip.name,
            )
        clips = tuple(index.clips[i] for i in readable)
        final[:], by = [split_of[i] for i in readable], rule
        if len(clips) < len(index.clips) and clips:
            # Those that cannot be read are dealt to no split.
            final[:], by = splits.assign(dataclasses.replace(index, clips=clips), options.choice)
        kept = Counter((clip.word, split) for clip, split in zip(clips, final, strict=True))
        provenance.update(
            provenance_of(index, options, words, by, kept, hashes, skipped, cut, negatives)
        )
        provenance["negatives"]["in_stretches"] = in_stretches

    def out_of_talk(folder: Path) -> Iterator[CacheRow]:
        """Unknown words where none was read, to learn with; each negative is a speaker."""
        stored = open_negatives(folder)
        counts, made = provenance["counts"], dict[str, int]()
        provenance["negatives"]["talk_words"] = made
        if stored is None or any(any(counts[w].values()) for w in counts if w not in label_of):
            return
        speaker_of: dict[int, int] = {}
        for number in sorted({splits.TRAINING, splits.VALIDATION} & set(final)):
            for piece in cut_out(stored, SPLITS[number], options.talk_words):
                name = f"negatives/{_in_a_line(stored.names[piece.row])}"
                if piece.row not in speaker_of:
                    speaker_of[piece.row] = len(speakers)
                    speakers.append(name)
                final.append(number)
                made[SPLITS[number]] = made.get(SPLITS[number], 0) + 1
                name += f" at {piece.seconds:.2f} s"
                speaker = speaker_of[piece.row]
                yield CacheRow(piece.samples, 1, len(index.words), number, speaker, name)
        if made:
            all_words.append(TALK)

    def write_more(folder: Path) -> Iterator[CacheRow]:
        """Read the negatives and write those that can be read; the clips made of them."""

        def readable(dealt: Sequence[Negative], unread: list[Negative]) -> Iterator[NegativeRow]:
            too_few = kinds_to_cut(dealt)
            in_stretches.clear()
            in_stretches.update(dict.fromkeys(too_few, 0))
            paths = [str(each.root / each.name) for each in dealt]
            files = read_all(Path(), paths, options.jobs, "negatives", whole=True)
            for each, (_, file) in zip(dealt, files, strict=True):
                # Where files lie is no part of what is known of a cache.
                name = f"negatives/{each.kind}/{each.name}"
                hashes[name] = file.sha256
                if file.samples is None:
                    _skip(name, file.reason, skipped, options.strict)
                    unread.append(each)
                    continue
                rows = _negative_rows(each, file.samples, options, each.kind in too_few)
                if len(rows) > 1:
                    in_stretches[each.kind] += 1
                yield from rows

        unread: list[Negative] = []
        write_negatives(folder, readable(negatives, unread))
        # Those that cannot be read are dealt to no split: once more without them, if that matters.
        left = set(unread)
        rest = [each for each in negatives if each not in left]
        dealt = deal(rest, options.negative_validation)
        if dealt != rest or set(kinds_to_cut(rest)) != set(in_stretches):
            write_negatives(folder, readable(dealt, []))
        return out_of_talk(folder)

    noise = []
    for name, file in read_all(index.root, index.noise, options.jobs, "noise", whole=True):
        hashes[name] = file.sha256
        if file.samples is None:
            _skip(name, file.reason, skipped, options.strict)
        else:
            noise.append(file.samples)
    counts = write_cache(
        out,
        rows(),
        noise=noise,
        mel=decode.mel_matrix(options.max_hz),
        max_hz=options.max_hz,
        classes=(SILENCE, UNKNOWN, *words),
        all_words=all_words,
        all_speakers=speakers,
        provenance=provenance,
        write_more=write_more if negatives else None,
        splits=final,
    )
    for word in words:
        if not counts[word][SPLITS[0]]:
            print(
                f"no training clips of {word}: record more of it, name other --words, or split "
                "by other speakers or takes"
            )
    made = provenance["negatives"].get("talk_words")
    if made:
        numbers = ", ".join(f"{number} for {split}" for split, number in made.items())
        print(f"no words but those to detect: pieces of the talk are unknown ones, {numbers}")
    elif negatives and options.talk_words and not any(counts[UNKNOWN].values()):
        print("no words but those to detect, and no speech among the negatives for unknown ones")
    for kind, files in in_stretches.items():
        if files:
            print(
                f"too few files of {kind} for three splits: {files} cut into a stretch for each, "
                "so that the same voices and rooms are in all"
            )
    if cut:
        print(f"{len(cut)} clips longer than 1 s were cut to their loudest second: {_shown(cut)}")
    if skipped:
        print(f"{len(skipped)} files were skipped (named above and in provenance.json)")
    seconds = sum(map(len, noise)) / decode.SAMPLE_RATE
    print(
        f"{len(noise)} background tracks, {seconds:.0f} s"
        if noise
        else "no background tracks: silence will be digital zeros and nothing is mixed in"
    )
    return counts


def _negative_rows(
    each: Negative, samples: np.ndarray, options: Options, too_few: bool
) -> list[NegativeRow]:
    """A file as it is, or where files are too few a stretch of it for each split."""
    # What a word was heard in is left out of training, so that no split is short of it.
    cuts = stretches(len(samples), options.negative_validation) if too_few else []
    if each.heard or not cuts:
        return [NegativeRow(samples, each.name, each.kind, each.split, each.heard)]
    rows = []
    for split, where in cuts:
        begins = f" from {where.start / decode.SAMPLE_RATE:g} s" if where.start else ""
        rows.append(NegativeRow(samples[where], each.name + begins, each.kind, split, False))
    return rows


def _check_negatives(negatives: Sequence[Negative], index: Index) -> None:
    """ValueError where a negative is a clip of the data set, or is there twice."""
    named = index.clips if negatives else ()
    clips = {os.path.realpath(index.root / clip.name) for clip in named}
    for real, path in real_paths(negatives).items():
        if real in clips:
            raise ValueError(f"--negatives: expected other audio than --data's clips, got {path}")


def _check_out(data: Path, out: Path, overwrite: bool) -> None:
    """Refuse to replace anything that is not a cache, and a cache unless asked to."""
    atomic.check_new_folder("out", out)
    if out.exists():
        empty = out.is_dir() and not any(out.iterdir())
        if not is_cache(out) and not empty:
            raise ValueError(f"expected --out to be new or a cache, got {out}, which is neither")
        if not overwrite and not empty:
            raise ValueError(f"{out} holds a cache already: give --overwrite to replace it")
        if out.resolve() in (data.resolve(), *data.resolve().parents):
            raise ValueError(f"expected --out outside of --data, got {out}")


def _skip(name: str, reason: str, skipped: dict[str, str], strict: bool) -> None:
    """Report an unreadable file, or fail on it."""
    name = _in_a_line(name)
    if strict and reason != SILENT:  # which can be read
        raise ValueError(f"cannot read {name}: {reason}")
    print_above(f"skipped {name}: {reason}", sys.stderr)
    skipped[name] = reason


def _in_a_line(name: str) -> str:
    """A file's name, as it can be printed in a line."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _shown(names: Sequence[str]) -> str:
    """Up to three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
