"""Which clips train, validate and test: lists, takes, named speakers, or a hash of the speaker."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_prep.command.reading import read_text
from data_prep.speech.cache import SPLITS
from data_prep.speech.index import Clip, Index, composed

TRAINING, VALIDATION, TESTING = range(3)
LISTS = {VALIDATION: "validation_list.txt", TESTING: "testing_list.txt"}
MOST_DIGITS = 6  # of the number of a take in a flag
PERCENT = 10.0  # of validation, and of testing
# Speech Commands keeps a file in its split for ever by hashing its speaker into this range.
MAX_NUM_WAVS_PER_CLASS = 2**27 - 1
FEW = 30  # speakers: of fewer, a hash may well put half into testing


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the user says about the splits; empty: the lists of the data set, or the hash."""

    validation_speakers: tuple[str, ...] = ()
    testing_speakers: tuple[str, ...] = ()
    validation_takes: frozenset[int] = frozenset()
    testing_takes: frozenset[int] = frozenset()


def hash_split(speaker: str, validation: float = PERCENT) -> int:
    """Split index of a speaker by the SHA-1 rule of Speech Commands: 10 % validation, 10 % testing.

    `speaker` is the file name up to `_nohash_`, `validation` the percent for validation: what is
    more than 10 comes from training, so that testing stays what it is.
    """
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (MAX_NUM_WAVS_PER_CLASS + 1)
    percent = number * (100.0 / MAX_NUM_WAVS_PER_CLASS)
    if PERCENT <= percent < 2 * PERCENT:
        return TESTING
    return VALIDATION if percent - PERCENT * (percent >= 2 * PERCENT) < validation else TRAINING


def assign(index: Index, choice: Choice, validation: float = PERCENT) -> tuple[list[int], str]:
    """Split index of every clip, and one line that says what decided.

    Named takes or speakers win, then the lists of the data set, then the hash. Where it leaves a
    split empty, or speakers are few and the data set has no tradition of hashing, speakers are
    dealt out by quota, at least one to each split; with fewer than three speakers each word's
    files are, and speakers are not kept apart. `validation` is the percent of hash and quota, as of
    `hash_split`.
    """
    clips = index.clips
    takes = {VALIDATION: choice.validation_takes, TESTING: choice.testing_takes}
    names = {VALIDATION: choice.validation_speakers, TESTING: choice.testing_speakers}
    for split in takes:
        if takes[split] and names[split]:
            raise ValueError(f"expected {SPLITS[split]} by takes or by speakers, got both")
    if any(takes.values()) and any(names.values()):
        return _by_both(clips, takes, names)
    if any(takes.values()):
        return _by_takes(clips, takes)
    if any(names.values()):
        return _by_names(clips, names)
    lists = {split: _read_list(index.root / name) for split, name in LISTS.items()}
    if any(entries is not None for entries in lists.values()):
        return _by_lists(clips, lists)
    plain = {hash_split(clip.speaker) for clip in clips}
    few = index.pattern is not None and len({clip.speaker for clip in clips}) < FEW
    if len(plain) == len(SPLITS) and not few:
        splits = [hash_split(clip.speaker, validation) for clip in clips]
        return splits, "by the SHA-1 hash of the speaker"
    return _by_quota(clips, validation)


def parse_takes(text: str) -> frozenset[int]:
    """Take numbers of a flag such as `0-4,7`."""
    takes: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"expected take numbers such as 0-4 or 0,2,7, got {text!r}")
        if max(len(first), len(last)) > MOST_DIGITS or (dash and int(last) < int(first)):
            raise ValueError(
                f"expected take numbers of at most {MOST_DIGITS} digits, the first of two not the "
                f"larger, got {text!r}"
            )
        takes.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(takes)


def _read_list(path: Path) -> set[str] | None:
    """Names in a list file without their endings (clips may have been re-encoded), or None."""
    if not path.is_file():
        return None
    lines = [line.strip().replace("\\", "/") for line in read_text(path).split("\n")]
    return {os.path.splitext(composed(line.removeprefix("./")))[0] for line in lines if line}


def _by_lists(clips: Sequence[Clip], lists: dict[int, set[str] | None]) -> tuple[list[int], str]:
    """A list alone decides who is in its split; a split without a list goes by the hash."""
    splits, twice = [], 0
    stale = _stale(clips, lists)
    for clip in clips:
        stem = composed(os.path.splitext(clip.name)[0])
        listed = [split for split, entries in lists.items() if entries and stem in entries]
        twice += len(listed) > 1
        hashed = hash_split(clip.speaker)
        if listed:
            splits.append(listed[-1])
        else:
            splits.append(hashed if lists.get(hashed, set()) is None else TRAINING)
    used = " and ".join(LISTS[split] for split, entries in lists.items() if entries is not None)
    both = f"; {twice} clips are in both lists: they are for testing" if twice else ""
    return splits, f"by {used}{stale}{both}"


def _stale(clips: Sequence[Clip], lists: dict[int, set[str] | None]) -> str:
    """Entries that name no clip, for the user; ValueError where a list names none at all."""
    stems = {composed(os.path.splitext(clip.name)[0]) for clip in clips}
    said = []
    for split, entries in lists.items():
        absent = sorted((entries or set()) - stems)
        if absent and len(absent) == len(entries or ()):
            raise ValueError(
                f"expected names of clips such as {min(stems)} in {LISTS[split]}, "
                f"got {len(absent)} others such as {absent[0]}"
            )
        if absent:
            said.append(f"{len(absent)} entries of {LISTS[split]} name no clip ({absent[0]}, …)")
    return "".join(f"; {line}" for line in said)


def _by_takes(clips: Sequence[Clip], takes: dict[int, frozenset[int]]) -> tuple[list[int], str]:
    """Takes by number; a split that has none is a tenth of each word's other files."""
    _check_numbered(clips)
    if takes[VALIDATION] & takes[TESTING]:
        raise ValueError(
            "expected takes in one split each, got both for "
            f"{sorted(takes[VALIDATION] & takes[TESTING])}"
        )
    splits = [
        next((split for split, numbers in takes.items() if clip.take in numbers), TRAINING)
        for clip in clips
    ]
    for split, numbers in takes.items():
        if numbers and split not in splits:
            raise ValueError(f"expected clips with the {SPLITS[split]} takes, got none of them")
        if not numbers:
            _deal_files(clips, splits, split)
    return splits, "by the number of the take (speakers are in several splits)"


def _by_names(clips: Sequence[Clip], names: dict[int, tuple[str, ...]]) -> tuple[list[int], str]:
    """Speakers by name; a split that names none takes a tenth of the other speakers."""
    speakers = {clip.speaker for clip in clips}
    _check_speakers(speakers, [name for group in names.values() for name in group])
    of = {name: split for split, group in names.items() for name in group}
    for split, group in names.items():
        if not group:
            of |= dict.fromkeys(_share(speakers - set(of)), split)
    return [of.get(clip.speaker, TRAINING) for clip in clips], "by the names of speakers"


def _by_both(
    clips: Sequence[Clip], takes: dict[int, frozenset[int]], names: dict[int, tuple[str, ...]]
) -> tuple[list[int], str]:
    """One split is of the speakers named, the other of the numbered takes of all others."""
    named = next(split for split, group in names.items() if group)
    numbered = next(split for split, numbers in takes.items() if numbers)
    _check_numbered(clips)
    _check_speakers({clip.speaker for clip in clips}, names[named])
    splits = [
        named
        if clip.speaker in names[named]
        else numbered
        if clip.take in takes[numbered]
        else TRAINING
        for clip in clips
    ]
    for split in (numbered, TRAINING):
        if split not in splits:
            raise ValueError(f"expected clips for {SPLITS[split]} from other speakers, got none")
    return splits, f"{SPLITS[named]} by names of speakers, {SPLITS[numbered]} by number of the take"


def _check_numbered(clips: Sequence[Clip]) -> None:
    if any(clip.take is None for clip in clips):
        raise ValueError("expected numbered takes ({n} in the pattern) to split by takes, got none")


def _check_speakers(speakers: set[str], wanted: Sequence[str]) -> None:
    """ValueError unless those wanted exist, each once."""
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"expected each speaker in one split, got {', '.join(wanted)}")
    absent = sorted(set(wanted) - speakers)
    if absent:
        shown = ", ".join(sorted(speakers)[:20])
        raise ValueError(f"expected speakers out of {shown}, got {', '.join(absent)}")


def _by_quota(clips: Sequence[Clip], percent: float) -> tuple[list[int], str]:
    """A tenth of the speakers, at least one, to testing, and so many percent to validation."""
    speakers = {clip.speaker for clip in clips}
    if len(speakers) < len(SPLITS):
        splits = [TRAINING] * len(clips)
        for word in {clip.word for clip in clips}:
            of = _quota({clip.name for clip in clips if clip.word == word}, percent)
            for i, clip in enumerate(clips):
                splits[i] = of.get(clip.name, splits[i])
        return splits, f"by file: {len(speakers)} speaker(s) are too few to be kept apart"
    of = _quota(speakers, percent)
    shown = {split: _shown([name for name in of if of[name] == split]) for split in LISTS}
    rule = (
        f"by quota, as {len(speakers)} speakers are few for a hash "
        f"(validation: {shown[VALIDATION]}; testing: {shown[TESTING]})"
    )
    return [of.get(clip.speaker, TRAINING) for clip in clips], rule


def _quota(names: set[str], percent: float) -> dict[str, int]:
    """Those that do not train: the second tenth tests, whatever percent the first are."""
    testing = _share(names - set(_share(names)))
    count = max(1, round(len(names) * percent / 100))
    validation = _in_order(names - set(testing))[: min(count, len(names) - len(testing) - 1)]
    return dict.fromkeys(validation, VALIDATION) | dict.fromkeys(testing, TESTING)


def _deal_files(clips: Sequence[Clip], splits: list[int], split: int) -> None:
    """Move a tenth of each word's training files, at least one, to `split`."""
    for word in sorted({clip.word for clip in clips}):
        pool = {c.name for c, s in zip(clips, splits, strict=True) if (c.word, s) == (word, 0)}
        taken = set(_share(pool))
        for i, clip in enumerate(clips):
            if clip.name in taken:
                splits[i] = split


def _share(names: Iterable[str]) -> list[str]:
    """A tenth of the names, at least one but never all, in the order of their SHA-1."""
    ordered = _in_order(names)
    count = max(1, round(len(ordered) * PERCENT / 100))
    return ordered[: min(count, len(ordered) - 1)]


def _in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of their SHA-1."""
    return sorted(names, key=lambda name: hashlib.sha1(name.encode()).hexdigest())


def _shown(names: Sequence[str]) -> str:
    """Up to five names."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(sorted(names)[:5]) + more
