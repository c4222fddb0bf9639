"""Results of benchmarks as JSON files and as text.

A file holds {"benchmarks": {name: result}}; a result, whatever was measured, is

what                         one line: network, batch, threads
settings                     what a comparison of two results needs to be the same
agreement                    errors between sides that compute the same
rows                         name → seconds, all_seconds, base, ratio, ratio_range (to the base),
                             and as far as they are known cpu_seconds (over all threads), macs,
                             macs_per_second, share_of_matmul, moved_bytes, bytes_per_second,
                             share_of_memory, compile_seconds, memory_bytes
limits                       macs_per_second, bytes_per_second of this machine in this run
notes                        what was left out, and why
machine, versions            as in `machine`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.command.atomic import write_json
from experiments.benchmarks.harness.machine import describe_machine, describe_versions
from experiments.benchmarks.harness.programs import device_peak_bytes

Result = dict[str, Any]
PARTS = ("what", "settings", "agreement", "rows", "limits", "notes", "machine", "versions")


def result(
    what: str,
    settings: Mapping[str, Any],
    measured: Mapping[str, Any],
    *,
    agreement: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """A whole result from what `measure` found."""
    peak = device_peak_bytes()
    return {
        "what": what,
        "settings": dict(settings),
        "agreement": dict(agreement or {}),
        **measured,
        "notes": list(notes),
        **({} if peak is None else {"device_peak_bytes": peak}),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def write(path: Path, results: Mapping[str, Result]) -> None:
    """Write results by benchmark; the file is the old one or the new one."""
    write_json(path, {"benchmarks": dict(results)})


def read(path: Path) -> dict[str, Result]:
    """Results by benchmark; ValueError for a file that holds something else."""
    try:
        found = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    results = found.get("benchmarks") if isinstance(found, dict) else None
    if not isinstance(results, dict):
        raise ValueError(f"{path}: expected results of benchmarks, got no 'benchmarks'")
    for name, each in results.items():
        missing = [part for part in PARTS if not isinstance(each, dict) or part not in each]
        if missing:
            raise ValueError(f"{path}: expected a result for {name!r}, got none of its {missing}")
        for label, row in each["rows"].items():
            if not isinstance(row, dict) or not isinstance(row.get("seconds"), int | float):
                raise ValueError(f"{path}: expected seconds of {name!r}, {label!r}, got none")
    return results


def table(result: Result) -> str:
    """A result as text: one line per side."""
    rows, limits = result["rows"], result["limits"]
    width = max(map(len, rows))
    lines = [result["what"]]
    if result["agreement"]:
        errors = sorted(result["agreement"].items(), key=lambda item: -item[1])[:3]
        listed = ", ".join(f"{name} {error:.1e}" for name, error in errors)
        lines.append(f"sides agree; largest errors: {listed}")
    lines.append(
        f"{'':{width}}  {'seconds':>9} {'CPU':>8} {'ratio (rounds)':>22} {'of CPU':>6} "
        f"{'GMACs/s':>8} {'of max':>6} {'GB/s':>6} {'of max':>6} {'compile':>8} {'memory':>9}"
    )
    for name, row in rows.items():
        low, high = row["ratio_range"]
        cpu = cpu_ratio(rows, name)
        lines.append(
            f"{name:{width}}  {row['seconds']:9.3g} {_of(row, 'cpu_seconds', 1, '', 3):>8} "
            + f"{row['ratio']:8.2f} ({low:.2f} to {high:.2f})".rjust(22)
            + f" {'–' if cpu is None else format(cpu, '.2f'):>6}"
            + f" {_of(row, 'macs_per_second', 1e9):>8} {_share(row, 'share_of_matmul'):>6}"
            + f" {_of(row, 'bytes_per_second', 1e9):>6} {_share(row, 'share_of_memory'):>6}"
            + f" {_of(row, 'compile_seconds', 1, ' s', 2):>8}"
            + f" {_of(row, 'memory_bytes', 1e6, ' MB'):>9}"
        )
    return "\n".join([*lines, *footer(result, limits)])


def cpu_ratio(rows: Mapping[str, Any], name: str) -> float | None:
    """CPU seconds of a row relative to its base's, which other load hardly changes."""
    own, base = rows[name], rows.get(rows[name].get("base"), {})
    if not base.get("cpu_seconds") or own.get("cpu_seconds") is None:
        return None
    return own["cpu_seconds"] / base["cpu_seconds"]


def footer(result: Result, limits: Mapping[str, float]) -> list[str]:
    """Limits, what was left out, the machine, versions: a line each."""
    machine = result["machine"]
    peak = result.get("device_peak_bytes")
    return [
        f"max: matmul {limits['macs_per_second'] / 1e9:.1f} GMACs/s, "
        f"memory {limits['bytes_per_second'] / 1e9:.1f} GB/s"
        + ("" if peak is None else f"; peak of the device's memory {peak / 1e6:.0f} MB"),
        *(f"left out: {note}" for note in result["notes"]),
        f"machine: {machine['processor']}, {machine['cpus']} CPUs, {machine['device']}, load "
        f"{machine['load_average']}, {machine['system']}",
        "versions: " + ", ".join(f"{name} {each}" for name, each in result["versions"].items()),
    ]


def _of(row: Mapping[str, Any], name: str, unit: float, suffix: str = "", digits: int = 1) -> str:
    value = row.get(name)
    return "–" if value is None else f"{value / unit:.{digits}f}{suffix}"


def _share(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "–" if value is None else f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
