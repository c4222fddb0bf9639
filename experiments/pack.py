"""A trained run as a small folder that travels: `python -m experiments.pack --workdir W --name N`.

Writes the network's parameters as float32 and what is needed to use them and to start from them
(`experiments.pretrained` has the format): no optimiser, no history. By default into the package,
where `evaluate --pretrained N` and `--init_from pretrained:N` find it. README.md says how it was
made and quotes the figures that `evaluate` and `evaluate_clips` left in the run's folder.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from data_prep.atomic import new_folder
from data_prep.cli import run
from experiments.config import Config
from experiments.config.build import macs_per_step, rebuild
from experiments.figures.training import plain
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.packed import SHIPPED, is_packed, stored_parts, write_params
from experiments.runs.stored_results import parsed, result_files, told
from experiments.training.init_from import restore_params

MAX_BYTES = 3_000_000
DETECTOR = "detector.json"


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string("workdir", None, "Run to pack.", required=True, flag_values=values)
    flags.DEFINE_string(
        "name",
        None,
        "What it is called: letters, digits, - and _.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "checkpoint", "latest", "'latest', or a step of checkpoints/ or front/.", flag_values=values
    )
    flags.DEFINE_string(
        "out", str(SHIPPED), "Folder in which NAME/ is made; the package's own.", flag_values=values
    )
    flags.DEFINE_string("command", None, "The commands that reproduce it.", flag_values=values)
    flags.DEFINE_string(
        "notes", None, "File with more to say, such as these commands.", flag_values=values
    )
    flags.DEFINE_string(
        "data_licence",
        None,
        "What it was trained on, and the licence of that, e.g. 'Speech Commands, CC BY 4.0'.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_bool("overwrite", False, "Replace a model of this name.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Pack a run; print what came out."""
    workdir, out = Path(values.workdir), Path(values.out) / values.name
    if not re.fullmatch(r"[\w-]+", values.name, re.ASCII):
        raise ValueError(f"--name: expected letters, digits, - and _, got {values.name!r}")
    if not (values.command or values.notes):
        raise ValueError("--command, --notes: expected the commands that reproduce it, got neither")
    notes = Path(values.notes).read_text(encoding="utf-8") if values.notes else ""
    if out.exists() and not (values.overwrite and is_packed(out)):
        hint = "give --overwrite to replace it" if is_packed(out) else "which is no packed model"
        raise ValueError(f"--out: expected no {out} yet: {hint}")
    info = run_folder.read(workdir)
    if info.input_shape is not None:
        raise ValueError(f"--workdir: expected a run on audio, got one on images: {workdir}")
    step, params = restore_params(workdir, rebuild(info), values.checkpoint)
    params = stored_parts(params, info.config.model.static)
    text = readme(values.name, info, workdir, step, params)
    made = [f"```\n{values.command.strip()}\n```"] if values.command else []
    made += [notes.strip()] if notes else []
    text += "\n".join(["", "## How it was made", "", *made, ""])
    text += f"\n## Data\n\nTrained on {values.data_licence.strip()}\n"
    with new_folder(out) as folder:
        write(folder, workdir, info, step, params, text)
        size = sum(path.stat().st_size for path in folder.iterdir())
        if size > MAX_BYTES:
            raise ValueError(
                f"--workdir: expected a model of at most {MAX_BYTES:,} bytes, got {size:,}"
            )
    print(f"wrote {out}: {_count(params):,} numbers of step {step}, {size:,} bytes")


def write(
    folder: Path, workdir: Path, info: RunInfo, step: int, params: Any, readme_text: str
) -> None:
    """Fill a new folder with a packed model."""
    described = info._replace(config=without_paths(info.config))
    run_folder.create(folder, described, str(workdir / "config.py"))
    write_params(folder, step, params)
    if info.config.model.conditioned:
        tables = [line for line in run_folder.read_metrics(workdir) if "calibration" in line]
        if not tables:
            raise ValueError(f"{workdir}: expected a validation with prices, found none")
        run_folder.write_atomic(folder / "metrics.jsonl", json.dumps(tables[-1]) + "\n")
    if (workdir / DETECTOR).is_file():
        shutil.copyfile(workdir / DETECTOR, folder / DETECTOR)
    run_folder.write_atomic(folder / "README.md", readme_text)


def without_paths(config: Config) -> Config:
    """The config with names in place of the paths of the machine that it ran on."""
    train, data = config.train, config.data
    if train.init_from:
        train = dataclasses.replace(train, init_from=Path(train.init_from).name)
    data = dataclasses.replace(data, cache=Path(data.cache).name)
    return dataclasses.replace(config, train=train, data=data)


def readme(name: str, info: RunInfo, workdir: Path, step: int, params: Any) -> str:
    """What it is and what it reaches."""
    model = info.config.model
    macs, controller = macs_per_step(rebuild(info).model, model.static)
    kind = "static network" if model.static else "network with a controller (SANAS)"
    kind += ", told its price" if model.conditioned else ""
    front = info.frontend
    lines = [
        f"# {name}",
        "",
        f"{info.config.description or model.family}: {kind}, step {step}.",
        "",
        f"* hears {front.sample_rate} Hz, decides every "
        f"{1000 * model.hop * front.hop / front.sample_rate:.0f} ms",
        f"* knows {', '.join(map(plain, info.classes))}",
        f"* {sum(macs.values()):,} MACs per decision of the whole network"
        + (f", {controller:,} of the controller" if controller else ""),
        f"* {_count(params):,} parameters and running statistics",
        "",
        "## Figures",
        "",
    ]
    figures = [*stream_lines(workdir), *clip_lines(workdir)]
    return "\n".join([*lines, *(figures or ["Not evaluated."])]) + "\n"


def stream_lines(workdir: Path) -> list[str]:
    """A table of the streams that the run was evaluated on."""
    rows = [
        f"| {r['stream']}{told(r)} | {r['seconds'] / 60:.0f} | {r['correct_pct']:.1f} "
        f"| {r['wrong_pct']:.1f} | {r['false_alarms_per_hour']:.1f} "
        f"| {r['macs_per_frame_with_controller'] / 1e6:.3f}M | {100 * r['frame_accuracy']:.1f} |"
        for r in _results(result_files(workdir).values())
    ]
    head = ["stream", "minutes", "correct %", "wrong %", "false alarms/h"]
    return _table([*head, "MACs/frame with controller", "frames right %"], rows)


def clip_lines(workdir: Path) -> list[str]:
    """A table of the clips that the run was evaluated on."""
    rows = [
        f"| {r['data']}, {r['split']}{told(r)} | {r['num_clips']} | {r['accuracy_pct']:.2f} "
        f"| {r['benchmark_accuracy_pct']:.2f} | {r['macs_per_clip_with_controller'] / 1e6:.3f}M |"
        for r in _results(sorted((workdir / "evaluations" / "clips").glob("*.json")))
    ]
    head = ["clips", "number", "accuracy %", "with few unknown words %"]
    return _table([*head, "MACs/clip with controller"], rows)


def _table(head: list[str], rows: list[str]) -> list[str]:
    """Lines of a table and an empty one; none without rows."""
    if not rows:
        return []
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""]


def _results(files: Iterable[Path]) -> list[dict[str, Any]]:
    return [parsed(file, dict) for file in files]


def _count(params: Any) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
