"""The table of negatives in which a word was heard, and which of them its lines mean.

The first line is `file`, `heard`, with a tab between; words stand with blanks between them, `-` for
none. A file is named by its kind and its path in its source, by the path, or by its name alone
where only one file has it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.command.reading import read_text
from data_prep.speech.index import composed


def read_heard(path: Path) -> dict[str, tuple[str, ...]]:
    """Words heard in each file, by its name as the table has it. ValueError for another table."""
    if not path.is_file():
        raise ValueError(f"--heard: expected a file, got {path}")
    lines = read_text(path).splitlines()
    if not lines or lines[0].split("\t") != ["file", "heard"]:
        raise ValueError(f"--heard: expected a first line `file<tab>heard` in {path}")
    table: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, tab, words = line.partition("\t")
        if not tab:
            raise ValueError(f"{path}:{number}: expected `file<tab>words`, got {line!r}")
        name = composed(PurePosixPath(name.replace("\\", "/")).as_posix())
        said = () if words.strip() == "-" else tuple(words.split())
        if bool(table.get(name, said)) != bool(said):
            raise ValueError(f"{path}:{number}: expected each file once, got {name} again")
        table[name] = table.get(name, ()) + said
    return table


class Match(NamedTuple):
    """Whether a word was heard in each file, and lines whose words are counted in none."""

    heard: list[bool]
    uncounted: list[str]


def match(table: Mapping[str, tuple[str, ...]], files: Sequence[tuple[str, str]]) -> Match:
    """In which of the files (kind, path in its source) a word was heard.

    Raises ValueError where a line may mean several files, or several lines a file, and it matters;
    and where no line means any.
    """
    files = [(kind, composed(name)) for kind, name in files]
    lines_of: list[set[str]] = [set() for _ in files]
    left = set(table)
    bearers: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        bearers.setdefault(_by_name(*file), []).append(file)
    # What names a file better goes first; a file that has its line is not asked for again.
    for known_by in _NAMES:
        lines: dict[str, list[str]] = {}
        for line in sorted(left):
            lines.setdefault(_base(line) if known_by is _by_name else line, []).append(line)
        meant: dict[str, list[int]] = {}
        for i, file in enumerate(files):
            if not lines_of[i]:
                meant.setdefault(known_by(*file), []).append(i)
        for name in sorted(lines.keys() & meant.keys()):
            # A name alone is to be unique, also among files that have their line.
            named = bearers[name] if known_by is _by_name else [files[i] for i in meant[name]]
            _check_one(lines[name], named, table)
            for i in meant[name]:
                lines_of[i].update(lines[name])
            left -= set(lines[name])
    if not any(lines_of):
        raise ValueError("--heard: expected files of --negatives in the table, got none of them")
    heard = [any(table[line] for line in found) for found in lines_of]
    counted = {n(*file) for n in _NAMES for file, mark in zip(files, heard, strict=True) if mark}
    return Match(heard, sorted(line for line in left - counted if table[line]))


def _check_one(
    lines: Sequence[str], files: Sequence[tuple[str, str]], table: Mapping[str, tuple[str, ...]]
) -> None:
    """ValueError where a word was heard in one of several files, or by one of several lines."""
    heard = {bool(table[line]) for line in lines}
    if len(heard) > 1 or (True in heard and len(files) > 1):
        shown = ", ".join("/".join(file) for file in files[:3])
        raise ValueError(
            f"--heard: expected a line for one file, such as {'/'.join(files[0])}, got "
            f"{', '.join(lines[:3])} for {shown}"
        )


def _by_kind(kind: str, path: str) -> str:
    return f"{kind}/{path}"


def _by_path(kind: str, path: str) -> str:
    del kind
    return path


def _by_name(kind: str, path: str) -> str:
    del kind
    return _base(path)


def _base(path: str) -> str:
    """The last part of a path."""
    return PurePosixPath(path).name


_NAMES: tuple[Callable[[str, str], str], ...] = (_by_kind, _by_path, _by_name)
