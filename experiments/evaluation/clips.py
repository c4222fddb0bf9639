"""Single clips: what a model answers to each, and how often it is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.progress import Progress
from data_prep.speech.cache import CLIP_SAMPLES, Cache
from experiments.config.wording import plain
from experiments.datasets.clips import ClipSet, benchmark_rows
from experiments.runs.trained import TrainedModel
from sanas_jax import gates as gates_lib
from sanas_jax.data.features import extract
from sanas_jax.rollout import init_carry, unroll

BATCH = 128
STEPS_AROUND = 2  # of silence before the clip's window, and after it


class Answers(NamedTuple):
    """What a model said: predictions [N], live [N, E] of the clip's window; clips per second."""

    predictions: np.ndarray
    live: np.ndarray
    clips_per_second: float


def check_classes(model: TrainedModel, cache: Cache) -> None:
    """ValueError unless the cache has what the model was trained for."""
    if model.info.input_shape is not None:
        raise ValueError(f"--workdir: expected a run on audio, got one on images: {model.workdir}")
    if model.info.classes != cache.classes:
        raise ValueError(
            f"--data: expected the classes {', '.join(map(plain, model.info.classes))} of "
            f"{model.workdir.name}, got {', '.join(map(plain, cache.classes))}"
        )


def ask(model: TrainedModel, price: float, samples: np.ndarray) -> Answers:
    """A model's answer to every clip, int16 [N, 16000], batch by batch."""
    answer = jax.jit(make_answer(model, price))
    padded = np.concatenate([samples, np.zeros((-len(samples) % BATCH, CLIP_SAMPLES), np.int16)])
    own = (model.params, model.info.frontend)
    jax.block_until_ready(answer(*own, padded[:BATCH]))  # compile
    parts, begin = [], time.perf_counter()
    with Progress(len(samples), "clip", model.workdir.name) as shown:
        for i in range(0, len(samples), BATCH):
            parts.append(jax.device_get(answer(*own, padded[i : i + BATCH])))
            shown.add(min(BATCH, len(samples) - i))
    seconds = time.perf_counter() - begin
    predictions, live = (np.concatenate(p)[: len(samples)] for p in zip(*parts, strict=True))
    return Answers(predictions, live, len(samples) / seconds)


def make_answer(model: TrainedModel, price: float) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`(params, frontend, samples [B, 16000]) -> predictions [B], live [B, E]`."""
    sanas, static = model.sanas, model.info.config.model.static
    around = 0 if static else STEPS_AROUND
    policy = gates_lib.all_on if static else gates_lib.mode

    def answer(params: Any, frontend: Any, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        silence = around * sanas.hop * frontend.hop
        window = (sanas.window - frontend.overlap - 1) * frontend.hop
        # The clip's middle is the window's, also where that is not of 1 s: negative pads cut.
        before = silence + (window - CLIP_SAMPLES) // 2
        after = silence + window + silence - before - CLIP_SAMPLES
        signal = samples.astype(jnp.float32) / 32768
        signal = jax.lax.pad(signal, jnp.float32(0), ((0, 0, 0), (before, after, 0)))
        # Steps after the clip's cannot change its answer, so they are heard but not run.
        frames = extract(frontend, signal)[:, : around * sanas.hop + sanas.window, :, None]
        carry = init_carry(sanas, len(samples), price, params.get("stats"))
        _, outs = unroll(sanas, params, carry, frames, jax.random.key(0), policy=policy)
        return outs.logits[around].argmax(-1), outs.live[around]

    return answer


def score_answers(model: TrainedModel, clips: ClipSet, answers: Answers) -> dict[str, Any]:
    """Accuracies in percent, the confusion [label][answer], and costs."""
    labels, classes = clips.labels, model.info.classes
    edge_macs, controller = model.edge_macs, model.controller_macs
    macs = answers.live @ np.array(list(edge_macs.values()), np.float64)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (labels, answers.predictions), 1)
    right = answers.predictions == labels
    rows = benchmark_rows(labels)
    present = [k for k in range(len(classes)) if confusion[k].any()]
    return {
        "num_clips": len(labels),
        "accuracy_pct": 100 * float(right.mean()),
        "benchmark_num_clips": len(rows),
        "benchmark_accuracy_pct": 100 * float(right[rows].mean()),
        "accuracy_pct_by_class": {
            plain(classes[k]): 100 * float(right[labels == k].mean()) for k in present
        },
        "confusion": confusion.tolist(),
        "classes": [plain(name) for name in classes],
        "macs_per_clip": float(macs.mean()),
        "macs_per_clip_with_controller": float(macs.mean()) + controller,
        "full_macs_per_clip": sum(edge_macs.values()),
        "clips_per_second": answers.clips_per_second,
    }


def by_speaker(clips: ClipSet, right: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Accuracy in percent on each speaker's clips."""
    assert clips.speakers is not None, "the caller has seen to it"
    return {
        names[s]: 100 * float(right[clips.speakers == s].mean())
        for s in np.unique(clips.speakers)
        if s >= 0
    }


def clip_summary(result: dict[str, Any]) -> str:
    """The figures, and the confusion with a row per class."""
    price = "" if result["cost_weight"] is None else f" at λ = {result['cost_weight']:.3g}"
    share = result["macs_per_clip"] / result["full_macs_per_clip"]
    fewer = (
        f" ({result['benchmark_accuracy_pct']:.2f} % of {result['benchmark_num_clips']}, the "
        "unknown ones as many as of a word)"
        if result["benchmark_num_clips"] < result["num_clips"]
        else ""
    )
    lines = [
        f"{result['workdir']} step {result['step']}{price}, {result['split']}: accuracy "
        f"{result['accuracy_pct']:.2f} % of {result['num_clips']} clips{fewer}",
        f"  {result['macs_per_clip'] / 1e6:.3f}M MACs/clip ({share:.1%} of the full network), "
        f"{result['macs_per_clip_with_controller'] / 1e6:.3f}M with the controller; "
        f"{result['clips_per_second']:.0f} clips/s in batches of {BATCH}",
    ]
    names, confusion = result["classes"], result["confusion"]
    width, cell = max(map(len, names)), 2 + max(4, len(str(np.max(confusion))))
    lines.append(f"  {'':{width}}       % " + "".join(f"{name[:4]:>{cell}}" for name in names))
    for name, row in zip(names, confusion, strict=True):
        if sum(row):
            accuracy = f"{result['accuracy_pct_by_class'][name]:7.1f}"
            lines.append(f"  {name:{width}} {accuracy} " + "".join(f"{n:>{cell}}" for n in row))
    for name, accuracy in result.get("accuracy_pct_by_speaker", {}).items():
        lines.append(f"  speaker {name}: {accuracy:.2f} %")
    return "\n".join(lines)
