"""Find the clips of a data set: word, speaker and take of every file.

Two layouts: the folders of Speech Commands (`<word>/<speaker>_nohash_<n>.wav`), and any other
through a pattern of file names such as `{word}_{speaker}_{n}.wav`.
"""

import dataclasses
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path

AUDIO = (".wav", ".flac", ".ogg")
NOISE_FOLDER = "_background_noise_"
SENTENCES_FOLDER = "_speech_"  # of people talking: no clips, and negatives if they are named
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

    @property
    def words(self) -> tuple[str, ...]:
        """All words found, sorted."""
        return tuple(sorted({clip.word for clip in self.clips}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """All speakers found, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips}))


def find(root: Path, pattern: str | None = None) -> Index:
    """Index a data folder. Raises ValueError when it is missing, has no clips, or one word only."""
    if not root.is_dir():
        raise ValueError(f"expected a folder of audio, got {root}, which is not a folder")
    regex = compile_pattern(pattern) if pattern is not None else None
    clips, noise, ignored = [], [], []
    for name in sorted(audio_files(root)):
        parts = name.split("/")
        if SENTENCES_FOLDER in parts[:-1]:
            continue
        if NOISE_FOLDER in parts[:-1]:
            noise.append(name)
            continue
        clip = _match(name, regex) if regex else _speech_commands(parts)
        if clip is None:
            ignored.append(name)
        else:
            clips.append(clip)
    index = Index(root, tuple(clips), tuple(noise), tuple(ignored), pattern)
    if not clips:
        wanted = f"the pattern {pattern!r}" if regex else "<word>/<file>.wav, .flac or .ogg"
        seen = f"{len(ignored)} others such as {ignored[0]}" if ignored else "no audio files"
        raise ValueError(f"expected files like {wanted} in {root}, got {seen}")
    if len(index.words) < 2:
        raise ValueError(
            f"expected clips of at least two words in {root}, got one word: {index.words[0]}"
        )
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


def audio_files(root: Path, formats: tuple[str, ...] = AUDIO) -> Iterator[str]:
    """Names of all audio files below `root`; hidden files and folders are left out."""

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
            if file.lower().endswith(formats) and not file.startswith("."):
                yield (relative / file).as_posix()


def _match(name: str, regex: re.Pattern[str]) -> Clip | None:
    """The clip of a file name, or None where the pattern does not fit."""
    found = regex.fullmatch(name)
    if found is None:
        return None
    fields = found.groupdict()
    take = fields.get("n")
    speaker = fields.get("speaker") or os.path.splitext(name)[0]
    return Clip(name, fields["word"], speaker, int(take) if take is not None else None)


def _speech_commands(parts: list[str]) -> Clip | None:
    """The clip of `<word>/<speaker>_nohash_<n>.wav`; without `_nohash_` a file is its own speaker.

    Folders with a leading underscore are no words.
    """
    if len(parts) != 2 or parts[0].startswith("_"):
        return None
    speaker, mark, rest = parts[1].partition("_nohash_")
    take = os.path.splitext(rest)[0]
    number = int(take) if mark and take.isdecimal() else None
    return Clip("/".join(parts), parts[0], speaker, number)
