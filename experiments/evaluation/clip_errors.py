"""Where a model errs on clips: quiet ones, words at a clip's edge, groups that a table names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.command.reading import read_text
from data_prep.speech.index import composed

# Upper bounds of RMS, full scale 1, and what is said of the clips below.
LEVELS = ((0.01, "RMS below 0.01"), (0.03, "RMS 0.01 to 0.03"), (0.1, "RMS 0.03 to 0.1"))
LOUDEST = "RMS 0.1 or more"
FRAME, EDGE_FRAMES = 160, 5  # samples; 50 ms
BELOW_PEAK = 0.1  # of the loudest frame's RMS: 20 dB


def levels(samples: np.ndarray) -> list[str]:
    """How loud each clip is over its second, of int16 [N, 16000]."""
    rms = np.array([_rms(clip) for clip in samples])
    names = [*(name for _, name in LEVELS), LOUDEST]
    return [names[i] for i in np.searchsorted([bound for bound, _ in LEVELS], rms, side="right")]


def places(samples: np.ndarray, lengths: np.ndarray) -> list[str]:
    """Whether what is loud in each clip, of `lengths` [N] samples, reaches its ends."""
    return [_place(clip[:length]) for clip, length in zip(samples, lengths, strict=True)]


def read_groups(path: Path, names: Sequence[str]) -> list[str]:
    """The group of each clip by its name without ending, from a table with tabs; "others" if none.

    Raises ValueError for a bad table, or one that names none of the clips.
    """
    if not path.is_file():
        raise ValueError(f"--groups: expected a file, got {path}")
    group_of: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, tab, group = line.partition("\t")
        if not tab:
            raise ValueError(f"{path}:{number}: expected `file<tab>group`, got {line!r}")
        stem = _stem(name)
        if group_of.setdefault(stem, group.strip()) != group.strip():
            raise ValueError(f"{path}:{number}: expected one group of {stem}, got another")
    stems = [_stem(name) for name in names]
    if not set(stems) & set(group_of):
        raise ValueError(f"--groups: expected clips of --data in {path}, got none of them")
    return [group_of.get(stem, "others") for stem in stems]


def _stem(name: str) -> str:
    """A file's name without its ending, as far as systems differ in how they write it."""
    return os.path.splitext(composed(PurePosixPath(name.replace("\\", "/")).as_posix()))[0]


def accuracy_by(names: Sequence[str], right: np.ndarray) -> dict[str, dict[str, float]]:
    """`clips` and `accuracy_pct` of each name, of clips [N] that were answered `right` or not."""
    of = np.array(names)
    return {
        str(name): {
            "clips": int((of == name).sum()),
            "accuracy_pct": 100 * float(right[of == name].mean()),
        }
        for name in np.unique(of)
    }


def error_lines(result: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """A line for each name of each part of `errors`."""
    return [
        f"  {name}: {found['accuracy_pct']:.2f} % of {found['clips']:.0f} clips"
        for part in result.values()
        for name, found in part.items()
    ]


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples.astype(np.float32) / 32768).mean()))


def _place(clip: np.ndarray) -> str:
    frames = clip[: len(clip) // FRAME * FRAME].astype(np.float32).reshape(-1, FRAME)
    if not len(frames):
        return "word at both ends"
    level = np.sqrt(np.square(frames).mean(1))
    loud = np.flatnonzero(level >= BELOW_PEAK * level.max())
    begins, ends = loud[0] < EDGE_FRAMES, loud[-1] >= len(level) - EDGE_FRAMES
    if begins and ends:
        return "word at both ends"
    return "word at the beginning" if begins else "word at the end" if ends else "word within"
