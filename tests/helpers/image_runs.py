"""Folders of runs on images as `launch` and `evaluate` leave them, without training anything."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.config import Config, Hooks, ModelConfig, TrainConfig
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.trained import training_of
from sanas_jax.costs import edge_macs
from sanas_jax.data.images import Pixels
from sanas_jax.graph import Net, prune
from tests.helpers.runs import write_lines

CLASSES = tuple(map(str, range(10)))
STEPS = (50, 100, 150)
CONFIG_FILE = """
from experiments.config import Config, ModelConfig, TrainConfig


def get_config():
    model = ModelConfig(family="fabric", depth=2, maps=(2,), cell="constant")
    return Config(model=model, train=TrainConfig(steps=200))
"""


def write_image_run(
    folder: Path,
    *,
    static: bool = False,
    edges: tuple[str, ...] | None = None,
    budget: float | None = None,
    conditioned: bool = False,
    **train: Any,
) -> Net:
    """A fabric of 2 layers × 3 scales that trained to step 150 of 200; returns it."""
    model = ModelConfig(
        family="fabric",
        depth=2,
        maps=(2,),
        cell="gru" if conditioned else "constant",
        static=static,
        edges=edges,
        conditioned=conditioned,
    )
    train = {"steps": 200, "report_costs": ("params", "parallel"), "budget": budget} | train
    config = Config("<made> by a test", model, train=TrainConfig(**train))
    pixels = Pixels(mean=jnp.zeros(1), std=jnp.ones(1))
    info = RunInfo(config, Hooks(), CLASSES, "cd" * 32, pixels, jnp.ones(10), (4, 4, 1))
    config_file = folder.parent / "made_images.py"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(CONFIG_FILE)
    run_folder.create(folder, info, str(config_file))
    net = training_of(info).model.net
    write_lines(folder, image_lines(net, STEPS))
    return net


def image_lines(net: Net, steps: Any) -> list[dict[str, Any]]:
    """Lines as the train loop writes them: cost, usage and loss fall with the step."""
    full = sum(edge_macs(net).values())
    lines = []
    for step in steps:
        share = 1 - step / 400
        line = {
            "step": step,
            "loss": 2 * share,
            "frame_accuracy": 0.5 + step / 500,
            "cost_weight": 0.25,
            "cost_params": 1000 * share,
            "cost_parallel": 10 * share,
            "charged": full * share,
            "macs_per_frame": full * share,
            "gate_usage": dict.fromkeys(net.index, share),
        }
        lines += [line | {"split": split} for split in ("training", "validation")]
    return lines


def write_tested(folder: Path, **changes: Any) -> dict[str, Any]:
    """A result of `evaluate`: all edges are on but those at the layer 1_0."""
    built = training_of(run_folder.read(folder))
    net = built.model.net
    probability = np.array([0.1 if "1_0" in edge.name else 0.9 for edge in net.edges])
    probability[[not edge.gated for edge in net.edges]] = 1
    live = np.asarray(prune(net, (probability > 0.5).astype(np.float32)))
    result = {
        "workdir": folder.name,
        "step": 150,
        "static": False,
        "cost_weight": None,
        "budget": None,
        "split": "testing",
        "accuracy_pct": 97.25,
        "charged": 4000.0,
        "full_charged": built.charged.full,
        "unit": built.charged.unit,
        "costs": {"macs": 4000.0, "params": 300.0, "parallel": 5.0},
        "full_costs": {"macs": built.charged.full, "params": 1200.0, "parallel": 9.0},
        "probability": dict(zip(net.index, probability.tolist(), strict=True)),
        "live": [name for name, on in zip(net.index, live, strict=True) if on],
    } | changes
    price = result["cost_weight"]
    name = result["split"] + ("" if price is None else f"@{price:.4g}")
    (folder / "evaluations").mkdir(exist_ok=True)
    (folder / "evaluations" / f"{name}.json").write_text(json.dumps(result))
    return result
