"""Packed models: trained networks that travel without the run they come from.

A packed model is a folder that begins as a run's does (config.json and frontend.npz, see `folder`;
config.py only where a network or a cost is code), and holds in place of checkpoints

    params.npz       float32 arrays by path, such as `net/conv_0/kernel`, and `step`
    metrics.jsonl    of a conditioned network: what it spends at which price
    detector.json    thresholds, where they were calibrated
    README.md        what it is, how it was made, what it reaches

`experiments.pack` writes one. Those in `pretrained_models` are part of the package, and wherever a
run's folder is read, `pretrained:NAME` stands for one of them.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_prep.command.reading import naming, read_npz
from sanas_jax.rollout import Sanas, abstract_model

SHIPPED = Path(__file__).parents[1] / "pretrained_models"
PREFIX = "pretrained:"
PARAMS = "params.npz"
# Models of an earlier version, which go with the next one, and what takes their place.
OLD = {"kws_modern": "kws", "kws_noise": "kws"}


def resolve(reference: str | Path) -> Path:
    """Folder of a run or a packed model: a path, or `pretrained:NAME` for one of the package.

    Raises ValueError for a name that the package does not have; a path is not looked at.
    """
    text = str(reference)
    if not text.startswith(PREFIX):
        return Path(reference)
    name = text.removeprefix(PREFIX)
    if name not in names():
        raise ValueError(
            f"pretrained model: expected one of {', '.join(names()) or 'none so far'}; got {name!r}"
        )
    if name in OLD:
        _say_old(name)
    return SHIPPED / name


@lru_cache
def _say_old(name: str) -> None:
    """Once a process."""
    print(
        f"{PREFIX}{name} goes with the next version: {PREFIX}{OLD[name]} hears more and is quieter",
        file=sys.stderr,
    )


def names() -> list[str]:
    """The models that the package ships."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{PARAMS}"))


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a packed model, to be read only; a run's folder is none."""
    return (folder / PARAMS).is_file()


def write_params(folder: Path, step: int, params: Any) -> None:
    """Write params.npz; the folder appears as a whole, so the file need not."""
    np.savez_compressed(folder / PARAMS, step=np.int64(step), **_flat(params))


def read_params(folder: Path, model: Sanas, static: bool) -> tuple[int, dict[str, Any]]:
    """Training step and parameters, as `rollout.init_model` lays them out.

    Args:
      folder: of a packed model.
      model: what the parameters must fit.
      static: nothing asks the controller; it is not in the file and comes as zeros.
    """
    every = abstract_model(model)
    expected = stored_parts(every, static)
    arrays = read_npz(folder / PARAMS, "packed parameters")
    with naming(folder / PARAMS, "packed parameters"):
        step = int(arrays.pop("step"))
        for name, array in arrays.items():
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name} with what is no finite number")
    shapes = {name: leaf.shape for name, leaf in _by_path(expected).items()}
    found = {name: array.shape for name, array in arrays.items()}
    wrong = sorted(name for name in shapes | found if shapes.get(name) != found.get(name))
    if wrong:
        raise ValueError(
            f"{folder / PARAMS}: expected the parameters of its network, got another "
            f"{wrong[0]}: {found.get(wrong[0], 'none')} in place of {shapes.get(wrong[0], 'none')}"
        )
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: arrays[_name(path)].astype(np.float32), expected
    )
    unasked = {name: every[name] for name in every if name not in params}
    return step, params | jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), unasked)


def stored_parts(params: dict[str, Any], static: bool) -> dict[str, Any]:
    """The parts of a model's parameters that were trained: a static one's controller was not."""
    return {part: params[part] for part in params if not (static and part == "controller")}


def _flat(params: Any) -> dict[str, Any]:
    """Arrays by path."""
    return {name: np.asarray(leaf, np.float32) for name, leaf in _by_path(params).items()}


def _by_path(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
