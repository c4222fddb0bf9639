"""Draw the architecture over training: `python -m experiments.animate --workdir W --out W/a.gif`.

A frame per line of training metrics, at most 60 spread evenly: an edge is as wide as the share of
the samples (of images, or of a stream's frames) in which it was live since the line before, and in
colour where that is most of them. Above are the step, the accuracy and the cost. The last frame
stays longer. Lines of validation are taken while there are none of training. Works for runs of
images and of audio, also while they train.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_prep.command.atomic import new_files
from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from data_prep.command.progress import counted
from experiments.config.wording import short
from experiments.flags.trust import define_trust_flag

if TYPE_CHECKING:
    from PIL import Image

    from experiments.reporting.run_record import RunRecord

FRAMES = 60
FRAME_MS, LAST_MS = 120, 2500
LOOKS = ("live in most samples", "has no gate", "", "live in fewer")


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a run.", required=True, flag_values=values)
    flags.DEFINE_string("out", None, "GIF to be written.", required=True, flag_values=values)
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Draw the frames and write the GIF."""
    from experiments.reporting.reading import read_run

    out = Path(values.out)
    if out.suffix.lower() != ".gif" or out.is_dir():
        raise ValueError(f"--out: expected the name of a .gif file, got {values.out!r}")
    workdir = Path(values.workdir)
    found = read_run(workdir, workdir.resolve().name, trust=values.trust)
    lines = frame_lines(found.lines)
    if not lines:
        raise ValueError(
            f"--workdir: expected a run with lines of training or validation in {workdir}/"
            "metrics.jsonl, got none"
        )
    frames = [draw_frame(found, line) for line in counted(lines, "frame")]
    with new_files(out) as (new,):
        frames[0].save(
            new,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=[FRAME_MS] * (len(frames) - 1) + [LAST_MS],
            loop=0,
        )
    print(f"{out}: {len(frames)} frames, steps {lines[0]['step']} to {lines[-1]['step']}")


def frame_lines(lines: Sequence[dict[str, Any]], most: int = FRAMES) -> list[dict[str, Any]]:
    """At most `most` lines of training, spread evenly, first and last included; else validation."""
    import numpy as np

    for split in ("training", "validation"):
        kept = [line for line in lines if line["split"] == split]
        if kept:
            chosen = np.linspace(0, len(kept) - 1, min(len(kept), most)).round().astype(int)
            return [kept[i] for i in chosen]
    return []


def draw_frame(found: RunRecord, line: dict[str, Any]) -> Image.Image:
    """A line of metrics, drawn on the run's network; all frames of a run have one size."""
    import numpy as np
    from PIL import Image

    from experiments.figures.architecture import MOST_COSTS, ON, Found, architecture_figure
    from experiments.figures.style import WIDE, to_png

    usage = np.array([line["gate_usage"][edge] for edge in found.net.index])
    panels = {title(found, line): Found(usage, usage > ON)}
    # Costs on the live edges alone would come and go.
    costs = found.edge_macs if len(found.net.edges) <= MOST_COSTS else {}
    png = to_png(architecture_figure(found.net, panels, costs, WIDE, looks=LOOKS))
    # One palette of few colours keeps the file small; the drawing has no more.
    return Image.open(io.BytesIO(png)).convert("RGB").quantize(64, dither=Image.Dither.NONE)


def title(found: RunRecord, line: dict[str, Any]) -> str:
    """Step, accuracy and cost of a line, the latter with its share of the whole network's."""
    cost, full, unit = line["macs_per_frame"], float(found.full_macs), "MACs"
    if "charged" in line:
        cost, full, unit = line["charged"], found.charged.full, found.charged.unit
    steps = found.info.config.train.steps
    return (
        f"{found.name}, step {line['step']:{len(str(steps))}d} of {steps}: "
        f"accuracy {100 * line['frame_accuracy']:.1f} %, "
        f"{short(cost)} {unit} ({100 * cost / full:.0f} %)"
    )


def cli() -> None:
    """Console entry point."""
    # Counts and files: leave an accelerator to others. jax is imported later, if at all.
    os.environ["JAX_PLATFORMS"] = "cpu"
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
