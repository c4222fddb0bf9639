"""What the live page is made of: its files, its colours, and the description of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.config.model import macs_per_step
from experiments.figures.layouts import make_layout
from experiments.figures.style import css_colors
from experiments.live.engine import Engine
from experiments.runs.trained import TrainedModel, calibration
from sanas_jax.data.clips import FIRST_WORD

FOLDER = Path(__file__).parent / "browser"
# What is served, and as what: the system's own table of types may be anything.
TYPES = {
    "index.html": "text/html",
    "icon.svg": "image/svg+xml",
    "style.css": "text/css",
    "page.js": "text/javascript",
    "plots.js": "text/javascript",
    "network.js": "text/javascript",
    "microphone.js": "text/javascript",
}


def read_files() -> dict[str, bytes]:
    """Name → content, the colours of the project's drawings included."""
    files = {name: (FOLDER / name).read_bytes() for name in TYPES}
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {css_colors(1)} }} }}"
    colors = f":root {{ {css_colors(0)} }}\n{dark}\n"
    files["style.css"] = colors.encode() + files["style.css"]
    return files


def describe(engine: Engine) -> dict[str, Any]:
    """What a page needs to know of the model, as JSON."""
    model = engine.model
    core, frontend = model.sanas, model.info.frontend
    window = core.window - frontend.overlap
    macs, controller = macs_per_step(core, model.info.config.model.static)
    return {
        "model": model.workdir.name,
        "words": list(model.info.classes[FIRST_WORD:]),
        "frame_ms": 1000 * frontend.hop / frontend.sample_rate,
        "step_ms": 1000 * engine.step_samples / frontend.sample_rate,
        "window_ms": 1000 * (window - 1) * frontend.hop / frontend.sample_rate,
        "bands": int(frontend.mel.shape[0]),
        "full_macs": sum(macs.values()),
        "controller_macs": controller,
        "network": _network(model, macs),
        "price": _price(engine),
    }


def _network(model: TrainedModel, macs: dict[str, int]) -> dict[str, Any]:
    """Where layers stand, in columns and rows, and the lines and Bézier curves of the edges."""
    net = model.sanas.net
    layout = make_layout(net)
    (left, low), (right, high) = layout.extent
    edges = [
        {
            "name": edge.name,
            "macs": macs[edge.name],
            "gated": edge.gated,
            "path": np.asarray(layout.paths[edge.name].vertices).tolist(),
        }
        for edge in net.edges
    ]
    layers = [{"name": name, "at": list(place)} for name, place in layout.places.items()]
    return {"extent": [left, low, right, high], "layers": layers, "edges": edges}


def _price(engine: Engine) -> dict[str, Any] | None:
    """The range of λ that a conditioned network learnt, and what it spent at some of them."""
    if engine.price is None:
        return None
    low, high = engine.model.info.config.train.cost_weight_range
    try:
        table = calibration(engine.model.workdir)
    except ValueError:  # it was never validated: the slider says λ alone
        table = []
    spent = [[row["cost_weight"], row["macs_per_frame"]] for row in table]
    return {"low": low, "high": high, "value": engine.price, "spent": spent}
