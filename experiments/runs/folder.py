"""A run's folder: what is in it, how it is written, how it is read back.

config.json       the config, the classes, the fingerprint of the data, the features' rates
config.py         the config file as it was, for its hooks
frontend.npz      mel matrix and normalisation of the features or pixels, class weights
checkpoints/      latest training states
front/            parameters on the validation cost/accuracy front
metrics.jsonl     one JSON object per line: training and validation
events.*          the same for TensorBoard
evaluations/      streams that `evaluate` ran, as in stored_results.py
detector.json     detectors that `calibrate` chose, the streams and the limit they were chosen on
lock              held by the process that trains here, which it names

A sweep's folder holds sweep.json, the names of its members, and a folder like this for each.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.atomic import write_json
from experiments.config import Config, Hooks, from_json, is_cepstral, load_config, to_json
from sanas_jax.data.features import Frontend
from sanas_jax.data.images import Pixels

RATES = ("sample_rate", "n_fft", "hop")

LOCK = "lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
# One that only looks whether a folder is held is in the way for a moment.
_LOOKS, _LOOK_SECONDS = 5, 0.1

# Of config.json and what lies beside it. Version 0.1 wrote no number, and what 1 is.
FORMAT = 1


class RunInfo(NamedTuple):
    """What `config.json` and `frontend.npz` hold.

    Fields:
      config: as launched.
      hooks: of the config file.
      classes: names, `_silence_` and `_unknown_` first.
      data_sha256: fingerprint of the clips trained on.
      frontend: features of a signal, or normalisation of pixels.
      class_weights: [K].
      input_shape: of an image; None for audio.
    """

    config: Config
    hooks: Hooks
    classes: tuple[str, ...]
    data_sha256: str
    frontend: Any
    class_weights: jnp.ndarray
    input_shape: tuple[int, ...] | None = None


def is_run(workdir: Path) -> bool:
    """Whether a run was started here. `config.json` is written last."""
    return (workdir / "config.json").is_file()


def check_new(workdir: Path) -> None:
    """ValueError unless a run may begin here."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir: expected a folder, got a file: {workdir}")
    others = workdir.is_dir() and any(entry.name != LOCK for entry in workdir.iterdir())
    if others and not (workdir / "frontend.npz").is_file():
        raise ValueError(f"--workdir: expected a new or empty folder or a run, got {workdir}")


@contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Keep a folder, made if it is new, from other processes that would train in it.

    The system frees it when its holder ends, however that ends. A file system without locks keeps
    nobody out.

    Raises:
      ValueError if another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / LOCK, "a+") as file:
        _lock(file, fcntl.LOCK_EX, workdir)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def check_free(workdir: Path) -> None:
    """ValueError if a process holds the folder; nothing is written."""
    if (workdir / LOCK).is_file():
        with open(workdir / LOCK) as file:
            _lock(file, fcntl.LOCK_SH, workdir)


def create(workdir: Path, info: RunInfo, config_file: str) -> None:
    """Write a new run's description."""
    check_new(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config_file, workdir / "config.py")
    with open(workdir / "frontend.npz.tmp", "wb") as file:
        np.savez(file, **_arrays(info.frontend), class_weights=info.class_weights)
    os.replace(workdir / "frontend.npz.tmp", workdir / "frontend.npz")
    description: dict[str, Any] = {
        "format": FORMAT,
        "config": to_json(info.config),
        "classes": list(info.classes),
        "data_sha256": info.data_sha256,
    }
    if info.input_shape is None:
        description |= {name: getattr(info.frontend, name) for name in RATES}
    else:
        description["input_shape"] = list(info.input_shape)
    write_json(workdir / "config.json", description)


def _check_format(workdir: Path, description: dict[str, Any]) -> None:
    """ValueError for a folder that a later version wrote."""
    found = description.get("format", FORMAT)
    if found != FORMAT:
        raise ValueError(
            f"{workdir / 'config.json'}: expected format {FORMAT}, got {found!r}: "
            "another version of sanas_jax wrote it"
        )


def write_sweep(workdir: Path, members: Sequence[str]) -> None:
    """Say that a folder holds a sweep: names of its members' folders."""
    write_json(workdir / "sweep.json", {"members": list(members)})


def read_sweep(workdir: Path) -> list[str] | None:
    """Names of a sweep's members; None where there is no sweep."""
    path = workdir / "sweep.json"
    if not path.is_file():
        return None
    try:
        return [str(name) for name in json.loads(path.read_text())["members"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected a list of members, got {error!r}") from error


def expand_sweeps(workdirs: Iterable[Path]) -> list[Path]:
    """Folders of runs, each once: a sweep stands for its members."""
    folders: dict[Path, None] = {}
    for workdir in workdirs:
        members = read_sweep(workdir)
        folders |= dict.fromkeys([workdir] if members is None else [workdir / m for m in members])
    return list(folders)


def read(workdir: Path) -> RunInfo:
    """Read a run's description; ValueError if there is none."""
    if not is_run(workdir):
        raise ValueError(f"--workdir: expected a folder with a run (config.json), got {workdir}")
    try:
        description = json.loads((workdir / "config.json").read_text())
        _check_format(workdir, description)
        config = from_json(description["config"])
        _, hooks = load_config(str(workdir / "config.py"))
        with np.load(workdir / "frontend.npz") as file:
            arrays = dict(file)
        weights = jax.device_put(arrays.pop("class_weights"))
        shape = description.get("input_shape")
        frontend: Any
        if shape is None:
            rates = {name: description[name] for name in RATES}
            frontend = Frontend.create(
                **arrays,
                **rates,
                padding=config.data.padding,
                cepstral=is_cepstral(config.data),
            )
        else:
            frontend = Pixels(**{name: jax.device_put(array) for name, array in arrays.items()})
    except (KeyError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{workdir}: expected a complete run, got a damaged one: {error}"
        ) from error
    classes = tuple(description["classes"])
    shape = None if shape is None else tuple(shape)
    return RunInfo(config, hooks, classes, description["data_sha256"], frontend, weights, shape)


def _lock(file: IO[str], how: int, workdir: Path) -> None:
    """Lock an open file until it is closed; ValueError if another process has done so."""
    for look in range(_LOOKS):
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if look < _LOOKS - 1:
                time.sleep(_LOOK_SECONDS)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise
    file.seek(0)
    raise ValueError(
        f"--workdir: expected a folder that no other process trains in, got {workdir}, held by "
        f"{file.read().strip() or 'another process'}"
    )


def _arrays(frontend: Any) -> dict[str, Any]:
    """The arrays of a frontend by name."""
    names = ("mel", "mean", "std") if isinstance(frontend, Frontend) else ("mean", "std")
    return {name: getattr(frontend, name) for name in names}
