"""How each part of a day is run, and what its command leaves as rows of the day's results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from data_prep.speech.cache import fingerprint
from experiments.benchmarks.day import results
from experiments.benchmarks.day.plan import TESTS, TOY_TESTS, TRAINING, Part
from experiments.benchmarks.day.results import Line
from experiments.benchmarks.day.scale import TOY
from experiments.benchmarks.harness import records

ROOT = Path(__file__).resolve().parents[3]
RESULTS, TABLE, LOG = "results.jsonl", "table.txt", "log.txt"
_JSON, _XML = "part.json", "tests.xml"


class Day(NamedTuple):
    """What was asked for.

    Fields:
      out: folder of all that is written.
      toy: small sizes.
      cache: clips.
      made: whether they are to be made here.
      config: of the training.
      changes: of that config.
    """

    out: Path
    toy: bool
    cache: Path
    made: bool
    config: str
    changes: tuple[str, ...]

    @property
    def asked(self) -> Line:
        """What a day that resumes must have in common with it; folders may have moved."""
        return {
            "toy": self.toy,
            "data": "made" if self.made else fingerprint(self.cache),
            "train": Path(self.config).name,
            "set": list(self.changes),
        }


def command_of(part: Part, day: Day) -> list[str]:
    """The command of a part; ValueError where it cannot be run here."""
    python = [sys.executable, "-m"]
    if part.name == "tests":
        files = TOY_TESTS if day.toy else TESTS
        missing = [file for file in files if not (ROOT / file).is_file()]
        if missing:
            raise ValueError(f"expected the project's checkout, got none of {missing[0]}")
        quiet = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--rootdir={ROOT}"]
        paths = [str(ROOT / file) for file in files]
        return [*python, "pytest", *quiet, f"--junitxml={day.out / _XML}", *paths]
    if part.name == TRAINING:
        changes = [*(TOY.changes if day.toy else ()), *day.changes]
        return [
            *(*python, "experiments.launch", f"--config={day.config}", f"--data={day.cache}"),
            *(f"--workdir={day.out / TRAINING}", f"--compilation_cache={day.out / 'programs'}"),
            *(word for change in changes for word in ("--set", change)),
        ]
    if part.command:
        quick = ["--quick"] if day.toy else []
        more = ["--device=default", f"--json={day.out / _JSON}", *quick]
        return [*python, *part.command, *more]
    toy = ["--toy"] if day.toy else []
    given = [f"--part={part.name}", f"--out={day.out}", f"--data={day.cache}", *toy]
    return [*python, "experiments.benchmarks.accelerator", *given]


def environment_of(part: Part) -> dict[str, str]:
    """Variables of a part's process, beside those that there are."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if part.name != "tests":
        return found
    # The tests' own settings are for a CPU: what is there, even if empty, goes first. Their
    # tolerances are those of float32.
    kept = {name: os.environ.get(name, "") for name in ("JAX_PLATFORMS", "XLA_FLAGS")}
    return found | kept | {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def collect(part: Part, day: Day) -> None:
    """Append what a part's command has left to the day's results; its own files go."""
    path = day.out / RESULTS
    if part.name == "tests":
        left, rows_of = day.out / _XML, _of_tests
    elif part.name == TRAINING:
        left, rows_of = day.out / TRAINING / "metrics.jsonl", _of_training
    elif part.command:
        left, rows_of = day.out / _JSON, _of_benchmark
    else:
        return  # it has written them itself
    if not left.is_file():
        return
    known = results.rows_of(results.read(path), part.name)
    for label, row in rows_of(left):
        if known.get(label) != {"part": part.name, "row": label, **row}:
            results.add(path, part=part.name, row=label, **row)
    if part.name != TRAINING:
        left.unlink()


def _of_tests(path: Path) -> Iterator[tuple[str, Line]]:
    """How many passed, and the names of those that did not."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    count, failures, errors, skipped = (
        int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    yield (
        "all",
        {
            "passed": count - failures - errors - skipped,
            "failed": failures + errors,
            "skipped": skipped,
            "text": ", ".join(failed[:3]),
            "failed_names": failed,
        },
    )


def _of_benchmark(path: Path) -> Iterator[tuple[str, Line]]:
    """The rows of a benchmark's own file."""
    for result in records.read(path).values():
        limits = {f"limit_{name}": value for name, value in result["limits"].items()}
        for label, row in result["rows"].items():
            yield label, row | limits


def _of_training(path: Path) -> Iterator[tuple[str, Line]]:
    """The last lines of training and validation."""
    found: dict[str, Line] = {}
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found[line["split"]] = line
    for split, line in found.items():
        row = {key: line[key] for key in ("loss", "frame_accuracy", "macs_per_frame", "step")}
        yield split, row | {"text": f"step {line['step']}"}


def missing_packages(needs: Sequence[str]) -> list[str]:
    """Those that are not installed, without importing any."""
    return [name for name in needs if find_spec(name) is None]
