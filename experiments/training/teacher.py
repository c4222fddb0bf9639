"""Networks that teach another: what they say of a batch's signals is part of its labels.

They hear the same windows, each by its own features and with everything on, so a teacher may be
larger, or of another kind, than what it teaches. Nothing of them changes: a run's folder keeps
which parameters taught it, and the run goes on with these alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.atomic import write_json
from data_prep.command.reading import read_json
from experiments.config import to_json
from experiments.runs.trained import TrainedModel, read_model
from experiments.training.hearing import hear
from sanas_jax.data.features import Frontend
from sanas_jax.data.images import ImageSettings
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.gates import all_on
from sanas_jax.rollout import Sanas

FILE = "teacher.json"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Teachers:
    """Trained networks, of which the mean is taken.

    models: their networks
    params, frontends: of each
    """

    models: tuple[Sanas, ...] = field(metadata={"static": True})
    params: tuple[Any, ...]
    frontends: tuple[Frontend, ...]

    def __call__(self, signals: jax.Array) -> jax.Array:
        """Posteriors [T, B, K] of every window of signals [B, samples]."""
        heard = [
            hear(*own, signals, all_on, 1.0)  # with everything on no price is answered to
            for own in zip(self.models, self.params, self.frontends, strict=True)
        ]
        return jnp.stack(heard).mean(0)


def read_teacher(
    references: Sequence[str],
    classes: tuple[str, ...],
    settings: MixSettings | ImageSettings,
    *,
    trust: bool = False,
) -> tuple[Teachers, list[str]]:
    """Trained networks that hear the windows of a training.

    Args:
      references: folders of runs or of packed models, or `pretrained:NAME`.
      classes, settings: of the training.
      trust: run what their config.py brings.

    Returns:
      The teachers, and a hash of what each of them is.

    Raises ValueError for images, for a network on others, on other words or windows, or one that
    never learnt with everything on.
    """
    if isinstance(settings, ImageSettings):
        raise ValueError("config field 'train.teacher': expected a training on audio, got images")
    models = []
    for reference in references:
        try:
            model = read_model(reference, trust=trust)
        except ValueError as error:
            reason = str(error).removeprefix("--workdir: ")
            raise ValueError(f"config field 'train.teacher': {reason}") from error
        _check(reference, model, classes, settings)
        models.append(model)
    heard = Teachers(
        tuple(model.sanas for model in models),
        tuple(model.params for model in models),
        tuple(model.info.frontend for model in models),
    )
    return heard, [_digest(model) for model in models]


def keep_teacher(workdir: Path, digests: Sequence[str]) -> None:
    """Write in a run's folder who teaches it, before it trains."""
    write_json(workdir / FILE, {"sha256": list(digests)})


def check_teacher(workdir: Path, digests: Sequence[str]) -> None:
    """ValueError if a run that has trained was taught by others so far."""
    path = workdir / FILE
    if not path.is_file():
        raise ValueError(f"{path}: expected who taught this run, found no file: begin the run anew")
    if read_json(path, "who taught a run") != {"sha256": list(digests)}:
        raise ValueError(
            f"{path}: expected train.teacher as it was when the run began, got other parameters: "
            "it has been trained since, or is another; begin the run anew"
        )


def _digest(model: TrainedModel) -> str:
    """A hash of parameters, features and the description of the network."""
    described = json.dumps(to_json(model.info.config)["model"], sort_keys=True)
    found = hashlib.sha256(described.encode())
    for leaf in jax.tree.leaves((model.params, model.info.frontend)):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def _check(
    reference: str, model: TrainedModel, classes: tuple[str, ...], settings: MixSettings
) -> None:
    """ValueError for who cannot teach."""
    info = model.info
    if info.input_shape is not None or info.classes != classes:
        what = "images" if info.input_shape is not None else ", ".join(info.classes)
        raise ValueError(
            "config field 'train.teacher': expected a network on the data's classes "
            f"({', '.join(classes)}), got {reference} on {what}"
        )
    if not (model.static or info.config.train.full_weight):
        raise ValueError(
            "config field 'train.teacher': expected a network that learnt with everything on "
            f"(model.static, or train.full_weight above 0), got {reference}, which did not"
        )
    frontend, sanas = info.frontend, model.sanas
    theirs = (frontend.span(sanas.window), sanas.hop * frontend.hop, frontend.sample_rate)
    rows = (settings.window - 1) * settings.frame_hop + settings.frame_length
    ours = (rows, settings.hop_frames * settings.frame_hop, settings.sample_rate)
    if theirs != ours:
        raise ValueError(
            "config field 'train.teacher': expected windows of {} samples every {} at {} Hz, got "
            "{} of {} every {} at {} Hz".format(*ours, reference, *theirs)
        )
