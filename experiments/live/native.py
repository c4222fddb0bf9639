"""A trained model as one C file, compiled here and found again by what it follows from."""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path

import flax
import jax
import numpy as np

import sanas_jax
from experiments.config import schema
from experiments.machine.compiler import compiled
from experiments.machine.jax_setup import kept_programs
from experiments.runs.trained import TrainedModel
from sanas_jax.export.c.library import Library
from sanas_jax.export.c.source import c_source
from sanas_jax.streaming.detector import Detector

NAME = "network"


def native_runtime(model: TrainedModel) -> Library:
    """The model as one C file, compiled now or by an earlier process (`machine.compiler`).

    Raises NoCompilerError, or ValueError for a network without a form in C.
    """
    kept = kept_programs()
    folder = None if kept is None else kept / "native"
    path = compiled(partial(source_of, model), folder, follows_from(model))
    return library_of(model, path)


def source_of(
    model: TrainedModel,
    detector: Detector | None = None,
    name: str = NAME,
    weights: str = "float32",
) -> str:
    """The file; arguments as of `c_source`. A session has a detector of its own and needs none."""
    info = model.info
    return c_source(
        name,
        model.sanas,
        model.params,
        info.frontend,
        info.classes,
        Detector() if detector is None else detector,
        static=model.static,
        weights=weights,
    )


def library_of(model: TrainedModel, path: Path) -> Library:
    """The compiled file of `source_of`, with its default name, as an engine."""
    return Library(str(path), NAME, model.sanas, model.info.frontend)


def follows_from(model: TrainedModel) -> str:
    """A hash of all that a model's C file is written from: to write it takes half a second.

    These are what was trained, the features, the config, and the code that makes a network of it
    and C of that. "" for a network that is code of the run's own, which may depend on anything.
    """
    info = model.info
    if info.hooks.build_net is not None:
        return ""
    found = hashlib.sha256(_code())
    leaves, structure = jax.tree.flatten((model.params, info.frontend))
    found.update(repr((structure, info.config.model, info.classes)).encode())
    for leaf in leaves:
        array = np.asarray(leaf)
        found.update(repr((array.shape, array.dtype)).encode() + array.tobytes())
    return found.hexdigest()


@cache
def _code() -> bytes:
    """A hash of the code, and of the versions of what it stands on."""
    found = hashlib.sha256(repr((jax.__version__, flax.__version__, np.__version__)).encode())
    for module in (sanas_jax, schema):
        folder = Path(str(module.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.digest()
