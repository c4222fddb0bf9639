"""Hear words as they are spoken: `python -m experiments.listen --wav file.wav`, --stdin or --mic.

Every word that fires is one line of JSON on standard output:

    {"time_ms": 12400, "word": "yes", "score": 0.83, "macs": 214312, "ms": 0.31}

time_ms: where the window that fired begins; macs, ms: what its step computed, and how long that
took. Silence and words that are not wanted print nothing. Edges that are off are not run and rows
are computed once, so what it costs is real. With --every_step each decision is a line. At the end,
or at Ctrl-C, a summary goes to standard error.

Without a model by name it is the one of the package that was trained in noise. --serve shows it all
on a web page instead (`experiments.serve`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.cli import run
from experiments.config.wording import parse_macs
from experiments.live.decisions import Spending
from experiments.live.sources import Microphone, Pipe, Source, Wav, standard_input
from experiments.machine.jax_setup import prepare_streaming
from experiments.runs import folder as run_folder
from experiments.runs.packed import PREFIX
from experiments.runs.trained import Model, read_model
from sanas_jax import gates
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Heard, Session

DEFAULT_MODEL = f"{PREFIX}kws_noise"  # rooms are not quiet
DEFAULT_PRICE = 0.1


def define_model_flags(values: flags.FlagValues) -> None:
    """Flags that say which model listens, and how."""
    flags.DEFINE_string("workdir", None, "Folder of a run.", flag_values=values)
    flags.DEFINE_string("pretrained", None, "Name of a model of the package.", flag_values=values)
    flags.DEFINE_string("checkpoint", "latest", "'latest', or a step.", flag_values=values)
    flags.DEFINE_string(
        "budget", None, "MACs per frame asked of a conditioned network.", flag_values=values
    )
    flags.DEFINE_float(
        "cost_weight",
        None,
        f"λ told to a conditioned network; {DEFAULT_PRICE} if nothing is asked.",
        lower_bound=1e-9,
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold",
        None,
        "Fire above this mean posterior; as calibrated if not given.",
        lower_bound=0,
        upper_bound=1,
        flag_values=values,
    )


def define_runtime_flags(values: flags.FlagValues) -> None:
    """Flags that say how it is run."""
    flags.DEFINE_integer(
        "programs",
        0,
        "How many architectures, those that occur most, get a program of their own: faster, after "
        "a second or two of compilation each in the background. For long streams.",
        lower_bound=0,
        flag_values=values,
    )


def define_address_flags(values: flags.FlagValues) -> None:
    """Flags that say where the live page is served."""
    flags.DEFINE_string("host", "127.0.0.1", "Address of the live page.", flag_values=values)
    flags.DEFINE_integer(
        "port",
        8765,
        "Port of the live page; 0 for any.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
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
        "rate", 16000, "Rate of --stdin, Hz.", lower_bound=1000, flag_values=values
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
    prepare_streaming()
    model = chosen_model(values)
    price = chosen_price(values, model)
    rate = model.info.frontend.sample_rate
    source = chosen_source(values, rate)
    detector = chosen_detector(model, price, values.threshold)
    runtime = runtime_of(model, values.programs)
    session = Session(runtime, cost_weight=price, detector=detector)
    warm_up(session, rate)
    summary = listen(session, model, source, values.every_step)
    runtime.close()
    print(describe(summary), file=sys.stderr)
    if values.json:
        run_folder.write_atomic(Path(values.json), json.dumps(summary, indent=1) + "\n")


def show_page(values: flags.FlagValues) -> None:
    """The live page in place of a source."""
    from experiments import serve  # which imports this module

    if values.wav is not None or values.stdin or values.mic or values.realtime:
        raise ValueError("--serve: expected no other source, the page chooses one")
    if values.every_step or values.json:
        raise ValueError("--serve: expected neither --every_step nor --json, the page shows all")
    serve.main(values)


def chosen_model(values: flags.FlagValues) -> Model:
    """The model that the flags name, on audio."""
    if values.workdir and values.pretrained:
        raise ValueError("--workdir, --pretrained: expected one of them, got both")
    named = values.workdir or (PREFIX + values.pretrained if values.pretrained else DEFAULT_MODEL)
    budgets = [] if values.budget is None else [parse_macs(values.budget)]
    model = read_model(named, values.checkpoint, budgets)
    if model.info.input_shape is not None:
        raise ValueError(f"--workdir: expected a run on audio, got one on images: {model.workdir}")
    return model


def chosen_price(values: flags.FlagValues, model: Model) -> float | None:
    """λ that a conditioned network is told; None for others."""
    asked = values.budget is not None or values.cost_weight is not None
    if values.budget is not None and values.cost_weight is not None:
        raise ValueError("--budget, --cost_weight: expected one of them, got both")
    if not model.info.config.model.conditioned:
        if asked:
            raise ValueError(
                f"--budget, --cost_weight: expected a conditioned network, got {model.workdir.name}"
            )
        return None
    if values.budget is not None:
        return model.prices[0]
    return DEFAULT_PRICE if values.cost_weight is None else float(values.cost_weight)


def chosen_source(values: flags.FlagValues, rate: int) -> Source:
    """The one source that the flags name."""
    if sum((values.wav is not None, values.stdin, values.mic)) != 1:
        raise ValueError("expected one of --wav FILE, --stdin and --mic, or --serve")
    if values.realtime and values.wav is None:
        raise ValueError("--realtime: expected --wav, other sources have a pace of their own")
    if values.wav is not None:
        return Wav(Path(values.wav), rate, paced=values.realtime)
    if values.stdin:
        return Pipe(standard_input(), values.rate, rate)
    return Microphone(values.device, rate)


def chosen_detector(model: Model, price: float | None, threshold: float | None) -> Detector:
    """The calibrated detector, the protocol's where there is none or a threshold is asked for."""
    if threshold is not None:
        return Detector(threshold=threshold)
    if not (model.workdir / "detector.json").is_file():
        return Detector()
    return run_folder.read_detector(model.workdir, model.step, price)[0]


def runtime_of(model: Model, programs: int = 0) -> Runtime:
    """The model, compiled for a stream; `programs` as of `Runtime`."""
    policy = gates.all_on if model.info.config.model.static else gates.mode
    return Runtime(
        model.built.model,
        model.params,
        model.info.frontend,
        policy=policy,
        programs=programs,
    )


def warm_up(session: Session, rate: int) -> None:
    """Compile, on silence, so that the first word is not late."""
    session.push(np.zeros(2 * rate, np.float32))
    session.reset()


def listen(session: Session, model: Model, source: Source, every_step: bool) -> dict[str, Any]:
    """Print what is heard; the figures of the summary."""
    spending = Spending(model)
    words, milliseconds = 0, []
    told_dropped = 0.0
    begin, interrupted = time.perf_counter(), False
    bar = tqdm(
        total=source.seconds and round(source.seconds),
        desc="audio",
        unit="s",
        mininterval=1.0,
        file=sys.stderr,
        disable=not (source.seconds and sys.stderr.isatty()),
    )
    try:
        for heard, ms in _steps(session, source, model):
            macs = spending.add(heard.live)
            milliseconds.append(ms)
            is_word = heard.detection is not None and heard.detection.label >= FIRST_WORD
            words += is_word
            if every_step or is_word:
                print(json.dumps(event(heard, model, macs, ms)), flush=True)
            if source.dropped_seconds > told_dropped:
                told_dropped = source.dropped_seconds
                print(f"dropped {told_dropped:.1f} s of audio so far", file=sys.stderr)
            bar.update(round(session.seconds) - bar.n)
    except KeyboardInterrupt:
        interrupted = True
    except BrokenPipeError:
        # Nobody reads on: the end. What Python would flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        bar.close()
    if source.ended:
        print(source.ended, file=sys.stderr)
    seconds = time.perf_counter() - begin
    times = np.array(milliseconds or [0.0])
    return {
        "model": model.workdir.name,
        "seconds": session.seconds,
        "words": words,
        "steps": len(milliseconds),
        "real_time_factor": float(times.sum()) / 1000 / max(session.seconds, 1e-9),
        "wall_seconds": seconds,
        "ms_per_frame": float(times.mean()),
        "ms_per_frame_p99": float(np.percentile(times, 99)),
        "dropped_seconds": source.dropped_seconds,
        "interrupted": interrupted,
    } | spending.summary()


def _steps(session: Session, source: Source, model: Model) -> Iterator[tuple[Heard, float]]:
    """Every step and its milliseconds; audio is handed over in pieces that complete one at most."""
    frontend = model.info.frontend
    size = model.built.model.hop * frontend.hop
    for chunk in source.chunks():
        for at in range(0, len(chunk), size):
            begin = time.perf_counter()
            heard = session.push(chunk[at : at + size])
            took = 1000 * (time.perf_counter() - begin)
            for one in heard:
                yield one, took / len(heard)
    begin = time.perf_counter()
    heard = session.finish()
    for one in heard:
        yield one, 1000 * (time.perf_counter() - begin) / len(heard)


def event(heard: Heard, model: Model, macs: float, ms: float) -> dict[str, Any]:
    """A decision as a line of output shows it."""
    found = heard.detection
    label = int(heard.posterior.argmax()) if found is None else found.label
    score = float(heard.posterior[label]) if found is None else found.score
    event = {
        "time_ms": int(heard.time_ms),
        "word": model.info.classes[label],
        "score": round(score, 4),
        "macs": round(macs),
        "ms": round(ms, 3),
    }
    return event if found else event | {"fired": False}


def describe(summary: dict[str, Any]) -> str:
    """The summary in two lines."""
    share = summary["macs_per_frame"] / summary["full_macs_per_frame"]
    lost = summary["dropped_seconds"]
    return "\n".join(
        [
            f"{summary['model']}: {summary['words']} words in {summary['seconds']:.1f} s; "
            f"{summary['ms_per_frame']:.2f} ms per frame "
            f"(99 %: {summary['ms_per_frame_p99']:.2f}), real-time factor "
            f"{summary['real_time_factor']:.4f}"
            + (f"; {lost:.1f} s of audio dropped" if lost else ""),
            f"  {summary['macs_per_frame'] / 1e6:.3f}M MACs per frame of "
            f"{summary['full_macs_per_frame'] / 1e6:.3f}M ({1 - share:.1%} saved), "
            f"{summary['macs_per_frame_incremental'] / 1e6:.3f}M of them for rows that are new, "
            f"and {summary['controller_macs'] / 1e6:.3f}M for the controller",
        ]
    )


def cli() -> None:
    """Console entry point."""
    sys.exit(run(define_flags, main, __doc__, sys.argv))


if __name__ == "__main__":
    cli()
