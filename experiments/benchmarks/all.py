"""Every benchmark, each in a process of its own, and one file with all results.

    python -m experiments.benchmarks.all [--quick] [--json out.json] [--compare old.json]
        [--only training_iteration,features]

Of its own, since how many threads there are, and whether jax hands programs over to them, holds
for a process. Each prints its table, measures the machine's limits itself, and is added to the file
as soon as it is done; one that fails does not stop the others, and is named at the end. What is not
given here is left to each benchmark: its own threads, repeats, sizes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_prep.command import cli as command
from experiments.benchmarks.harness import compare, entry, records

NAMES = (
    "training_iteration",
    "evaluation",
    "features",
    "augmentation",
    "sweep",
    "streaming",
    "convolutions",
    "dispatch",
    "loading",
    "growth",
)

ON_CPU = ("streaming", "dispatch")  # wherever the others compute


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_list("only", [], f"Some of {', '.join(NAMES)}.", flag_values=values)
    flags.DEFINE_bool(
        "quick", False, "Small sizes, few rounds: whether it runs.", flag_values=values
    )
    flags.DEFINE_integer("threads", None, "Threads of each side.", 1, flag_values=values)
    flags.DEFINE_integer("repeats", None, "Timed rounds.", 1, flag_values=values)
    entry.define_device_flag(values)
    entry.define_output_flags(values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    names = command.word_list(values.only) or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"--only: expected some of {', '.join(NAMES)}, got {', '.join(unknown)}")
    entry.check_threads(values.threads)
    out, old = entry.output(values)
    given = ["--quick"] if values.quick else []
    for name in ("threads", "repeats"):
        if getattr(values, name) is not None:
            given.append(f"--{name}={getattr(values, name)}")
    results: dict[str, records.Result] = {}
    failed = []
    for name in tqdm(names, unit="benchmark", disable=None):
        print(f"\n== {name}", flush=True)
        device = [] if name in ON_CPU else [f"--device={values.device}"]
        found = run_one(name, [*given, *device])
        if found is None:
            failed.append(name)
            continue
        results |= found
        if out:
            records.write(out, results)
    if old is not None:
        print(f"\n== {values.compare}")
        print(compare.compare({n: old[n] for n in old if n in names}, results))
    if failed:
        raise ValueError(f"expected all to end well, got an error from {', '.join(failed)}")


def run_one(name: str, given: Sequence[str]) -> dict[str, records.Result] | None:
    """The result of a benchmark's own command, which prints its table; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        asked = [sys.executable, "-m", f"experiments.benchmarks.{name}", *given, f"--json={file}"]
        done = subprocess.run(asked, check=False)
        return records.read(file) if done.returncode == 0 else None


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv, "what had ended was written")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
