"""Checkpoints by orbax: the one file that knows its API.

A save is atomic: orbax writes into a temporary folder and renames it, so a run killed in the middle
leaves the previous checkpoint as the latest.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from data_prep.command.interrupts import held_back


class Checkpoints:
    """Numbered checkpoints of one pytree in a folder.

    To be closed, or used in a `with`: orbax begins threads, which else complain when Python ends.
    """

    def __init__(self, folder: Path, *, keep: int | None = None, writes: bool = True) -> None:
        """Open `folder`; with `keep`, only that many of the newest stay.

        Who does not write leaves temporary folders alone: a training may be about to save.
        """
        self._folder = folder
        policies = ocp.training.preservation_policies
        with _undisturbed():
            self._checkpointer = ocp.training.Checkpointer(
                folder.absolute(),
                preservation_policy=None if keep is None else policies.LatestN(keep),
                # A save that was killed leaves its temporary folder behind.
                cleanup_tmp_directories=writes,
            )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, tree: Any) -> None:
        """Write a checkpoint, replacing one of the same step, and wait until it is complete.

        Raises OSError where it cannot be written; the last one is as it was.
        """
        try:
            with _undisturbed():
                self._checkpointer.save(step, tree, overwrite=True)
        except Exception as error:  # orbax and tensorstore raise many kinds
            what = f"{self._folder / str(step)}: could not be written: {_cause(error)}"
            raise OSError(what) from error

    def restore(self, step: int, like: Any) -> Any:
        """Read a checkpoint into the structure, dtypes and devices of `like`.

        Raises ValueError for a checkpoint of something else, or a damaged one.
        """

        def read() -> Any:
            self._check(step, like)
            return self._checkpointer.load(step, like)

        return self._read(step, read)

    def restore_part(self, step: int, like: Any) -> Any:
        """Read what `like` names, nested dicts of arrays, and nothing else.

        So parameters can be read though what was saved beside them has another form by now.
        Raises ValueError as `restore` does.
        """
        context = ocp.Context()
        context.pytree.loading.partial_load = True

        def read() -> Any:
            self._check(step, like)
            with context:
                return self._checkpointer.load(step, like)

        return self._read(step, read)

    def delete(self, step: int) -> None:
        """Remove one checkpoint."""
        with _undisturbed():
            self._checkpointer.delete(step)

    def close(self) -> None:
        """Release the folder."""
        self._checkpointer.close()

    def _check(self, step: int, like: Any) -> None:
        """ValueError unless all arrays of `like` were saved, with their shapes.

        Orbax reads all arrays at once: it would raise for the first that does not fit and close its
        event loop, and those still on their way would complain of that on stderr afterwards.
        """
        _check_part(self._checkpointer.metadata(step).metadata, like)

    def _read(self, step: int, read: Callable[[], Any]) -> Any:
        try:
            with _undisturbed():
                return read()
        except Exception as error:  # orbax raises many kinds, with all arrays in their text
            raise ValueError(
                f"{self._folder / str(step)}: expected a checkpoint of this network and version, "
                f"could not read it: {_cause(error)}"
            ) from None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep orbax from logging what it raises, and interrupts from it until it is done.

    Each of its threads logs an error, in 700 lines, and takes an interrupt for one.
    """
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with held_back():
            yield
    finally:
        logger.setLevel(before)


def _cause(error: Exception) -> str:
    """What orbax met, without the arrays that it prints after the first line."""
    return (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:200]


def _check_part(saved: Any, like: Any) -> None:
    """ValueError unless all arrays of `like` were saved, with their shapes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(like)
    for path, leaf in leaves:
        found = saved
        for key in path:
            found = _child(found, key)
        if getattr(found, "shape", None) != np.shape(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"it has no {name} of shape {np.shape(leaf)}")


def _child(saved: Any, key: Any) -> Any:
    """What was saved under a key of a path; None for nothing. Named tuples are saved as dicts."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return saved[key.idx] if isinstance(saved, list | tuple) and key.idx < len(saved) else None
    name = key.name if isinstance(key, jax.tree_util.GetAttrKey) else key.key
    return saved.get(name) if isinstance(saved, dict) else None
