"""Networks that teach another: what they say of a batch's signals is part of its labels.

They hear the same windows, each by its own features and with everything on, so a teacher may be
larger, or of another kind, than what it teaches. Nothing of them changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.data.features import Frontend, extract
from sanas_jax.data.images import ImageSettings
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.gates import all_on
from sanas_jax.rollout import Sanas, init_carry, unroll


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

    def __call__(self, signal: jax.Array) -> jax.Array:
        """Posteriors [T, B, K] of signals [B, samples]: of each window, from the first on."""
        each = map(_hear, self.models, self.params, self.frontends, [signal] * len(self.models))
        return jnp.stack([*each]).mean(0)


def read_teacher(
    references: str,
    classes: tuple[str, ...],
    settings: MixSettings | ImageSettings,
    *,
    trust: bool = False,
) -> Teachers:
    """Trained networks that hear the windows of a training.

    Args:
      references: folders of runs, or `pretrained:NAME`, several by commas.
      classes, settings: of the training.
      trust: run what their config.py brings.

    Raises ValueError for images, or a network on other classes or windows.
    """
    if isinstance(settings, ImageSettings):
        raise ValueError("config field 'train.teacher': expected speech, got images")
    models = []
    for reference in references.split(","):
        model = read_model(reference, trust=trust)
        _check(reference, model, classes, settings)
        models.append(model)
    return Teachers(
        tuple(model.sanas for model in models),
        tuple(model.params for model in models),
        tuple(model.info.frontend for model in models),
    )


def _hear(model: Sanas, params: Any, frontend: Frontend, signal: jax.Array) -> jax.Array:
    frames = extract(frontend, signal)[..., None]
    carry = init_carry(model, len(signal), 1.0, params.get("stats"))
    key = jax.random.key(0)  # nothing is drawn
    _, out = unroll(model, params, carry, frames, key, policy=all_on)
    return jax.nn.softmax(out.logits)


def _check(
    reference: str, model: TrainedModel, classes: tuple[str, ...], settings: MixSettings
) -> None:
    """ValueError for a network on other classes or windows."""
    if model.info.classes != classes:
        raise ValueError(
            "config field 'train.teacher': expected a network on the data's classes "
            f"({', '.join(classes)}), got {reference} on {', '.join(model.info.classes)}"
        )
    frontend = model.info.frontend
    window = model.sanas.window - frontend.overlap
    theirs = window * frontend.hop, model.sanas.hop * frontend.hop, frontend.sample_rate
    ours = (
        settings.window * settings.frame_hop,
        settings.hop_frames * settings.frame_hop,
        settings.sample_rate,
    )
    if theirs != ours:
        raise ValueError(
            "config field 'train.teacher': expected windows of {} samples every {} at {} Hz, got "
            "{} of {} every {} at {} Hz".format(*ours, reference, *theirs)
        )
