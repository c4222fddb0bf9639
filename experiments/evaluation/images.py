"""Models of images on a whole split: accuracy, and every cost of the architecture that was found.

Γ does not change from image to image, so a trained network is one architecture: the most probable.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.progress import counted
from experiments.config.build import in_units
from experiments.config.costs import named_cost
from experiments.datasets.images import ImageSource
from experiments.runs.stored_results import ImageResult, save_image_result
from experiments.runs.trained import TrainedModel, found_architecture, training_of
from sanas_jax.costs import charge

BATCH = 256


def evaluate_images(
    model: TrainedModel,
    split: str,
    data: str | None = None,
) -> list[ImageResult]:
    """A result per price: one, unless the controller is conditioned.

    Each is kept in the model's folder unless that is packed.

    Args:
      model: trained, on images.
      split: "training", "validation" or "testing".
      data: cache, in place of the one trained on.
    """
    info, params, workdir = model.info, model.params, model.workdir
    config, built = info.config, training_of(info)
    source = ImageSource(dataclasses.replace(config.data, cache=data or config.data.cache))
    if source.classes != info.classes or source.input_shape != info.input_shape:
        raise ValueError(
            f"--data: expected images {info.input_shape} of {len(info.classes)} classes as in "
            f"training, got {source.input_shape} of {len(source.classes)}"
        )
    batches = source.batches(split, info.frontend, BATCH)
    evaluate = jax.jit(built.evaluate())
    net, workers = model.sanas.net, config.train.workers
    names = dict.fromkeys(["macs", "params", *config.train.report_costs])
    costs = {name: named_cost(name, net, workers, net.input_shape[0]).cost for name in names}
    everything = jnp.ones(len(net.edges))
    full_costs = {name: float(charge(cost, everything)) for name, cost in costs.items()}
    results = []
    for price in model.prices:
        own_price = price if model.conditioned else None
        shown = counted(batches, "batch", workdir.name, keep=False)
        weight = jnp.float32(price)
        metrics = [jax.device_get(evaluate(params, b, weight)) for b in shown]
        confusion = np.sum([m["confusion"] for m in metrics], axis=0, dtype=np.int64)
        probability, live = found_architecture(model.sanas, params, config.model.static, own_price)
        cost = float(metrics[0]["cost"]) / built.charged.scale
        pixels = confusion.sum() > sum(int(b.mask.sum()) for b in batches)
        result = ImageResult(
            workdir=model.name,
            step=model.step,
            static=model.static,
            cost_weight=own_price,
            budget=config.train.budget and in_units(config.train.budget, built.charged),
            split=split,
            accuracy_pct=100 * float(np.trace(confusion) / confusion.sum()),
            charged=cost,
            full_charged=built.charged.full,
            unit=built.charged.unit,
            costs={name: float(charge(cost, jnp.asarray(live))) for name, cost in costs.items()},
            full_costs=full_costs,
            probability=dict(zip(net.index, probability.tolist(), strict=True)),
            live=[n for n, on in zip(net.index, live, strict=True) if on],
            mean_iou_pct=100 * mean_iou(np.asarray(confusion)) if pixels else None,
        )
        save_image_result(workdir, result)
        results.append(result)
    return results


def mean_iou(confusion: np.ndarray) -> float:
    """Mean over the classes that occur of intersection over union, from pixels [K, K]."""
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return float(np.mean(hits[union > 0] / union[union > 0]))


def image_summary(result: ImageResult) -> str:
    """The figures on a few lines."""
    share = result.costs["macs"] / result.full_costs["macs"]
    others = ", ".join(
        f"{name} {value:,.6g} of {result.full_costs[name]:,.6g}"
        for name, value in result.costs.items()
        if name != "macs"
    )
    iou = "" if result.mean_iou_pct is None else f", mean IoU {result.mean_iou_pct:.1f} %"
    return (
        f"{result.workdir} step {result.step}, {result.split}: "
        f"accuracy {result.accuracy_pct:.2f} %{iou}\n"
        f"  {result.costs['macs']:,.0f} MACs ({share:.1%} of the full network), {others}"
    )
