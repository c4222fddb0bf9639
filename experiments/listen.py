"""Hear words as they are spoken: `python -m experiments.listen --wav file.wav`, --stdin or --mic.

Every word that fires is one line of JSON on standard output:

    {"time_ms": 12400, "word": "yes", "score": 0.83, "macs": 214312, "ms": 0.31}

time_ms: where the window that fired begins, before 0 in a clip, which is heard with silence around
it; macs, ms: what its step computed, and how long that took. Silence and words that are not wanted
print nothing. Edges that are off are not run and rows are computed once, so what it costs is real.
With --every_step each decision is a line. At the end, or at Ctrl-C, a summary goes to standard
error.

Without a model by name it is `kws` of the package. --serve shows it all
on a web page instead (`experiments.serve`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.one_model import (
    chosen_engine,
    chosen_model,
    chosen_price,
    define_address_flags,
    define_model_flags,
    define_runtime_flags,
)


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    define_runtime_flags(values)
    define_address_flags(values)
    flags.DEFINE_bool("serve", False, "A web page to watch it on.", flag_values=values)
    flags.DEFINE_string("wav", None, "An audio file.", flag_values=values)
    flags.DEFINE_bool("stdin", False, "Raw 16-bit mono PCM in a pipe.", flag_values=values)
    flags.DEFINE_bool("mic", False, "A microphone.", flag_values=values)
    flags.DEFINE_integer(
        "rate",
        16000,
        "Rate of --stdin, Hz.",
        lower_bound=1_000,
        upper_bound=384_000,
        flag_values=values,
    )
    flags.DEFINE_string("device", None, "Name or number for --mic.", flag_values=values)
    flags.DEFINE_bool("realtime", False, "Pace --wav as it was spoken.", flag_values=values)
    flags.DEFINE_bool("every_step", False, "A line for each decision.", flag_values=values)
    flags.DEFINE_string("json", None, "Where to write the summary as JSON.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Listen until the source ends or the user does."""
    if values.serve:
        show_page(values)
        return
    from data_prep.command.atomic import check_place, write_json
    from experiments.live.decisions import frontend_ms
    from experiments.live.engine import runtime_of, warm_up
    from experiments.live.listening import describe, listen, shortage
    from experiments.machine.host import without_pauses
    from experiments.machine.jax_setup import prepare_streaming
    from experiments.runs.detectors import chosen_detector, has_detector
    from sanas_jax.streaming.session import Session

    check_place("json", values.json, [values.wav])
    prepare_streaming()
    model = chosen_model(values)
    price = chosen_price(values, model)
    rate = model.info.frontend.sample_rate
    source = chosen_source(values, rate)
    detector = chosen_detector(model, price, values.threshold)
    if values.threshold is None and not has_detector(model):
        print(
            f"{model.workdir.name}: no detector.json, so the protocol's detector", file=sys.stderr
        )
    runtime = runtime_of(model, values.programs, values.engine)
    session = Session(runtime, cost_weight=price, detector=detector)
    warm_up(session, rate)
    with without_pauses():
        summary = listen(session, model, source, values.every_step)
    summary["frontend_ms"] = frontend_ms(runtime)
    runtime.close()
    short = shortage(summary, detector)
    if short and values.wav is not None:
        short = f"{values.wav}: {short}"
    wrong = summary.get("error") or short
    if wrong and not summary["steps"]:  # there is nothing to sum up
        raise ValueError(wrong)
    print(describe(summary), file=sys.stderr)
    if values.json:
        write_json(Path(values.json), summary)
    if wrong:
        raise ValueError(wrong)


def show_page(values: flags.FlagValues) -> None:
    """The live page in place of a source."""
    from experiments.live.page.server import serve
    from experiments.machine.jax_setup import prepare_streaming

    if values.wav is not None or values.stdin or values.mic or values.realtime:
        raise ValueError("--serve: expected no other source, the page chooses one")
    if values.every_step or values.json:
        raise ValueError("--serve: expected neither --every_step nor --json, the page shows all")
    prepare_streaming()
    serve(values.host, values.port, lambda: chosen_engine(values))


def chosen_source(values: flags.FlagValues, rate: int) -> Source:
    """The one source that the flags name."""
    from experiments.live.sources import Microphone, Pipe, Wav, standard_input

    if sum((values.wav is not None, values.stdin, values.mic)) != 1:
        raise ValueError("expected one of --wav FILE, --stdin and --mic, or --serve")
    if values.realtime and values.wav is None:
        raise ValueError("--realtime: expected --wav, other sources have a pace of their own")
    if values.wav is not None:
        return Wav(Path(values.wav), rate, paced=values.realtime)
    if values.stdin:
        return Pipe(standard_input(), values.rate, rate)
    return Microphone(values.device, rate)


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv))


if TYPE_CHECKING:
    from experiments.live.sources import Source


if __name__ == "__main__":
    cli()
