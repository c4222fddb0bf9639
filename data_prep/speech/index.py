"""Find the clips of a data set: word, speaker and take of every file.

Two layouts: the folders of Speech Commands (`<word>/<speaker>_nohash_<n>.wav`), and any other
through a pattern of file names such as `{word}_{speaker}_{n}.wav`.
"""

import dataclasses
import os
import re
import stat
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep.speech.audio import ENDINGS

NOISE_FOLDER = "_background_noise_"
# Of people talking, and of sounds: no clips, and negatives if they are named.
SENTENCES_FOLDER, MUSIC_FOLDER, HOUSEHOLD_FOLDER = "_speech_", "_music_", "_household_"
_NEGATIVES = {SENTENCES_FOLDER, MUSIC_FOLDER, HOUSEHOLD_FOLDER}
_FIELDS = {"word": r"(?P<word>[^/]+?)", "speaker": r"(?P<speaker>[^/]+?)", "n": r"(?P<n>\d+)"}


@dataclasses.dataclass(frozen=True, order=True)
class Clip:
    """One audio file: `name` is relative to the data folder, with forward slashes."""

    name: str
    word: str
    speaker: str  # what the split keeps together; a file without a speaker is its own
    take: int | None = None


@dataclasses.dataclass(frozen=True)
class Index:
    """The files of a data set, sorted by name."""

    root: Path
    clips: tuple[Clip, ...]
    noise: tuple[str, ...]  # names of background tracks
    ignored: tuple[str, ...]  # audio files that do not match the layout
    pattern: str | None = None  # of file names; None: the Speech Commands layout
    unusable: tuple[tuple[str, str], ...] = ()  # audio files that cannot be read, and why
    others: tuple[tuple[str, int], ...] = ()  # endings that no audio is looked for in, and how many

    @property
    def words(self) -> tuple[str, ...]:
        """All words found, sorted."""
        return tuple(sorted({clip.word for clip in self.clips}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """All speakers found, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips}))

    @property
    def nameless(self) -> int:
        """How many clips have names that tell no speaker."""
        if self.pattern is not None:
            tells = "speaker" in compile_pattern(self.pattern).groupindex
            return 0 if tells else len(self.clips)
        return sum("_nohash_" not in clip.name.rpartition("/")[2] for clip in self.clips)


def find(root: Path, pattern: str | None = None) -> Index:
    """Index a data folder. Raises ValueError when it is missing or has no clips."""
    if not root.is_dir():
        raise ValueError(f"expected a folder of audio, got {root}, which is not a folder")
    regex = compile_pattern(pattern) if pattern is not None else None
    clips, noise, ignored = [], [], []
    found = look(root)
    for name in sorted(found.audio):
        parts = name.split("/")
        if _NEGATIVES & set(parts[:-1]):
            continue
        if NOISE_FOLDER in parts[:-1]:
            noise.append(name)
            continue
        clip = _match(name, regex) if regex else _speech_commands(parts)
        if clip is None:
            ignored.append(name)
        elif not writable(clip.word):
            found.unusable[ascii(name)[1:-1]] = "its word cannot be written in a line"
        elif set(name) & set("\r\n"):  # a cache has a line for each
            found.unusable[ascii(name)[1:-1]] = "its name has more than one line"
        else:
            clips.append(clip)
    index = Index(
        root,
        tuple(clips),
        tuple(noise),
        tuple(ignored),
        pattern,
        tuple(sorted(found.unusable.items())),
        tuple(found.others.most_common()),
    )
    if not clips:
        wanted = f"the pattern {pattern!r}" if regex else "<word>/<file>.wav"
        left = [*ignored, *found.unusable]
        seen = f"{len(left)} others such as {left[0]}" if left else "no audio files"
        seen += "".join(f", {count} of {ending}" for ending, count in index.others)
        raise ValueError(f"expected files like {wanted} in {root}, got {seen}")
    return index


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Regular expression of a file-name pattern; fields: word (needed), speaker, n (a number)."""
    regex, seen = "", []
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(
            f"expected a pattern like {{word}}_{{speaker}}_{{n}}.wav: {error}"
        ) from None
    for literal, field, _, _ in parts:
        regex += re.escape(literal)
        if field is None:
            continue
        if field not in _FIELDS or field in seen:
            raise ValueError(
                f"expected the fields {{word}}, {{speaker}} and {{n}}, each once, in the pattern, "
                f"got {pattern!r}"
            )
        seen.append(field)
        regex += _FIELDS[field]
    if "word" not in seen:
        raise ValueError(f"expected the field {{word}} in the pattern, got {pattern!r}")
    return re.compile(regex)


@dataclasses.dataclass
class Found:
    """What lies in a folder: names of audio files, those that are none with why, other endings."""

    audio: list[str] = dataclasses.field(default_factory=list)
    unusable: dict[str, str] = dataclasses.field(default_factory=dict)
    others: Counter[str] = dataclasses.field(default_factory=Counter)


def look(root: Path) -> Found:
    """What lies below `root`; hidden files and folders are left out."""
    found = Found()
    for name in _files(root):
        ending = os.path.splitext(name)[1].lower()
        if ending not in ENDINGS:
            found.others[ending or "no ending"] += 1
        elif (reason := unusable(root, name)) is not None:
            found.unusable[os.fsencode(name).decode("utf-8", "backslashreplace")] = reason
        else:
            found.audio.append(name)
    return found


def unusable(root: Path, name: str) -> str | None:
    """Why a file is not to be opened; None if nothing is against it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is no UTF-8"
    try:
        status = os.stat(root / name)
    except OSError as error:  # a link to nowhere
        return error.strerror or "cannot be looked at"
    if not stat.S_ISREG(status.st_mode):
        return "a pipe or a device, no file"
    return None if os.access(root / name, os.R_OK) else "may not be read"


def _files(root: Path) -> Iterator[str]:
    """Names of all files below `root` but hidden ones, and those of lists and licences."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        # Linked folders are followed, each once: a link may lead back to where it stands.
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "."]
        if real in seen:
            continue
        seen.add(real)
        relative = Path(folder).relative_to(root)
        for file in files:
            if not file.startswith(".") and not (folder == str(root) and _is_text(file)):
                yield (relative / file).as_posix()


def _is_text(file: str) -> bool:
    """Whether a name is one of those that stand beside the words: lists, licence, README."""
    return file.lower().endswith((".txt", ".md", ".csv", ".json")) or "." not in file


def composed(text: str) -> str:
    """Text whose accents are part of their letters (NFC): systems differ in how they write them."""
    return unicodedata.normalize("NFC", text)


def writable(word: str) -> bool:
    """Whether a word can be written in a line, and read back: one without blanks around it."""
    return bool(word) and word.isprintable() and word == word.strip()


def _match(name: str, regex: re.Pattern[str]) -> Clip | None:
    """The clip of a file name, or None where the pattern does not fit."""
    found = regex.fullmatch(name)
    if found is None:
        return None
    fields = found.groupdict()
    take = fields.get("n")
    speaker = composed(fields.get("speaker") or os.path.splitext(name)[0])
    number = int(take) if take is not None and len(take) < 10 else None
    return Clip(name, composed(fields["word"]), speaker, number)


def _speech_commands(parts: list[str]) -> Clip | None:
    """The clip of `<word>/<speaker>_nohash_<n>.wav`; without `_nohash_` a file is its own speaker.

    Folders with a leading underscore are no words.
    """
    if len(parts) != 2 or parts[0].startswith("_"):
        return None
    speaker, mark, rest = parts[1].partition("_nohash_")
    take = os.path.splitext(rest)[0]
    number = int(take) if mark and take.isdecimal() and len(take) < 10 else None
    return Clip("/".join(parts), composed(parts[0]), composed(speaker), number)
