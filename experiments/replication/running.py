"""Steps of a plan run one after the other, each in a process of its own; what is done stays done.

A step leaves `steps/NAME.json`, its digest, and `steps/NAME.log`, what it printed. It is done where
the digest is that of the plan and all that it should leave is there. One that was stopped is begun
again, and trainings go on from their checkpoints by themselves.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data_prep.command.atomic import write_json
from data_prep.command.reading import naming, read_json
from experiments.replication.plan import Step, digests

END_SECONDS = 30  # that a command has to end when it is asked to


def run_steps(
    steps: Sequence[Step],
    out: Path,
    environment: Mapping[str, str],
    say: Callable[[Step], str] = lambda step: "",
    finished: Callable[[Step], None] = lambda step: None,
) -> None:
    """Run all that are not done yet.

    Args:
      steps: of a plan, in order.
      out: its folder.
      environment: of the commands.
      say: what stands behind a step's name when it begins.
      finished: called after each step that was run.

    Raises:
      ValueError if a step fails, with its own error; and before anything is run if one was done
        by another command.
    """
    waiting = unfinished(steps, out)
    stands_for = digests(steps, out)
    for number, step in enumerate(steps, 1):
        if step not in waiting:
            continue
        print(f"[{number} of {len(steps)}] {step.name}{say(step)}", flush=True)
        _run(step, log_of(step, out), environment)
        missing = [path for path in step.leaves if not path.exists()]
        if missing:
            raise ValueError(f"{step.name}: expected {missing[0]}, got none after it had ended")
        mark_done(step, out, stands_for[step.name])
        finished(step)


def unfinished(steps: Sequence[Step], out: Path) -> list[Step]:
    """Steps that are not done; ValueError if one was done by another command."""
    stands_for, waiting = digests(steps, out), []
    for step in steps:
        stamp = _stamp(step, out)
        if stamp.is_file():
            with naming(stamp, "what a step leaves"):
                done_by = read_json(stamp, "what a step leaves")["digest"]
            if done_by != stands_for[step.name]:
                raise ValueError(
                    f"--out: expected a new folder, or the same options as before, got {out}, "
                    f"where “{step.name}” was done with others"
                )
            if all(path.exists() for path in step.leaves):
                continue
        waiting.append(step)
    return waiting


def mark_done(step: Step, out: Path, digest: str) -> None:
    """Say that a step is done."""
    write_json(_stamp(step, out), {"digest": digest, "command": ["python", "-m", *step.words]})


def log_of(step: Step, out: Path) -> Path:
    """Where a step prints to."""
    return _stamp(step, out).with_suffix(".log")


def _stamp(step: Step, out: Path) -> Path:
    return out / "steps" / f"{step.name.replace(', ', '_').replace(' ', '_')}.json"


def _run(step: Step, log: Path, environment: Mapping[str, str]) -> None:
    """Run a command: its results into the log, its progress to our stderr too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "a", encoding="utf-8") as file,
        _child([sys.executable, "-m", *step.words], file, environment) as child,
    ):
        assert child.stderr is not None
        error = ""
        for line in child.stderr:
            file.write(line)
            file.flush()
            if line.startswith("error: "):
                error = line.removeprefix("error: ").strip()
            else:
                print(f"  {line}", end="", file=sys.stderr, flush=True)
    if child.returncode:
        status = f"ended with status {child.returncode}"
        raise ValueError(f"{step.name}: {error or status} (all that it said: {log})")


@contextmanager
def _child(
    words: Sequence[str], out: IO[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when we do."""
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        env=dict(environment),
        text=True,
        errors="backslashreplace",
    )
    try:
        yield child
        child.wait()
    finally:  # of Ctrl-C it has heard itself
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if child.stderr:
            child.stderr.close()
