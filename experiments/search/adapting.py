"""What adapting buys on streams: an adaptive network beside the best that stays the same.

The searches look for one architecture for all frames that costs no more MACs a frame than the
adaptive network spends, its controller included, with the same or other shared weights. All of
them are chosen on validation streams, as is the detector of each, and told of on others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config.wording import format_columns, short
from experiments.datasets.streams import Stream
from experiments.evaluation.calibration import calibrated
from experiments.evaluation.scoring import score_model
from experiments.evaluation.stream_inference import ModelRun, run_group, run_models, trace_of
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel
from experiments.search import record
from experiments.search.comparison import Options, budget_words
from experiments.search.methods import METHODS, Score, run_search
from experiments.search.space import Architecture, Space
from experiments.search.summary import spread
from sanas_jax import costs
from sanas_jax.streaming.detector import Detector

# False alarms an hour that the detectors may give on the validation streams.
ALARMS = 5.0
TOLERANCE_MS = 750.0


class Heard(NamedTuple):
    """A network on streams that nobody chose by, means over them.

    Fields:
      network: whose weights.
      found_by: "adapting", or the search.
      asked: for what the adaptive network did: the price that it was told.
      macs: a frame, the controller's included, one for each stream.
      full_macs: of the whole network.
      frames, correct, wrong: in percent, one for each stream.
      alarms: false ones an hour, likewise.
      edges: of an architecture that stays the same.
    """

    network: str
    found_by: str
    asked: str
    macs: list[float]
    full_macs: int
    frames: list[float]
    correct: list[float]
    wrong: list[float]
    alarms: list[float]
    edges: list[str] | None


def compare_streams(
    models: Sequence[TrainedModel],
    adaptive: Sequence[TrainedModel],
    choose_on: Sequence[Stream],
    streams: Sequence[Stream],
    options: Options,
) -> list[Heard]:
    """Rows of adaptive networks, each followed by what the searches found for its MACs.

    Args:
      models: super-networks on audio, whose weights are searched.
      adaptive: networks with a controller, at their prices.
      choose_on, streams: labelled, to choose by and to tell of.
      options: of the comparison; its budgets are searched as well. Nothing is trained.
    """
    found, budgets = [], dict[str, float]()
    traces: dict[tuple[Path, float | None], list[ModelRun]] = {}
    for run in run_models(adaptive, [*choose_on, *streams]):
        traces.setdefault((run.model.workdir, run.price), []).append(run)
    for (workdir, price), runs in traces.items():
        words = workdir.name + ("" if price is None else f" λ = {price:.3g}")
        chosen, told = runs[: len(choose_on)], runs[len(choose_on) :]
        budgets[words] = float(np.mean([_macs(run) for run in chosen]))
        found.append(_heard(chosen, told, "adapting", words, None))
    full = sum(models[0].edge_macs.values())
    for budget in options.budgets:
        budgets[f"at most {budget_words(budget)}"] = budget * full if budget < 1 else budget
    for model in models:
        found += _on_one(model, budgets, choose_on, streams, options)
    order = list(budgets)
    return sorted(found, key=lambda one: order.index(one.asked))


def heard_table(found: Sequence[Heard]) -> str:
    """A line per network: means ± standard deviations over streams."""
    head = ("as", "weights of", "found by", "MACs/frame", "frames right %", "correct %", "wrong %")
    rows: list[Sequence[str]] = [(*head, "false alarms/h")]
    for one in found:
        figures = (one.frames, one.correct, one.wrong, one.alarms)
        cells = [spread(values, ".1f") for values in figures]
        rows.append((one.asked, one.network, one.found_by, short(float(np.mean(one.macs))), *cells))
    return format_columns(rows, left=3)


def heard_panels(found: Sequence[Heard]) -> dict[str, dict[str, list[list[tuple[float, float]]]]]:
    """What `search_figure` draws: frames right, and words found less words mistaken."""
    out: dict[str, dict[str, list[list[tuple[float, float]]]]] = {}
    for one in found:
        line = one.found_by + ("" if one.edges is None else f", weights of {one.network}")
        gains = [c - w for c, w in zip(one.correct, one.wrong, strict=True)]
        for title, values in (("frames right", one.frames), ("correct - wrong words", gains)):
            points = [(m / one.full_macs, v / 100) for m, v in zip(one.macs, values, strict=True)]
            out.setdefault(title, {}).setdefault(line, []).append(points)
    return out


def _on_one(
    model: TrainedModel,
    budgets: dict[str, float],
    choose_on: Sequence[Stream],
    streams: Sequence[Stream],
    options: Options,
) -> Iterator[Heard]:
    """What the searches find with one super-network's weights, the widest budget first."""
    space = Space(model.sanas.net, costs.macs(model.sanas.net))
    about = dataclasses.asdict(options.search) | {
        "step": model.step,
        "streams": [[stream.name, len(stream.samples)] for stream in choose_on],
    }
    kept = record.Record(options.out / model.workdir.name / "search.jsonl", space, about)
    run = partial(_scores, model, choose_on, options.search.at_once)
    score = partial(kept.scored, score=run)
    order = sorted(budgets.items(), key=lambda item: -item[1])
    chosen: dict[tuple[str, str, int], Architecture] = {}
    for (words, budget), seed, name in product(order, options.seeds, METHODS):
        keep = partial(kept.keep, record.Search(seed, name, budget))
        best = run_search(METHODS[name], space, budget, options.search, seed, score, keep)
        chosen[words, name, seed] = best.architecture
    lives = {one.live.tobytes(): one.live for one in chosen.values()}
    told, number = dict[bytes, Heard](), len(choose_on)
    runs = run_architectures(model, [*lives.values()], [*choose_on, *streams])
    for (key, live), own in zip(lives.items(), runs, strict=True):
        told[key] = _heard(own[:number], own[number:], "", "", space.names(live))
    for (words, name, seed), one in chosen.items():
        by = name if len(options.seeds) == 1 else f"{name} {seed}"
        yield told[one.live.tobytes()]._replace(found_by=by, asked=words)


def run_architectures(
    model: TrainedModel, lives: Sequence[np.ndarray], streams: Sequence[Stream]
) -> list[list[ModelRun]]:
    """Each architecture, live edges [E], the same at every frame: a run over every stream."""
    still = model.as_static()
    out = run_group(
        model.sanas,
        True,
        [(model.params, model.info.frontend)],
        [1.0] * len(lives),  # what a conditioned controller is told changes nothing here
        [stream.samples for stream in streams],
        architectures=np.array(lives, np.float32),
    )
    return [
        [
            ModelRun(still, None, stream, trace_of(still, stream, p, live), out.ms_per_frame)
            for stream, p, live in zip(streams, posteriors, lived, strict=True)
        ]
        for posteriors, lived in zip(out.posteriors[0], out.live[0], strict=True)
    ]


def _scores(
    model: TrainedModel,
    streams: Sequence[Stream],
    at_once: int,
    new: Sequence[np.ndarray],
) -> list[Score]:
    """Of frames of streams, of architectures [E]."""
    scored = []
    for i in range(0, len(new), at_once):
        some = new[i : i + at_once]
        filled = [*some, *[some[0]] * (at_once - len(some))]  # one program
        runs = run_architectures(model, filled, streams)[: len(some)]
        scored += [frame_score([run.trace for run in own]) for own in runs]
    return scored


def frame_score(traces: Sequence[Trace]) -> Score:
    """Share of frames that are right, and the mean loss in nats."""
    posteriors = np.concatenate([trace.posteriors for trace in traces])
    labels = np.concatenate([trace.labels for trace in traces])
    of_label = posteriors[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(of_label, np.finfo(np.float32).tiny))
    return Score(float((posteriors.argmax(1) == labels).mean()), float(loss.mean()))


def _macs(run: ModelRun) -> float:
    """A frame, the controller's included."""
    table = np.array(list(run.model.edge_macs.values()), np.float64)
    return float((run.trace.live @ table).mean()) + run.model.controller_macs


def _heard(
    chosen: Sequence[ModelRun],
    told: Sequence[ModelRun],
    found_by: str,
    asked: str,
    edges: list[str] | None,
) -> Heard:
    """A row: the detector of the first runs, the figures of the others."""
    model, price = chosen[0].model, chosen[0].price
    streams, traces = ([getattr(run, name) for run in chosen] for name in ("stream", "trace"))
    found = calibrated(model, price, streams, traces, [ALARMS])
    if not found.entries:
        raise ValueError("; ".join(found.unreached))
    settings: dict[str, Any] = found.entries[0]["settings"]
    detector = Detector(**settings)
    described = {"kind": "calibrated", **settings}
    results = [score_model(run, detector, described, None, TOLERANCE_MS) for run in told]
    return Heard(
        model.workdir.name,
        found_by,
        asked,
        [_macs(run) for run in told],
        sum(model.edge_macs.values()),
        [100 * result.frame_accuracy for result in results],
        [result.correct_pct for result in results],
        [result.wrong_pct for result in results],
        [result.false_alarms_per_hour for result in results],
        edges,
    )
