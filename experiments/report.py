"""Put what runs did on one page: `python -m experiments.report --workdir W [--workdir W2 …]`.

Writes `report.html`, which needs no other file and no network, its figures as PNGs, and
`curve.json`, cost and accuracy of each run. Prints the table of scores. A sweep's folder stands for
its members. Runs that still train, that diverged, or that were not evaluated, are shown as far as
they are. Runs of streams and of images have pages of their own.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from urllib.parse import quote

from absl import flags

from data_prep.command.atomic import json_text, new_files
from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.trust import define_trust_flag


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    flags.DEFINE_multi_string(
        "workdir",
        None,
        "Folder of a run or a sweep; give it once per run.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "out", None, "Folder of the report; the first workdir if not given.", flag_values=values
    )
    flags.DEFINE_float(
        "excerpt_start_s",
        None,
        "Where the excerpt of the stream begins, s; where most happens if not given.",
        flag_values=values,
    )
    flags.DEFINE_float("excerpt_seconds", 30.0, "Its length, s.", flag_values=values)
    define_trust_flag(values)


def main(values: flags.FlagValues) -> None:
    """Read the runs, write the report, print the table."""
    from experiments.reporting.images.page import image_report
    from experiments.reporting.reading import read_runs
    from experiments.reporting.streams.page import stream_report

    if not 0 < values.excerpt_seconds < math.inf:
        raise ValueError(f"--excerpt_seconds: expected more than 0, got {values.excerpt_seconds}")
    workdirs = list(map(Path, values.workdir))
    runs = read_runs(workdirs, trust=values.trust)
    of_images = [run_.name for run_ in runs if run_.of_images]
    if of_images and len(of_images) < len(runs):
        audio = [run_.name for run_ in runs if not run_.of_images]
        raise ValueError(
            "--workdir: expected runs of images or of audio, got both: "
            f"{', '.join(of_images)}; {', '.join(audio)}"
        )
    found = (
        image_report(runs)
        if of_images
        else stream_report(runs, values.excerpt_start_s, values.excerpt_seconds)
    )
    out = Path(values.out) if values.out else workdirs[0]
    names = [out / "figures" / f"{quote(name, safe='')}.png" for name in found.pngs]
    texts = {out / "curve.json": json_text(found.points), out / "report.html": found.page}
    contents = [*found.pngs.values(), *(text.encode() for text in texts.values())]
    with new_files(*names, *texts) as new:
        for path, data in zip(new, contents, strict=True):
            path.write_bytes(data)
    print(found.table)
    print(f"\n{out / 'report.html'}")


def cli() -> None:
    """Console entry point."""
    # Counts and files: leave an accelerator to others. jax is imported later, if at all.
    os.environ["JAX_PLATFORMS"] = "cpu"
    leave(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
