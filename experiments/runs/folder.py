"""A run's folder: what is in it, how it is written, how it is read back.

config.json       the config, the classes, the fingerprint of the data, the features' rates, what
                  the config file alone says, and which hooks it brings
config.py         the config file as it was, for its hooks; it runs only where that is asked for
frontend.npz      mel matrix and normalisation of the features or pixels, class weights
mined.npz         talk that is drawn more often: where the network started from may fire
teacher.json      hashes of the networks that teach it
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

import ast
import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.command.atomic import PARTIAL, json_text, new_files, sweep, write_json
from data_prep.command.reading import naming, read_bytes, read_json, read_npz
from experiments.config import Config, Hooks, features_of, from_json, load_config, to_json
from sanas_jax.data.features import Frontend
from sanas_jax.data.images import Pixels

RATES = ("sample_rate", "n_fft", "hop")
MOST_SAMPLES = 1_000_000  # of a frame, a second, or an image's side

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
      made_of: the config file's config, before anything was set; None where nobody wrote it down.
    """

    config: Config
    hooks: Hooks
    classes: tuple[str, ...]
    data_sha256: str
    frontend: Any
    class_weights: jnp.ndarray
    input_shape: tuple[int, ...] | None = None
    made_of: Config | None = None


def is_run(workdir: Path) -> bool:
    """Whether a run was started here. `config.json` is written last."""
    return (workdir / "config.json").is_file()


def check_new(workdir: Path) -> None:
    """ValueError unless a run may begin here."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir: expected a folder, got a file: {workdir}")
    others = workdir.is_dir() and any(
        entry.name != LOCK and not entry.name.endswith(PARTIAL) for entry in workdir.iterdir()
    )
    if others and not (workdir / "frontend.npz").is_file():
        raise ValueError(f"--workdir: expected a new or empty folder or a run, got {workdir}")


@contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Keep a folder, made if it is new, from other processes that would train in it.

    What one left in it that was killed while it wrote is swept.

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
        sweep(workdir)
        yield


def check_free(workdir: Path) -> None:
    """ValueError if a process holds the folder; nothing is written."""
    if (workdir / LOCK).is_file():
        with open(workdir / LOCK) as file:
            _lock(file, fcntl.LOCK_SH, workdir)


def create(workdir: Path, info: RunInfo, config_file: str | None) -> None:
    """Write a new run's description, with the config file if there is one to be kept."""
    check_new(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    description: dict[str, Any] = {
        "format": FORMAT,
        "config": to_json(info.config),
        "classes": list(info.classes),
        "data_sha256": info.data_sha256,
        "hooks": [name for name in Hooks._fields if getattr(info.hooks, name)],
    }
    if info.made_of is not None:
        description["config_file"] = to_json(info.made_of)
    if info.input_shape is None:
        description |= {name: getattr(info.frontend, name) for name in RATES}
    else:
        description["input_shape"] = list(info.input_shape)
    kept = [] if config_file is None else [workdir / "config.py"]
    # The first is what `check_new` knows a run by that was killed while this was written.
    outs = [workdir / "frontend.npz", *kept, workdir / "config.json"]
    with new_files(*outs) as new:
        for path in new[1:-1]:
            shutil.copyfile(str(config_file), path)
        with open(new[0], "wb") as file:
            np.savez(file, **_arrays(info.frontend), class_weights=info.class_weights)
        new[-1].write_text(json_text(description), encoding="utf-8")


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
    found = read_json(path, "a list of members")
    with naming(path, "a list of members"):
        members = found["members"]
        for name in members:
            # A member lies in the sweep's folder, wherever a file says that it does.
            if not isinstance(name, str) or Path(name).name != name or name == "..":
                raise ValueError(f"{name!r}, which is no name of a folder in this one")
        return list(members)


def expand_sweeps(workdirs: Iterable[Path]) -> list[Path]:
    """Folders of runs, each once: a sweep stands for its members."""
    folders: dict[Path, Path] = {}
    for workdir in workdirs:
        members = read_sweep(workdir)
        for folder in [workdir] if members is None else [workdir / m for m in members]:
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each of several folders: its own, and of those above it what tells it apart."""
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]

    def name(path: tuple[str, ...]) -> str:
        tails = (path[-length:] for length in range(1, len(path)))
        alone = (t for t in tails if sum(other[-len(t) :] == t for other in paths) == 1)
        return "/".join(next(alone, path))

    return list(map(name, paths))


def read(workdir: Path, *, trust: bool = False) -> RunInfo:
    """Read a run's description; ValueError if there is none, or one that cannot be.

    It is data: what config.py brings, a network or a cost of its own, raises a ValueError when it
    is used, unless `trust` lets it run.
    """
    if not is_run(workdir):
        raise ValueError(f"--workdir: expected a folder with a run (config.json), got {workdir}")
    path = workdir / "config.json"
    description = read_json(path, "the description of a run")
    _check_format(workdir, description)
    with naming(path, "the description of a run"):
        config = from_json(description["config"])
        made_of = description.get("config_file")
        classes, sha256 = description["classes"], description["data_sha256"]
        names = [*classes, sha256]
        if not all(isinstance(name, str) and name and name.isprintable() for name in names):
            raise ValueError("classes or a fingerprint that are no words")
        if len(set(classes)) < max(2, len(classes)):
            raise ValueError(f"classes {classes}, not two or more that differ")
        rates = {name: description[name] for name in RATES if name in description}
        shape = description.get("input_shape")
        for value in [*rates.values(), *(shape or ())]:
            if type(value) is not int or not 1 <= value <= MOST_SAMPLES:
                raise ValueError(f"{value!r} where a rate or a size stands")
        brings = description["hooks"] if "hooks" in description else _brought(workdir)
        if not all(name in Hooks._fields for name in brings):
            raise ValueError(f"hooks {brings}, none of {', '.join(Hooks._fields)}")
        made_of = None if made_of is None else from_json(made_of)
    arrays: dict[str, Any] = read_npz(workdir / "frontend.npz", "features and class weights")
    with naming(workdir / "frontend.npz", "features and class weights"):
        weights = _finite("class_weights", arrays.pop("class_weights"))
        if weights.shape != (len(classes),):
            raise ValueError(f"{weights.shape} weights of {len(classes)} classes")
        arrays = {name: _finite(name, array) for name, array in arrays.items()}
        frontend: Any
        if shape is None:
            frontend = Frontend.create(
                **arrays,
                **rates,
                padding=config.data.padding,
                **features_of(config.data),
            )
        else:
            if len(shape) != 3 or any(array.shape != tuple(shape[2:]) for array in arrays.values()):
                wrong = {name: array.shape for name, array in arrays.items()}
                raise ValueError(f"{wrong} for images {shape}")
            frontend = Pixels(**{name: jax.device_put(array) for name, array in arrays.items()})
    return RunInfo(
        config,
        _hooks(workdir, brings, trust),
        tuple(classes),
        sha256,
        frontend,
        jax.device_put(weights),
        None if shape is None else tuple(shape),
        made_of,
    )


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers in float32 that have a value."""
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"{name} with what is no finite number")
    return array.astype(np.float32)


def _brought(workdir: Path) -> list[str]:
    """The hooks that config.py defines, read but not run: runs of old do not say it elsewhere."""
    path = workdir / "config.py"
    if not path.is_file():
        return []
    names = set()
    with naming(path, "a config file"):
        for node in ast.walk(ast.parse(read_bytes(path))):
            names |= {getattr(node, key, None) for key in ("name", "id", "asname")}
    return [name for name in Hooks._fields if name in names]


def _hooks(workdir: Path, brings: Sequence[str], trust: bool) -> Hooks:
    """Of config.py if that may run; else what says, once it is called, that it may not."""
    if not brings:
        return Hooks()
    if trust:
        _, hooks = load_config(str(workdir / "config.py"))
        return hooks

    def refuse(name: str, *_: object) -> Any:
        raise ValueError(
            f"{workdir}: expected a network and a cost of the library's, got {name} in its "
            "config.py, which is code: --trust runs it, where you trust who wrote it"
        )

    return Hooks(**{name: partial(refuse, name) for name in brings})


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
