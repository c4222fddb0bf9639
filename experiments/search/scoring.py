"""What architectures are worth with the shared weights: on images, or on the frames of streams.

One program for all of them: the architecture is an argument, as the weights are. What does not
depend on it, the trunk, is computed once for all that are scored together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datasets.images import ImageSource
from experiments.runs.trained import Params, TrainedModel
from experiments.search.methods import Score
from sanas_jax.rollout import Sanas, init_carry
from sanas_jax.static import run_static
from sanas_jax.training import Batch

BATCH = 256

# (params, architectures [N, E]) → their scores.
Scorer = Callable[[Params, Sequence[np.ndarray]], list[Score]]


def image_scorer(model: TrainedModel, source: ImageSource, split: str, at_once: int) -> Scorer:
    """Of a split's images, or of their labelled pixels; `at_once` architectures in one program."""
    size = min(BATCH, len(source.cache.indices(split)))
    batches = source.batches(split, model.info.frontend, size)
    count = jax.jit(make_count(model.sanas))

    def score(params: Params, found: Sequence[np.ndarray]) -> list[Score]:
        scores: list[Score] = []
        for i in range(0, len(found), at_once):
            some = np.zeros((at_once, len(model.sanas.net.edges)), np.float32)
            some[: len(found[i:][:at_once])] = np.array(found[i:][:at_once])
            counts = [count(params, some, batch) for batch in batches]
            right, loss, number = np.sum([jax.device_get(c) for c in counts], axis=0)
            rates = (right / number, loss / number)
            scores += [Score(float(a), float(b)) for a, b in zip(*rates, strict=True)]
        return scores[: len(found)]

    return score


def make_count(model: Sanas) -> Callable[[Params, jax.Array, Batch], tuple[jax.Array, ...]]:
    """`(params, gates [N, E], batch) -> right, sum of losses, number`, each [N]."""

    def count(params: Params, gates: jax.Array, batch: Batch) -> tuple[jax.Array, ...]:
        # What a conditioned controller is told changes nothing where gates are given.
        carry = init_carry(model, len(batch.labels), 1.0, params.get("stats"))
        valid = (batch.labels >= 0) & batch.mask.reshape(-1, *[1] * (batch.labels.ndim - 1))
        labels = jnp.where(valid, batch.labels, 0)

        def of(gates: jax.Array) -> tuple[jax.Array, ...]:
            forced = jnp.broadcast_to(gates, (len(batch.labels), len(gates)))
            _, out = run_static(
                model, params, carry, batch.features, jax.random.key(0), gates=forced
            )
            return tally(out.logits, labels, valid)

        return jax.vmap(of)(gates)

    return count


def tally(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> tuple[jax.Array, ...]:
    """Right answers, sum of losses and number among the valid, each []."""
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
    right = logits.argmax(-1) == labels
    return tuple(jnp.where(valid, x, 0).sum() for x in (right, loss, jnp.ones_like(loss)))
