"""From a folder of words to a cache: find, split, decode, write."""

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from data_prep.command import atomic
from data_prep.command.progress import print_above
from data_prep.speech import decode, splits
from data_prep.speech.cache import (
    FRONTEND,
    SILENCE,
    SPLITS,
    UNKNOWN,
    CacheRow,
    is_cache,
    write_cache,
)
from data_prep.speech.files import SILENT, read_all
from data_prep.speech.index import Index, composed, find
from data_prep.speech.negative_cache import NegativeRow, open_negatives, write_negatives
from data_prep.speech.negatives import (
    Negative,
    deal,
    find_negatives,
    left_out,
    real_paths,
    speakers_found,
)
from data_prep.speech.stretches import kinds_to_cut, stretches
from data_prep.speech.talk_words import MOST, TALK, cut_out

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `prepare`; `words` empty: the ten words, or with a pattern all words found."""

    words: tuple[str, ...] = ()
    pattern: str | None = None
    choice: splits.Choice = dataclasses.field(default_factory=splits.Choice)
    strict: bool = False
    overwrite: bool = False
    jobs: int = 0  # decoding threads, 0: one per CPU
    max_hz: int = FRONTEND["fmax"]  # where the mel bands end
    negatives: tuple[str, ...] = ()  # the rest as in `find_negatives`
    negative_speaker: str | None = None
    negative_validation: float = splits.PERCENT
    heard: Path | None = None
    talk_words: int = MOST  # of a split, where the data have no unknown words


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
    speakers = {speaker: i for i, speaker in enumerate(index.speakers)}
    # Words that are not wanted are unknown; who has none gets some of the talk.
    talk_words = options.talk_words if set(words) == set(index.words) else 0
    passed_over = left_out(options.negatives)
    print("\n".join(passed_over.endings), end="\n" if passed_over.endings else "")
    for name, reason in index.unusable:
        _skip(name, reason, skipped, options.strict)
    for name, reason in passed_over.files:
        _skip(f"negatives/{name}", reason, skipped, options.strict)

    def rows() -> Iterator[CacheRow]:
        """Clips that can be read; the provenance is complete after the last one."""
        word_of = {word: i for i, word in enumerate(index.words)}
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
                speakers[clip.speaker],
                clip.name,
            )
        clips = tuple(index.clips[i] for i in readable)
        final[:], by = [split_of[i] for i in readable], rule
        if len(clips) < len(index.clips) and clips:
            # Those that cannot be read are dealt to no split.
            final[:], by = splits.assign(dataclasses.replace(index, clips=clips), options.choice)
        kept = Counter((clip.word, split) for clip, split in zip(clips, final, strict=True))
        provenance.update(
            _provenance(index, options, words, by, kept, hashes, skipped, cut, negatives)
        )
        provenance["negatives"]["in_stretches"] = in_stretches

    def out_of_talk(folder: Path) -> Iterator[CacheRow]:
        """Unknown words of splits with others; who says them is known by the file."""
        stored = open_negatives(folder)
        with_words = set(final)
        for piece in cut_out(stored, talk_words) if stored is not None and talk_words else ():
            if piece.split not in with_words:
                continue
            speaker = speakers.setdefault(piece.source, len(speakers))
            final.append(piece.split)
            yield CacheRow(piece.samples, 1, len(index.words), piece.split, speaker, piece.name)

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
        all_words=(*index.words, TALK) if talk_words and negatives else index.words,
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
    if talk_words and any(counts[UNKNOWN].values()):
        numbers = ", ".join(f"{number} for {split}" for split, number in counts[UNKNOWN].items())
        print(f"no words but those to detect: pieces of the talk are unknown ones, {numbers}")
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


def wanted_words(index: Index, options: Options) -> tuple[str, ...]:
    """The words to detect, checked against those found."""
    everything = options.words == ("all",) or (not options.words and options.pattern is not None)
    words = index.words if everything else tuple(map(composed, options.words)) or WORDS
    if len(set(words)) < len(words) or {SILENCE, UNKNOWN, TALK} & set(words):
        raise ValueError(
            f"expected different words other than {SILENCE}, {UNKNOWN} and {TALK}, got {words}"
        )
    absent = [word for word in words if word not in index.words]
    if absent:
        raise ValueError(
            f"expected --words out of those in {index.root} ({', '.join(index.words)}), "
            f"got {', '.join(absent)}"
        )
    return words


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
    name = name if name.isprintable() else ascii(name)[1:-1]
    if strict and reason != SILENT:  # which can be read
        raise ValueError(f"cannot read {name}: {reason}")
    print_above(f"skipped {name}: {reason}", sys.stderr)
    skipped[name] = reason


def _provenance(
    index: Index,
    options: Options,
    words: Sequence[str],
    rule: str,
    kept: Counter[tuple[str, int]],
    hashes: dict[str, str],
    skipped: dict[str, str],
    cut: Sequence[str],
    negatives: Sequence[Negative],
) -> dict[str, Any]:
    """Contents of provenance.json."""
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    choice = {
        field: sorted(getattr(options.choice, field))
        for field in (item.name for item in dataclasses.fields(options.choice))
    }
    return {
        "source": index.root.resolve().name,
        "options": {
            "words": list(words),
            "pattern": options.pattern,
            "strict": options.strict,
            "max_hz": options.max_hz,
            "talk_words": options.talk_words,
            **choice,
        },
        "split": rule,
        "counts": {
            word: {split: kept[word, s] for s, split in enumerate(SPLITS)} for word in index.words
        },
        "negatives": {
            "sources": sorted({f"{each.kind}={each.root.resolve().name}" for each in negatives}),
            "speaker": options.negative_speaker,
            "validation_percent": options.negative_validation,
            "heard": sum(each.heard for each in negatives),
        },
        "noise": [name for name in index.noise if name not in skipped],
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "skipped": skipped,
        "cut_to_1_s": list(cut),
        "ignored": list(index.ignored),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "librosa": importlib.metadata.version("librosa"),
            "soundfile": soundfile.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
        },
    }


def _shown(names: Sequence[str]) -> str:
    """Up to three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
