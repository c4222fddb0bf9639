"""Pack a trained run as a small folder that travels:
`python -m experiments.pack --workdir W --name N`.

Writes the network's parameters as float32 and what is needed to use them and to start from them
(`experiments.runs.packed` has the format): no optimiser, no history. By default into the package,
where `evaluate --pretrained N` and `--init_from pretrained:N` find it. README.md says how it was
made and quotes the figures that `evaluate` and `evaluate_clips` left in the run's folder, those of
the step that is packed. A detector of another step is refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_prep.command.atomic import check_new_folder, new_folder, write_atomic
from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from data_prep.command.reading import read_text
from experiments.config import Config
from experiments.flags.trust import define_trust_flag

if TYPE_CHECKING:
    from experiments.runs.folder import RunInfo

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
        "out",
        None,
        "Folder in which NAME/ is made; the package's own if not given.",
        flag_values=values,
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
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Pack a run; print what came out."""
    from experiments.runs import folder as run_folder
    from experiments.runs.model_card import count_params, read_found, readme
    from experiments.runs.packed import SHIPPED, is_packed, stored_parts
    from experiments.runs.trained import model_of, restore_params

    workdir, out = Path(values.workdir), Path(values.out or SHIPPED) / values.name
    if not re.fullmatch(r"[\w-]+", values.name, re.ASCII):
        raise ValueError(f"--name: expected letters, digits, - and _, got {values.name!r}")
    if not (values.command or values.notes):
        raise ValueError("--command, --notes: expected the commands that reproduce it, got neither")
    notes = read_text(values.notes) if values.notes else ""
    if out.exists() and not (values.overwrite and is_packed(out)):
        hint = "give --overwrite to replace it" if is_packed(out) else "which is no packed model"
        raise ValueError(f"--out: expected no {out} yet: {hint}")
    check_new_folder("out", out)
    info = run_folder.read(workdir, trust=values.trust)
    if info.input_shape is not None:
        raise ValueError(f"--workdir: expected a run on audio, got one on images: {workdir}")
    step, params = restore_params(workdir, info, model_of(info), values.checkpoint)
    params = stored_parts(params, info.config.model.static)
    found = read_found(workdir, step)
    text = readme(values.name, info, found, step, params)
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
    print(f"wrote {out}: {count_params(params):,} numbers of step {step}, {size:,} bytes")
    if found.left_out:
        print(f"left out of its README.md: {found.left_out} results of other steps than {step}")


def write(
    folder: Path, workdir: Path, info: RunInfo, step: int, params: Any, readme_text: str
) -> None:
    """Fill a new folder with a packed model."""
    from experiments.runs import folder as run_folder
    from experiments.runs.detectors import read_detectors
    from experiments.runs.metrics import read_metrics
    from experiments.runs.packed import write_params

    described = info._replace(config=without_paths(info.config), made_of=None)
    # Data, but for a network or a cost that is code.
    config_file = str(workdir / "config.py") if any(info.hooks) else None
    run_folder.create(folder, described, config_file)
    write_params(folder, step, params)
    if info.config.model.conditioned:
        tables = [line for line in read_metrics(workdir) if "calibration" in line]
        if not tables:
            raise ValueError(f"{workdir}: expected a validation with prices, found none")
        write_atomic(folder / "metrics.jsonl", json.dumps(tables[-1]) + "\n")
    if (workdir / DETECTOR).is_file():
        read_detectors(workdir, step)  # one that could not be used is refused
        shutil.copyfile(workdir / DETECTOR, folder / DETECTOR)
    write_atomic(folder / "README.md", readme_text)


def without_paths(config: Config) -> Config:
    """The config with names in place of the paths of the machine that it ran on."""
    train, data = config.train, config.data
    if train.init_from:
        train = dataclasses.replace(train, init_from=_name(train.init_from))
    train = dataclasses.replace(train, teacher=tuple(map(_name, train.teacher)))
    data = dataclasses.replace(data, cache=_name(data.cache))
    return dataclasses.replace(config, train=train, data=data)


def _name(path: str) -> str:
    return Path(os.path.abspath(path)).name


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
