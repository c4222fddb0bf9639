"""Talk that a network fires on: where the one that a training starts from hears words in it.

Running speech holds none, so a network is wrong there: batches draw these places more often
(`Recipe.negative_mined`). They are found once and kept in the run's folder, so that a resumed run
draws what it drew.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_prep.command.atomic import new_files
from data_prep.command.progress import Progress
from data_prep.command.reading import naming, read_npz
from experiments.datasets.source import Source
from experiments.machine.multihost import say, wait_for_file
from experiments.runs.trained import TrainedModel, read_model
from experiments.training.hearing import hear
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.data.tracks import Tracks, as_float
from sanas_jax.sharding import place

FILE = "mined.npz"
FIRES = 0.5  # posterior of a word from which on a network fires
LEAST = 100  # places, the likeliest where it fires at fewer: a handful would be learnt by heart
# Windows that are heard one after another, from a fresh state as in an item; and so many at once.
PIECE, PIECES = 64, 16


class Mined(NamedTuple):
    """Windows of the training talk in order of time, each the likeliest among its neighbours.

    Fields:
      stretches: [n, 2] int32, the first sample of each and the one after its last.
      talk: of all the talk, `fingerprint`.
    """

    stretches: np.ndarray
    talk: str


def mine_talk(data: Source, reference: str, *, trust: bool = False) -> Mined:
    """Where a network takes talk that training batches draw from for words; says how often.

    It hears as it is deployed; one that is told its price, at its lowest.

    Args:
      data: of the training, with running speech on the device.
      reference: folder of the network's run, or `pretrained:NAME`.
      trust: run what its config.py brings.

    Raises:
      ValueError if the network is of other classes, or nothing is talk long enough for a window.
    """
    model = read_model(reference, trust=trust)
    if model.info.classes != data.classes:
        raise ValueError(
            "config field 'data.negative_mined': expected train.init_from of the data's classes "
            f"({', '.join(data.classes)}), got {reference} of {', '.join(model.info.classes)}"
        )
    if data.input_shape is not None:
        raise ValueError("config field 'data.negative_mined': expected speech, got images")
    tracks = data.training.negatives.speech
    frontend, sanas = model.info.frontend, model.sanas
    # From the centre of a window's first frame to that of its last.
    size = (sanas.window - frontend.overlap - 1) * frontend.hop
    first = np.arange(0, tracks.samples.shape[0] - size + 1, sanas.hop * frontend.hop)
    bounds = np.asarray(tracks.bounds)
    within = bounds[np.searchsorted(bounds, first, side="right")] >= first + size
    if not within.any():
        raise ValueError(
            "config field 'data.negative_mined': expected recordings of running speech of "
            f"{size / frontend.sample_rate:g} s or more, got none"
        )
    words = _hear(model, tracks, first, size)
    scores = words.max(1)
    found = likeliest(np.where(within, scores, -np.inf))
    fires = np.count_nonzero(scores[found] > FIRES)
    minutes = tracks.samples.shape[0] / frontend.sample_rate / 60
    say(
        f"mined {len(found)} places, the likeliest of {minutes:.1f} minutes of running speech; "
        f"{reference} fires at {fires or 'none'} of them"
    )
    stretches = np.stack([first, first + size], 1)[found].astype(np.int32)
    return Mined(stretches, fingerprint(tracks))


def likeliest(scores: np.ndarray) -> np.ndarray:
    """Places among scores [N] that are above `FIRES`, ascending: of neighbours the highest.

    They are the `LEAST` highest where those are fewer; no place that is -inf.
    """
    around = np.pad(scores, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((scores >= around[:-2]) & (scores > around[2:]))
    ranked = peaks[np.argsort(-scores[peaks], kind="stable")]
    return np.sort(ranked[: max(LEAST, np.count_nonzero(scores[peaks] > FIRES))])


def fingerprint(tracks: Tracks) -> str:
    """A hash of recordings and where they end."""
    found = hashlib.sha256(np.asarray(tracks.samples).tobytes())
    found.update(np.asarray(tracks.bounds).tobytes())
    return found.hexdigest()


def write_mined(workdir: Path, mined: Mined) -> None:
    """Keep it in a run's folder, whole or not at all."""
    with new_files(workdir / FILE) as (new,), open(new, "wb") as file:
        np.savez(file, stretches=mined.stretches, talk=np.array(mined.talk))


def read_mined(workdir: Path, data: Source) -> Mined:
    """What was kept in a run's folder; ValueError for anything else, or if it is of other talk."""
    path, tracks = workdir / FILE, data.training.negatives.speech
    wait_for_file(path)
    arrays = read_npz(path, "mined talk")
    with naming(path, "mined talk"):
        stretches, talk = arrays["stretches"], str(arrays["talk"])
        if stretches.dtype != np.int32 or stretches.shape[1:] != (2,) or not len(stretches):
            raise ValueError(f"stretches {stretches.dtype} {stretches.shape}")
        first, end = stretches.T
        if (first < 0).any() or (first >= end).any() or (end > tracks.samples.shape[0]).any():
            raise ValueError("stretches beyond the talk")
    if talk != fingerprint(tracks):
        raise ValueError(
            f"{path}: expected what was mined in the running speech of --data, got what was mined "
            "in other: begin the run anew"
        )
    return Mined(stretches, talk)


def draw_mined(data: Source, mined: Mined, mesh: Mesh | None) -> None:
    """Have training batches draw what was mined in their talk."""
    negatives = dataclasses.replace(data.training.negatives, mined=place(mined.stretches, mesh))
    data.training = dataclasses.replace(data.training, negatives=negatives)


def _hear(model: TrainedModel, tracks: Tracks, first: np.ndarray, size: int) -> np.ndarray:
    """Posteriors [N, words] of windows of `size` samples that begin at `first` [N]."""
    samples = np.asarray(tracks.samples)
    begins = first[::PIECE]
    begins = np.pad(begins, (0, -len(begins) % PIECES))
    hop = model.sanas.hop * model.info.frontend.hop
    along = np.arange((PIECE - 1) * hop + size)
    of_talk = partial(_make_hear(model), model.params, model.info.frontend)
    heard = []
    with Progress(len(begins), "piece", "mining") as shown:
        for batch in begins.reshape(-1, PIECES):
            # What lies beyond the end belongs to no window that is asked for.
            at = np.minimum(batch[:, None] + along, len(samples) - 1)
            heard.append(np.asarray(of_talk(samples[at])))
            shown.add(PIECES)
    return np.concatenate(heard)[: len(first)]


def _make_hear(model: TrainedModel) -> Any:
    """`(params, frontend, samples [B, n]) -> posteriors` [B · T, words], stream by stream."""

    @jax.jit
    def hear_words(params: Any, frontend: Any, samples: jax.Array) -> jax.Array:
        signals, price = as_float(samples), model.prices[0]
        heard = hear(model.sanas, params, frontend, signals, model.policy, price)
        words = heard[..., FIRST_WORD:]
        return jnp.swapaxes(words, 0, 1).reshape(-1, words.shape[-1])

    return hear_words
