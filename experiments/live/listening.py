"""The loop of `listen`: words as they are heard, and a summary."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.live.decisions import Spending, event
from experiments.live.sources import Source
from experiments.runs.trained import TrainedModel
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Heard, Session


def listen(
    session: Session, model: TrainedModel, source: Source, every_step: bool
) -> dict[str, Any]:
    """Print what is heard; the figures of the summary, and what is wrong with the source."""
    spending = Spending(model, session.engine)
    words, milliseconds = 0, []
    told_dropped = 0.0
    begin, interrupted, failed = time.perf_counter(), False, ""
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
                said = event(heard, model, macs, ms)
                said["time_ms"] -= round(1000 * source.silence)
                print(json.dumps(said), flush=True)
            if source.dropped_seconds > told_dropped:
                told_dropped = source.dropped_seconds
                print(f"dropped {told_dropped:.1f} s of audio so far", file=sys.stderr)
            bar.update(round(session.seconds) - bar.n)
    except KeyboardInterrupt:
        interrupted = True
    except ValueError as error:  # what was heard until then is worth telling
        failed = str(error)
    except BrokenPipeError:
        # Nobody reads on: the end. What Python would flush at exit goes nowhere.
        interrupted = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        bar.close()
    if source.ended:
        print(source.ended, file=sys.stderr)
    if source.silence:
        print(
            f"a clip of {source.seconds:.2f} s: heard with {source.silence:g} s of silence before "
            "and after it",
            file=sys.stderr,
        )
    wall_seconds = time.perf_counter() - begin
    times = np.array(milliseconds or [0.0])
    return {
        "model": model.workdir.name,
        "engine": session.engine,
        "seconds": session.seconds,
        "words": words,
        "steps": len(milliseconds),
        "real_time_factor": float(times.sum()) / 1000 / max(session.seconds, 1e-9),
        "wall_seconds": wall_seconds,
        "ms_per_frame": float(times.mean()),
        "ms_per_frame_p99": float(np.percentile(times, 99)),
        "dropped_seconds": source.dropped_seconds,
        "interrupted": interrupted,
        **({"error": failed} if failed else {}),
    } | spending.summary()


def _steps(session: Session, source: Source, model: TrainedModel) -> Iterator[tuple[Heard, float]]:
    """Every step and its milliseconds; audio is handed over in pieces that complete one at most."""
    frontend = model.info.frontend
    size = model.sanas.hop * frontend.hop
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


def shortage(summary: dict[str, Any], detector: Detector) -> str:
    """Why too little was heard for a word to be found in it; "" where it was enough."""
    if summary["interrupted"] or summary["steps"] >= detector.min_count:
        return ""
    if not summary["seconds"]:
        return "expected audio, got a file or a pipe without a sample"
    return (
        f"expected {detector.min_count} decisions or more, which the detector asks for, got "
        f"{summary['seconds']:.2f} s of audio and {summary['steps']}: experiments.evaluate_clips "
        "takes single clips"
    )


def describe(summary: dict[str, Any]) -> str:
    """The summary in three lines."""
    share = summary["macs_per_frame"] / summary["full_macs_per_frame"]
    lost, front = summary["dropped_seconds"], summary.get("frontend_ms")
    more = f"{summary['frontend_macs'] / 1e6:.3f}M more for the front end"
    if not summary["frontend_macs"]:
        more = "the front end is among the edges"
    return "\n".join(
        [
            f"{summary['model']}, {summary['engine']}: {summary['words']} words in "
            f"{summary['seconds']:.1f} s; "
            f"{summary['ms_per_frame']:.2f} ms per frame "
            f"(99 %: {summary['ms_per_frame_p99']:.2f}), real-time factor "
            f"{summary['real_time_factor']:.4f}"
            + (f"; {lost:.1f} s of audio dropped" if lost else ""),
            f"  {summary['macs_per_frame'] / 1e6:.3f}M MACs per frame of "
            f"{summary['full_macs_per_frame'] / 1e6:.3f}M ({1 - share:.1%} saved), "
            f"{summary['macs_per_frame_incremental'] / 1e6:.3f}M of them for rows that are new, "
            f"and {summary['controller_macs'] / 1e6:.3f}M for the controller",
            f"  {more}" + ("" if front is None else f", {1000 * front:.0f} µs a frame"),
        ]
    )
