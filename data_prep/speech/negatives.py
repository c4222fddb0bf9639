"""Audio that holds no word to be detected: found, split by speaker or file, and where it speaks.

A source is a folder or a file, `KIND=PATH` or a path whose last part is the kind. Of the kind
`speech` are people talking; all others (music, noise, …) are sounds.
"""

import os
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.speech import splits
from data_prep.speech.cache import FRONTEND
from data_prep.speech.heard import match, read_heard
from data_prep.speech.index import Clip, Found, Index, look, unusable, writable

SPEECH = "speech"
BLOCK = FRONTEND["hop"]  # samples of which it is said whether someone speaks
# Speech is what is at most 30 dB below a file's loud parts and above -60 dB of full scale, with
# 100 ms to both sides, which bridge the pauses within words.
BELOW_LOUD, FLOOR, LOUD_PERCENT = 10 ** (-30 / 20), 32.768, 95
AROUND = 10  # blocks


class Negative(NamedTuple):
    """One file: `name` is relative to `root`; `split` an index; whether a word was heard in it;
    its speaker, "" where the name tells none.
    """

    root: Path
    name: str
    kind: str
    split: int
    heard: bool
    speaker: str = ""


def find_negatives(
    sources: Sequence[str],
    speaker: str | None = None,
    heard: Path | None = None,
    validation: float = splits.PERCENT,
) -> list[Negative]:
    """The files of all sources by kind and name; prints what a table of words has of others.

    Raises ValueError for a source without audio, and for a file that is twice of one kind.

    Splits are those of `splits.assign`, where a speaker is what the first group of the regular
    expression `speaker` that takes part in the match finds in a name, or else the file itself.

    Args:
      sources: as in the module docstring.
      speaker: regular expression with a group.
      heard: a table of files in which a word was heard, as of `read_heard`.
      validation: percent of the speakers for validation, as of `splits.assign`.
    """
    pattern = _pattern(speaker)
    found = [
        Negative(source.root, name, source.kind, 0, heard=False, speaker=_speaker(name, pattern))
        for source in map(_open, sources)
        for name in source.found.audio
    ]
    for kind in {each.kind for each in found}:
        real_paths([each for each in found if each.kind == kind])
    if heard is not None:
        marks, uncounted = match(read_heard(heard), [(each.kind, each.name) for each in found])
        found = [each._replace(heard=mark) for each, mark in zip(found, marks, strict=True)]
        if uncounted:
            lines, first = len(uncounted), uncounted[0]
            print(f"--heard: of {lines} lines no words are counted, such as {first}")
    return deal(found, validation)


def real_paths(negatives: Sequence[Negative]) -> dict[str, Path]:
    """The files by where they are in truth; ValueError for one that is there twice."""
    found: dict[str, Path] = {}
    for each in negatives:
        path = each.root / each.name
        other = found.setdefault(os.path.realpath(path), path)
        if other is not path:
            raise ValueError(
                f"--negatives: expected each file once, got {other} and {path}, which are one"
            )
    return found


def deal(negatives: Sequence[Negative], validation: float = splits.PERCENT) -> list[Negative]:
    """Files with a split each, by kind, folder and name; arguments as of `find_negatives`."""
    ordered = sorted(negatives, key=lambda each: (each.kind, str(each.root), each.name))
    dealt = []
    for (kind, root), group in groupby(ordered, lambda each: (each.kind, each.root)):
        own = list(group)
        clips = tuple(Clip(each.name, kind, each.speaker or each.name) for each in own)
        split_of, _ = splits.assign(Index(root, clips, (), ()), splits.Choice(), validation)
        dealt += [each._replace(split=split) for each, split in zip(own, split_of, strict=True)]
    return dealt


class LeftOut(NamedTuple):
    """What of the sources is not heard: names of files with why, and a line for other endings."""

    files: list[tuple[str, str]]
    endings: list[str]


def left_out(sources: Sequence[str]) -> LeftOut:
    """What lies in sources of `find_negatives` and is none of its files."""
    files, endings = [], []
    for source in map(_open, sources):
        files += [(f"{source.kind}/{name}", why) for name, why in source.found.unusable.items()]
        if source.found.others:
            counted = ", ".join(f"{n} of {end}" for end, n in source.found.others.most_common())
            endings.append(f"{source.kind}: files of endings that are not read: {counted}")
    return LeftOut(files, endings)


def speakers_found(negatives: Sequence[Negative]) -> list[str]:
    """A line for each kind: how many speakers were found, and in how many of its names."""
    lines = []
    for kind in sorted({each.kind for each in negatives}):
        own = [each for each in negatives if each.kind == kind]
        named = [each for each in own if each.speaker]
        speakers = {each.speaker for each in named}
        who = f"{len(speakers)} in {len(named)} of {len(own)} {kind} files"
        if len(named) < len(own):
            who += "; each of the others is taken for its own"
        if len({(each.speaker, each.split) for each in named}) > len(speakers):
            who += "; the same are in several splits"
        lines.append(f"--negative_speaker: {who}")
    return lines


def activity(samples: np.ndarray) -> np.ndarray:
    """Whether someone speaks, bool for every `BLOCK` of int16 [samples], by its loudness.

    It is for recordings of people talking: in others it says what is loud.
    """
    padded = np.zeros(-(-len(samples) // BLOCK) * BLOCK, np.float32)
    padded[: len(samples)] = samples
    level = np.sqrt(np.square(padded.reshape(-1, BLOCK)).mean(1))
    loud = max(BELOW_LOUD * np.percentile(level, LOUD_PERCENT), FLOOR) if len(level) else FLOOR
    return np.convolve(level > loud, np.ones(2 * AROUND + 1), "full")[AROUND:-AROUND] > 0.5


class _Source(NamedTuple):
    """A folder, the kind of what is in it, and what that is."""

    root: Path
    kind: str
    found: Found


def place_of(source: str) -> tuple[str, str]:
    """Kind, "" if none is named, and path of a source."""
    # What is there as it stands is a path, whatever signs it has.
    kind, equals, place = ("", "", source) if Path(source).exists() else source.partition("=")
    return (kind, place) if equals else ("", source)


def _open(source: str) -> _Source:
    """A source by what the user says of it."""
    kind, place = place_of(source)
    path = Path(place)
    if not kind and place == source:
        kind = (path.resolve().stem if path.is_file() else path.resolve().name).strip("_")
    kind = SPEECH if kind.casefold() == SPEECH else kind
    # A kind names files of results, and rows of tables.
    if not place or kind in (".", "..") or "/" in kind or not writable(kind):
        raise ValueError(
            f"--negatives: expected a path or KIND=PATH, KIND without /, got {source!r}"
        )
    if path.is_file():
        why = unusable(path.parent, path.name)
        if why is not None:
            raise ValueError(f"--negatives: expected a file of audio, got {source!r}: {why}")
        return _Source(path.parent, kind, Found([path.name]))
    if not path.is_dir():
        raise ValueError(f"--negatives: expected a folder or a file, got {path}")
    found = look(path)
    if not found.audio:
        raise ValueError(f"--negatives: expected audio in {path}, got none")
    return _Source(path, kind, found)


def _pattern(speaker: str | None) -> re.Pattern[str] | None:
    """The compiled pattern of speakers."""
    if speaker is None:
        return None
    try:
        pattern = re.compile(speaker)
    except re.error as error:
        raise ValueError(
            f"--negative_speaker: expected a regular expression, got {speaker!r}: {error}"
        ) from None
    if not pattern.groups:
        raise ValueError(f"--negative_speaker: expected a group ( ) in it, got {speaker!r}")
    return pattern


def _speaker(name: str, pattern: re.Pattern[str] | None) -> str:
    """Who speaks in a file, or which recording it is a part of; "" without a match."""
    found = pattern.search(name) if pattern else None
    groups = [group for group in found.groups() if group] if found else []
    return groups[0] if groups else ""
