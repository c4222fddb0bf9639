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
from experiments.datasets.clips import ClipSet, Noise, benchmark_rows, noise_under
from experiments.runs.trained import TrainedModel
from sanas_jax import gates as gates_lib
from sanas_jax.data.features import extract
from sanas_jax.rollout import init_carry, unroll

BATCH = 128
STEPS_AROUND = 2  # of silence before the clip's window, and after it
Answer = Callable[..., tuple[jax.Array, jax.Array]]


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


def ask(
    model: TrainedModel,
    answer: Answer,
    price: float,
    samples: np.ndarray,
    noise: Noise | None = None,
) -> Answers:
    """A model's answer to every clip, int16 [N, 16000], batch by batch, with noise if there is.

    `answer` is its `make_answer`, which need not be compiled anew for another price or noise.
    """
    padded = np.concatenate([samples, np.zeros((-len(samples) % BATCH, CLIP_SAMPLES), np.int16)])
    own, around = (model.params, model.info.frontend, price), _around(model)

    def heard(i: int) -> tuple[np.ndarray, np.ndarray | None]:
        clips = padded[i : i + BATCH]
        return clips, None if noise is None else noise_under(noise, clips, i, around)

    jax.block_until_ready(answer(*own, *heard(0)))  # compile
    parts, seconds = [], 0.0
    with Progress(len(samples), "clip", model.workdir.name) as shown:
        for i in range(0, len(samples), BATCH):
            given, begin = heard(i), time.perf_counter()
            parts.append(jax.device_get(answer(*own, *given)))
            seconds += time.perf_counter() - begin
            shown.add(min(BATCH, len(samples) - i))
    predictions, live = (np.concatenate(p)[: len(samples)] for p in zip(*parts, strict=True))
    return Answers(predictions, live, len(samples) / seconds)


def make_answer(model: TrainedModel) -> Answer:
    """`(params, frontend, price, samples [B, 16000], background) -> predictions [B], live [B, E]`.

    price: λ, which a conditioned controller is told. background: float32 of all that is heard
    [B, 16000 and what is around], or None.
    """
    sanas, static = model.sanas, model.info.config.model.static
    around = 0 if static else STEPS_AROUND
    policy = gates_lib.all_on if static else gates_lib.mode
    ends = (0, 0, 0), (*_around(model), 0)

    @jax.jit
    def answer(
        params: Any,
        frontend: Any,
        price: jax.Array | float,
        samples: jax.Array,
        background: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        signal = jax.lax.pad(samples.astype(jnp.float32) / 32768, jnp.float32(0), ends)
        if background is not None:
            signal += background
        # Steps after the clip's cannot change its answer, so they are heard but not run.
        frames = extract(frontend, signal)[:, : around * sanas.hop + sanas.window, :, None]
        carry = init_carry(sanas, len(samples), price, params.get("stats"))
        _, outs = unroll(sanas, params, carry, frames, jax.random.key(0), policy=policy)
        return outs.logits[around].argmax(-1), outs.live[around]

    return answer


def _around(model: TrainedModel) -> tuple[int, int]:
    """Samples that are heard before and after a clip; below 0, so many of it are not.

    The clip's middle is the window's, also where that is not of 1 s.
    """
    sanas, frontend = model.sanas, model.info.frontend
    around = 0 if model.info.config.model.static else STEPS_AROUND
    silence = around * sanas.hop * frontend.hop
    window = (sanas.window - frontend.overlap - 1) * frontend.hop
    before = silence + (window - CLIP_SAMPLES) // 2
    return before, silence + window + silence - before - CLIP_SAMPLES


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
    noise = "" if result.get("snr_db") is None else f" in noise at {result['snr_db']:g} dB"
    share = result["macs_per_clip"] / result["full_macs_per_clip"]
    fewer = (
        f" ({result['benchmark_accuracy_pct']:.2f} % of {result['benchmark_num_clips']}, the "
        "unknown ones as many as of a word)"
        if result["benchmark_num_clips"] < result["num_clips"]
        else ""
    )
    lines = [
        f"{result['workdir']} step {result['step']}{price}, {result['split']}{noise}: accuracy "
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
