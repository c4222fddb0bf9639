"""Small exports, made by hand, and the examples that read them, for `fuzz`."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
from jax import export

from examples.jax_listen import load
from tests.helpers.fuzz import Reader
from tests.helpers.places import ROOT

HAS_ONNX = importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime")
ABOUT = {
    "classes": ["_silence_", "_unknown_", "yes"],
    "first_word": 2,
    "sample_rate": 16000,
    "padding": "constant",
    **{"pad_samples": 8, "begin_samples": 24, "begin_advance": 16},
    **{"step_samples": 32, "step_advance": 16},
    "detector": {
        **{"window_ms": 500.0, "threshold": 0.5, "suppression_ms": 1500.0},
        **{"min_count": 3, "silence_label": 0, "thresholds": [], "unknown_label": 1},
        **{"talk_threshold": 0.8, "talk_share": 0.2, "talk_ms": 4000.0},
    },
    "formats": {"jax": {"log_price": None}},
}


def _folder(folder: Path, form: str, memory: dict[str, np.ndarray]) -> Path:
    """What both forms have."""
    (folder / form).mkdir()
    (folder / "description.json").write_text(json.dumps(ABOUT, indent=1))
    np.savez(folder / form / "memory.npz", **memory)
    return folder / form


def _jax(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        memory = {"tape": np.zeros(24, np.float32)}
        inside = _folder(folder, "jax", memory)
        for own, function, size in (
            ("begin", lambda m, x: {"tape": m["tape"] + x}, 24),
            ("step", lambda m, x: (m, jnp.tanh(x[:3]), m["tape"][:2], x[:2]), 32),
        ):
            made = export.export(jax.jit(function))(memory, np.zeros(size, np.float32))
            (inside / f"{own}.bin").write_bytes(made.serialize())
        return folder / name

    return make


def _onnx(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import onnx
        from onnx import TensorProto, helper

        def of(*sizes: tuple[str, int]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [k]) for n, k in sizes]

        inside = _folder(folder, "onnx", {"frames": np.zeros(24, np.float32)})
        graphs = {
            "begin": (
                [helper.make_node("Add", ["samples", "frames"], ["next_frames"])],
                of(("samples", 24), ("frames", 24)),
                of(("next_frames", 24)),
                [],
            ),
            "step": (
                [
                    helper.make_node("MatMul", ["samples", "weights"], ["posterior"]),
                    helper.make_node("Tanh", ["frames"], ["next_frames"]),
                ],
                of(("samples", 32), ("frames", 24)),
                of(("posterior", 3), ("next_frames", 24)),
                [helper.make_tensor("weights", TensorProto.FLOAT, [32, 3], np.ones(96))],
            ),
        }
        for own, (nodes, inputs, outputs, weights) in graphs.items():
            graph = helper.make_graph(nodes, own, inputs, outputs, weights)
            opset = [helper.make_opsetid("", 18)]
            model = helper.make_model(graph, opset_imports=opset, ir_version=9)
            onnx.save(model, str(inside / f"{own}.onnx"))
        soundfile.write(folder / "a.wav", 0.1 * np.sin(np.arange(2000) / 9), 16_000)
        return folder / name

    return make


def _listen(folder: Path) -> None:
    """The ONNX example, which ends with a line where it cannot go on."""
    said = io.StringIO()
    argv = ["onnx_listen.py", str(folder), str(folder / "a.wav")]
    with (
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        np.errstate(all="ignore"),
    ):
        try:
            runpy.run_path(str(ROOT / "examples" / "onnx_listen.py"), run_name="__main__")
        except SystemExit as end:
            raise ValueError(str(end.code)) from None


EXPORTS: dict[str, Reader] = {
    "export, jax": Reader(_jax("jax/step.bin"), load),
    "export, memory": Reader(_jax("jax/memory.npz"), load),
    "export, words": Reader(_jax("description.json"), load),
}
if HAS_ONNX:
    EXPORTS |= {
        "onnx": Reader(_onnx("onnx/step.onnx"), _listen),
        "onnx, begin": Reader(_onnx("onnx/begin.onnx"), _listen),
        "onnx, memory": Reader(_onnx("onnx/memory.npz"), _listen),
        "onnx, words": Reader(_onnx("description.json"), _listen),
    }
