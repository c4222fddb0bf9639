"""What a training step reports: loss, accuracy, cost and usage by class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sanas_jax.costs import charge
from sanas_jax.rollout import Step
from sanas_jax.training.objective import Price
from sanas_jax.training.state import Batch
from sanas_jax.training.terms import masked_mean


def confusion(
    labels: jax.Array, predictions: jax.Array, mask: jax.Array, num_classes: int
) -> jax.Array:
    """Steps by label (rows) and prediction (columns), [K, K] int32, where `mask` is true.

    Steps whose label or prediction is out of range are not counted.
    """
    _check_same(labels=labels, predictions=predictions, mask=mask)
    _check_classes(num_classes)
    rows = _class_or_none(labels, mask, num_classes)
    columns = _class_or_none(predictions, mask, num_classes)
    empty = jnp.zeros((num_classes, num_classes), jnp.int32)
    return empty.at[rows, columns].add(1, mode="drop")


def frame_accuracy(labels: jax.Array, predictions: jax.Array, mask: jax.Array) -> jax.Array:
    """Part of the steps where `mask` is true that are predicted right, []; nan without any."""
    _check_same(labels=labels, predictions=predictions, mask=mask)
    kept = jnp.asarray(mask, bool)
    return jnp.sum(kept & (labels == predictions)) / jnp.sum(kept)


def _class_or_none(labels: jax.Array, mask: jax.Array, num_classes: int) -> jax.Array:
    """`labels`, and one class more for the steps left out and the labels out of range."""
    inside = jnp.asarray(mask, bool) & (labels >= 0) & (labels < num_classes)
    return jnp.where(inside, labels, num_classes)


def _check_same(**arrays: jax.Array) -> None:
    """ValueError unless all have one shape and labels and predictions are integers."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"expected arrays of one shape, got {shapes}")
    for name in ("labels", "predictions"):
        if name in arrays and not jnp.issubdtype(arrays[name].dtype, jnp.integer):
            raise ValueError(f"{name}: expected integers, got {arrays[name].dtype}")


def _check_classes(num_classes: int) -> None:
    """ValueError unless there is a class."""
    if num_classes < 1:
        raise ValueError(f"num_classes: expected 1 or more, got {num_classes}")


def step_metrics(price: Price, outs: Step, ce: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Means over the valid steps, and counts that add up over batches.

    confusion: [K, K] label × prediction, of steps or pixels; steps_by_label: [K]; live_by_label:
    [K, E] steps in which an edge was live. A step with many labelled pixels counts in shares.
    """
    num_classes = outs.logits.shape[-1]
    predictions = outs.logits.argmax(-1)
    axes = batch.mask.ndim
    positions = tuple(range(axes, batch.labels.ndim))
    labelled = jnp.expand_dims(batch.mask, positions) & (batch.labels >= 0)
    of_label = jax.nn.one_hot(batch.labels, num_classes) * labelled[..., None]
    of_label = of_label.sum(positions) / jnp.maximum(labelled.sum(positions), 1)[..., None]
    reported = {
        f"cost_{name}": masked_mean(charge(cost, outs.gates), batch.mask)
        for name, cost in price.reported
    }
    return reported | {
        "loss": masked_mean(ce, batch.mask),
        "frame_accuracy": frame_accuracy(batch.labels, predictions, labelled),
        "cost": masked_mean(charge(price.cost, outs.gates), batch.mask),
        "live_by_label": jnp.einsum("...e,...k->ke", outs.live, of_label),
        "steps_by_label": of_label.sum(tuple(range(axes))),
        "confusion": confusion(batch.labels, predictions, labelled, num_classes),
    }
